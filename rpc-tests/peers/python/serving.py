"""The server: objects of the conformance interfaces, and a bootstrap object per
connection that is all of them.

pycapnp finds a method by its name alone, so the methods of each interface are a
class that both the object of that interface and the bootstrap object inherit.
"""

import asyncio
import collections
import functools
import os
import sys

import capnp

from schemas import control, interface_id, is_full_message, test, values

NAME = f"pycapnp {capnp.__version__}"

AS_FAILED = "every failure of a Python method is sent as failed, with a traceback as its reason"
LIMITS = {
    "unimplemented-type": AS_FAILED,
    "throw-exception": AS_FAILED,
    "throw-remote-exception": AS_FAILED,
    "pipeline-only": "pycapnp does not offer setPipeline",
    "caller-id": "a Python object is of one interface, and TestAll is not this one",
    "membrane-at-server": "pycapnp has no membranes",
    "file-descriptors": "pycapnp does not pass file descriptors",
    "tables-at-rest": "the implementation does not tell the sizes of its tables",
}


class State:
    """What a server keeps about one connection, shared by its objects."""

    handles_of_server = 0

    def __init__(self):
        self.calls = collections.Counter()
        self.cancellations = 0
        self.sequence = 0
        self.handles = 0

    async def until_canceled(self):
        """For a method that ends only by being canceled."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancellations += 1


def counted(interface):
    """Counts the calls of a method for the interface that declares it."""

    def decorate(method):
        @functools.wraps(method)
        async def counting(self, *arguments, **keywords):
            self.state.calls[interface_id(interface)] += 1
            return await method(self, *arguments, **keywords)

        return counting

    return decorate


async def call_foo(cap):
    """Calls foo as most methods that are given a TestInterface do, and insists on
    the right answer."""
    response = await cap.foo(i=123, j=True)
    if response.x != "foo":
        raise ValueError(f"foo returned {response.x!r}")


class Stateful:
    def __init__(self, state):
        self.state = state


class InterfaceMethods:
    @counted(test.TestInterface)
    async def bar(self, _context):
        raise NotImplementedError("bar")

    @counted(test.TestInterface)
    async def baz(self, s, _context):
        if not is_full_message(s):
            raise ValueError("this is not the full message")


class InterfaceObject(Stateful, InterfaceMethods, test.TestInterface.Server):
    @counted(test.TestInterface)
    async def foo(self, i, j, _context):
        if (i, j) != (123, True):
            raise ValueError("foo takes 123 and true")
        return "foo"


class ExtendsMethods(InterfaceMethods):
    @counted(test.TestExtends)
    async def grault_context(self, context):
        source = values.fullMessage
        for field in source.schema.fieldnames:
            if source._has(field):
                setattr(context.results, field, getattr(source, field))


class ExtendsObject(Stateful, ExtendsMethods, test.TestExtends2.Server):
    @counted(test.TestInterface)
    async def foo(self, i, j, _context):
        if (i, j) != (321, False):
            raise ValueError("foo of TestExtends takes 321 and false")
        return "bar"


def new_extends(state):
    return test.TestExtends._new_client(ExtendsObject(state))


class PipelineMethods:
    @counted(test.TestPipeline)
    async def getCap(self, n, inCap, _context):
        if n != 234:
            raise ValueError("getCap takes 234")
        await call_foo(inCap)
        _context.results.s = "bar"
        _context.results.outBox.cap = new_extends(self.state).upcast(test.TestInterface)

    @counted(test.TestPipeline)
    async def getAnyCap(self, n, inCap, _context):
        if n != 234:
            raise ValueError("getAnyCap takes 234")
        await call_foo(inCap.as_interface(test.TestInterface))
        _context.results.s = "bar"
        _context.results.outBox.cap = new_extends(self.state)

    @counted(test.TestPipeline)
    async def testPointers_context(self, context):
        params = context.params
        caps = list(params.list)
        if params._has("cap"):
            caps.append(params.cap)
        if params._has("obj"):
            caps.append(params.obj.as_interface(test.TestInterface))
        await asyncio.gather(*(self._call_unless_null(cap) for cap in caps))

    @staticmethod
    async def _call_unless_null(cap):
        try:
            await call_foo(cap)
        except capnp.KjException as error:
            # The only way in which pycapnp tells a null of a list.
            if "null capability" not in error.description:
                raise


class PipelineObject(Stateful, PipelineMethods, test.TestPipeline.Server):
    pass


class CallOrderObject(Stateful, test.TestCallOrder.Server):
    def __init__(self, state):
        super().__init__(state)
        self.next = 0

    @counted(test.TestCallOrder)
    async def getCallSequence(self, expected, _context):
        self.next += 1
        return self.next - 1


async def tail_callee_foo(state, context):
    context.results.i = context.params.i
    context.results.t = context.params.t
    context.results.c = CallOrderObject(state)


async def tail_caller_foo(context):
    # Not with tail_call: when its target turns out to be of the caller's vat, the
    # Return without results that it gets there aborts the process. So this is a
    # call whose results are returned, and pipelined calls wait for them.
    params = context.params
    response = await params.callee.foo(i=params.i, t="from TestTailCaller")
    context.results.i = response.i
    context.results.t = response.t
    context.results.c = response.c


class TailCalleeObject(Stateful, test.TestTailCallee.Server):
    @counted(test.TestTailCallee)
    async def foo_context(self, context):
        await tail_callee_foo(self.state, context)


class TailCallerObject(Stateful, test.TestTailCaller.Server):
    @counted(test.TestTailCaller)
    async def foo_context(self, context):
        await tail_caller_foo(context)


class StreamingMethods:
    def start_totals(self):
        self.total_i = 0
        self.total_j = 0

    # Each gives up its turn once, so that calls which did not wait would be seen.
    @counted(test.TestStreaming)
    async def doStreamI(self, i, _context):
        await asyncio.sleep(0)
        self.total_i += i

    @counted(test.TestStreaming)
    async def doStreamJ(self, j, _context):
        await asyncio.sleep(0)
        self.total_j += j

    @counted(test.TestStreaming)
    async def finishStream(self, _context):
        return self.total_i, self.total_j


class StreamingObject(Stateful, StreamingMethods, test.TestStreaming.Server):
    def __init__(self, state):
        super().__init__(state)
        self.start_totals()


class HandleObject(test.TestHandle.Server):
    def __init__(self, state):
        self.state = state
        state.handles += 1
        State.handles_of_server += 1

    def __del__(self):
        self.state.handles -= 1
        State.handles_of_server -= 1


class MoreStuffMethods:
    held = None

    @counted(test.TestMoreStuff)
    async def callFoo(self, cap, _context):
        await call_foo(cap)
        return "bar"

    @counted(test.TestMoreStuff)
    async def callFooWhenResolved(self, cap, _context):
        # pycapnp cannot wait for a promise; calls on one wait by themselves.
        await call_foo(cap)
        return "bar"

    @counted(test.TestMoreStuff)
    async def neverReturn_context(self, context):
        if context.params._has("cap"):
            context.results.capCopy = context.params.cap
        await self.state.until_canceled()

    @counted(test.TestMoreStuff)
    async def hold(self, cap, _context):
        self.held = cap

    @counted(test.TestMoreStuff)
    async def callHeld(self, _context):
        await call_foo(self.held)
        return "bar"

    @counted(test.TestMoreStuff)
    async def getHeld(self, _context):
        return self.held

    @counted(test.TestMoreStuff)
    async def echo(self, cap, _context):
        return cap

    @counted(test.TestMoreStuff)
    async def expectCancel_context(self, context):
        # The context keeps the parameters.
        await self.state.until_canceled()
        del context

    @counted(test.TestMoreStuff)
    async def methodWithDefaults(self, a, b, c, _context):
        _context.results.d = f"{a} {b} {c}"

    @counted(test.TestMoreStuff)
    async def getHandle(self, _context):
        return HandleObject(self.state)

    @counted(test.TestMoreStuff)
    async def getNull(self, _context):
        pass

    @counted(test.TestMoreStuff)
    async def getEnormousString(self, _context):
        return "\0" * 100_000_000

    @counted(test.TestMoreStuff)
    async def methodWithNullDefault_context(self, context):
        if context.params._has("b"):
            await call_foo(context.params.b)

    @counted(test.TestMoreStuff)
    async def throwException(self, _context):
        raise ValueError("test exception")

    @counted(test.TestMoreStuff)
    async def throwRemoteException(self, _context):
        raise ValueError("remote exception: test exception")


class MoreStuffObject(Stateful, MoreStuffMethods, test.TestMoreStuff.Server):
    def __init__(self, state):
        super().__init__(state)
        self.next = 0

    @counted(test.TestCallOrder)
    async def getCallSequence(self, expected, _context):
        self.next += 1
        return self.next - 1


class ThingObject(Stateful, test.TestMembrane.Thing.Server):
    @counted(test.TestMembrane.Thing)
    async def passThrough(self, _context):
        _context.results.text = "inside"

    @counted(test.TestMembrane.Thing)
    async def intercept(self, _context):
        _context.results.text = "inside"


class MembraneMethods:
    @counted(test.TestMembrane)
    async def makeThing(self, _context):
        return ThingObject(self.state)

    @counted(test.TestMembrane)
    async def callPassThrough(self, thing, tailCall, _context):
        # Both ways are the same, for want of tail calls (see tail_caller_foo).
        _context.results.text = (await thing.passThrough()).text

    @counted(test.TestMembrane)
    async def callIntercept(self, thing, tailCall, _context):
        _context.results.text = (await thing.intercept()).text

    @counted(test.TestMembrane)
    async def loopback(self, thing, _context):
        return thing

    @counted(test.TestMembrane)
    async def waitForever(self, _context):
        await self.state.until_canceled()


class MembraneObject(Stateful, MembraneMethods, test.TestMembrane.Server):
    pass


class ControlMethods:
    async def callCounts(self, _context):
        counts = _context.results.init("counts", len(self.state.calls))
        for entry, (interface, calls) in zip(counts, self.state.calls.items()):
            entry.interfaceId = interface
            entry.calls = calls

    async def liveHandles(self, _context):
        return self.state.handles, State.handles_of_server

    async def cancellations(self, _context):
        return self.state.cancellations

    async def reset(self, _context):
        self.state.calls.clear()
        self.state.cancellations = 0
        self.state.sequence = 0

    async def implementation(self, _context):
        _context.results.name = NAME
        _context.results.sendsResultsToYourself = True
        limits = _context.results.init("limits", len(LIMITS))
        for limit, (behaviour, why) in zip(limits, LIMITS.items()):
            limit.behaviour = behaviour
            limit.why = why


class ControlObject(Stateful, ControlMethods, control.TestControl.Server):
    pass


class ObjectsMethods:
    async def testInterface(self, _context):
        return InterfaceObject(self.state)

    async def testExtends(self, _context):
        return new_extends(self.state)

    async def testPipeline(self, _context):
        return PipelineObject(self.state)

    async def testCallOrder(self, _context):
        return CallOrderObject(self.state)

    async def testTailCallee(self, _context):
        return TailCalleeObject(self.state)

    async def testTailCaller(self, _context):
        return TailCallerObject(self.state)

    async def testStreaming(self, _context):
        return StreamingObject(self.state)

    async def testMoreStuff(self, _context):
        return MoreStuffObject(self.state)

    async def testHandle(self, _context):
        return HandleObject(self.state)

    async def testMembrane(self, _context):
        return MembraneObject(self.state)

    async def testControl(self, _context):
        return ControlObject(self.state)


class Bootstrap(
    Stateful,
    ExtendsMethods,
    PipelineMethods,
    MoreStuffMethods,
    StreamingMethods,
    MembraneMethods,
    ControlMethods,
    ObjectsMethods,
    control.TestAll.Server,
):
    def __init__(self, state):
        super().__init__(state)
        self.start_totals()

    async def foo_context(self, context):
        """The foo of three interfaces, told apart by their parameters."""
        params = context.params
        fields = set(params.schema.fieldnames)
        if "callee" in fields:
            self.state.calls[interface_id(test.TestTailCaller)] += 1
            await tail_caller_foo(context)
        elif "t" in fields:
            self.state.calls[interface_id(test.TestTailCallee)] += 1
            await tail_callee_foo(self.state, context)
        else:
            self.state.calls[interface_id(test.TestInterface)] += 1
            answers = {(123, True): "foo", (321, False): "bar"}
            if (params.i, params.j) not in answers:
                raise ValueError("foo takes 123 and true, or 321 and false")
            context.results.x = answers[params.i, params.j]

    @counted(test.TestCallOrder)
    async def getCallSequence(self, expected, _context):
        self.state.sequence += 1
        return self.state.sequence - 1


async def _serve_connection(stream):
    server = capnp.TwoPartyServer(stream, bootstrap=Bootstrap(State()))
    await server.on_disconnect()


async def serve(address):
    """Serves until the process is killed."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if os.path.exists(path):
            os.unlink(path)
        server = await capnp.AsyncIoStream.create_unix_server(_serve_connection, path)
        actual = address
    else:
        host, port = address.rsplit(":", 1)
        server = await capnp.AsyncIoStream.create_server(_serve_connection, host, int(port))
        actual = f"{host}:{server.sockets[0].getsockname()[1]}"
    for name, why in LIMITS.items():
        print(f"unsupported {name}: {why}", file=sys.stderr)
    print(f"ready {actual}", flush=True)
    async with server:
        await server.serve_forever()
