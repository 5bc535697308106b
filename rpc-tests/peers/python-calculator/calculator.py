#!/usr/bin/env python3
"""The calculator of schema/calculator.capnp on pycapnp.

    calculator.py serve ADDR    serves one, and prints "ready ADDR"
    calculator.py call ADDR     asks one for what the Rust example asks for, and
                                prints the same lines

ADDR is host:port or unix:/path.
"""

import asyncio
import math
import operator
import os
import pathlib
import sys

import capnp

SCHEMA = pathlib.Path(__file__).resolve().parents[3] / "schema" / "calculator.capnp"
Calculator = capnp.load(str(SCHEMA)).Calculator


# ---- Server


async def evaluate(expression, arguments=()):
    """Works an expression out, asking whoever has the values and functions in it."""
    match expression.which():
        case "literal":
            return expression.literal
        case "previousResult":
            return (await expression.previousResult.read()).value
        case "parameter":
            return arguments[expression.parameter]
        case "call":
            call = expression.call
            operands = [await evaluate(operand, arguments) for operand in call.params]
            return (await call.function.call(operands)).value


class Value(Calculator.Value.Server):
    def __init__(self, number):
        self.number = number

    async def read(self, _context):
        return self.number


class DefinedFunction(Calculator.Function.Server):
    def __init__(self, param_count, body):
        self.param_count = param_count
        self.body = body.as_builder()

    async def call(self, params, _context):
        if len(params) != self.param_count:
            raise ValueError("wrong number of arguments")
        return await evaluate(self.body, list(params))


class OperatorFunction(Calculator.Function.Server):
    FUNCTIONS = {
        "add": operator.add,
        "subtract": operator.sub,
        "multiply": operator.mul,
        "divide": operator.truediv,
    }

    def __init__(self, op):
        self.function = self.FUNCTIONS[str(op)]

    async def call(self, params, _context):
        return self.function(*params)


class CalculatorObject(Calculator.Server):
    async def evaluate(self, expression, _context):
        return Value(await evaluate(expression))

    async def defFunction(self, paramCount, body, _context):
        return DefinedFunction(paramCount, body)

    async def getOperator(self, op, _context):
        return OperatorFunction(op)


async def serve_connection(stream):
    await capnp.TwoPartyServer(stream, bootstrap=CalculatorObject()).on_disconnect()


async def serve(address):
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if os.path.exists(path):
            os.unlink(path)
        server = await capnp.AsyncIoStream.create_unix_server(serve_connection, path)
        actual = address
    else:
        host, port = address.rsplit(":", 1)
        server = await capnp.AsyncIoStream.create_server(serve_connection, host, int(port))
        actual = f"{host}:{server.sockets[0].getsockname()[1]}"
    print(f"ready {actual}", flush=True)
    async with server:
        await server.serve_forever()


# ---- Client


class SquareRoot(Calculator.Function.Server):
    calls = 0

    async def call(self, params, _context):
        self.calls += 1
        (operand,) = params
        return math.sqrt(operand)


def write(out, formula):
    """Puts an expression, written as nested tuples, into a message."""
    match formula:
        case ("value", value):
            out.previousResult = value
        case ("parameter", index):
            out.parameter = index
        case (function, *operands):
            call = out.init("call")
            call.function = function
            params = call.init("params", len(operands))
            for param, operand in zip(params, operands):
                write(param, operand)
        case number:
            out.literal = number


async def connect(address):
    if address.startswith("unix:"):
        return await capnp.AsyncIoStream.create_unix_connection(address.removeprefix("unix:"))
    host, port = address.rsplit(":", 1)
    return await capnp.AsyncIoStream.create_connection(host, int(port))


async def call(address):
    client = capnp.TwoPartyClient(await connect(address))
    calculator = client.bootstrap().cast_as(Calculator)

    def evaluated(formula):
        request = calculator.evaluate_request()
        write(request.expression, formula)
        return request.send().value

    async def read(value):
        return f"{(await value.read()).value:g}"

    def defined(params, body):
        request = calculator.defFunction_request()
        request.paramCount = params
        write(request.body, body)
        return request.send().func

    print("a number:", await read(evaluated(7)))

    names = ("add", "subtract", "multiply", "divide")
    add, subtract, multiply, divide = (calculator.getOperator(name).func for name in names)
    formula = (add, (multiply, 2, 3), 4)
    print("2 * 3 + 4 in one expression:", await read(evaluated(formula)))

    ten = evaluated(formula)
    six = evaluated((subtract, ("value", ten), 4))
    two = evaluated((divide, ("value", six), 3))
    print("(that - 4) / 3, pipelined:", await read(two))

    x, y = ("parameter", 0), ("parameter", 1)
    f = defined(2, (add, (multiply, x, x), (multiply, y, y)))
    print("f(3, 4), defined there:", await read(evaluated((f, 3, 4))))
    g = defined(1, (subtract, (f, x, 2), 1))
    print("g(5), which calls f:", await read(evaluated((g, 5))))

    root = SquareRoot()
    root_client = Calculator.Function._new_client(root)
    hypotenuse = evaluated((root_client, (f, 3, 4)))
    print("the square root of f(3, 4), worked out here:", await read(hypotenuse))
    print("calls back:", root.calls)

    try:
        kind = await read(evaluated((add, 1)))
    except capnp.KjException as error:
        kind = error.type.lower()
    print("add with one argument:", kind)


def main():
    match sys.argv[1:]:
        case ["serve", address]:
            asyncio.run(capnp.run(serve(address)))
        case ["call", address]:
            asyncio.run(capnp.run(call(address)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
