"""Runs behaviours against a server: connections, deadlines, verdicts, and the
client's own objects that tell what happened to them."""

import asyncio
import socket
import sys
import traceback

import capnp

import behaviours
from schemas import control, test

DEADLINE_SECONDS = 20


class Skip(Exception):
    """The client cannot show the behaviour."""


class Event:
    """Something that happens once."""

    def __init__(self):
        self._future = asyncio.get_running_loop().create_future()

    def happen(self):
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self):
        await asyncio.shield(self._future)


class Probe:
    """What becomes known of one of the client's own objects."""

    def __init__(self):
        self.calls = 0
        self.is_dropped = False
        self.called = Event()
        self.canceled = Event()
        self.dropped = Event()


class Ours(test.TestInterface.Server):
    """A TestInterface of our own, whose calls wait until the gate, if any."""

    def __init__(self, probe, gate):
        self.probe = probe
        self.gate = gate

    async def foo(self, i, j, _context):
        assert (i, j) == (123, True), "foo takes 123 and true"
        self.probe.calls += 1
        self.probe.called.happen()
        if self.gate is not None:
            await self.gate.wait()
        return "foo"

    def __del__(self):
        self.probe.is_dropped = True
        self.probe.dropped.happen()


def ours(gate=None):
    """An object of our own, and what becomes known of it."""
    probe = Probe()
    return probe, test.TestInterface._new_client(Ours(probe, gate))


class _Later(test.TestMoreStuff.Server):
    """Returns a capability once there is one: the pipelines of its calls are the
    only promises that pycapnp lets a program make."""

    def __init__(self, future):
        self.future = future

    async def getHeld(self, _context):
        return await self.future

    async def echo(self, cap, _context):
        return await self.future


class Promise:
    """A promise for a TestInterface or a TestCallOrder, to be resolved later."""

    def __init__(self, interface):
        self._future = asyncio.get_running_loop().create_future()
        local = test.TestMoreStuff._new_client(_Later(self._future))
        self._call = local.getHeld() if interface is test.TestInterface else local.echo()
        self.cap = self._call.cap

    def fulfil(self, cap):
        self._future.set_result(cap)

    def reject(self, reason):
        self._future.set_exception(ValueError(reason))


class Connection:
    """A connection to the server, whose socket can be shut down under it."""

    @classmethod
    async def open(cls, address):
        self = cls()
        loop = asyncio.get_running_loop()
        if address.startswith("unix:"):
            self._socket = socket.socket(socket.AF_UNIX)
            target = address.removeprefix("unix:")
        else:
            host, port = address.rsplit(":", 1)
            self._socket = socket.socket(socket.AF_INET)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            target = (host, int(port))
        self._socket.setblocking(False)
        await loop.sock_connect(self._socket, target)
        # The stream owns one handle, this object another.
        owned = self._socket.dup()
        if address.startswith("unix:"):
            self._stream = await capnp.AsyncIoStream.create_unix_connection(sock=owned)
        else:
            self._stream = await capnp.AsyncIoStream.create_connection(sock=owned)
        self._client = capnp.TwoPartyClient(self._stream)
        self._bootstrap = self._client.bootstrap()
        return self

    def theirs(self, interface):
        """The server's bootstrap object, as one of its interfaces."""
        return self._bootstrap.cast_as(interface)

    def shut_down(self):
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._bootstrap = None
        self._client.close()
        self._stream.close()
        self._socket.close()


class Context:
    """What a behaviour works with."""

    def __init__(self, address, server, has_control):
        self.address = address
        self.server = server
        self.has_control = has_control
        self._connections = []

    async def connect(self):
        connection = await Connection.open(self.address)
        self._connections.append(connection)
        return connection

    async def begin(self):
        self._first = await self.connect()

    def end(self):
        for connection in self._connections:
            connection.close()

    def theirs(self, interface):
        return self._first.theirs(interface)

    def objects(self):
        return self.theirs(control.TestObjects)

    def control(self):
        """The view into the server. Skips the behaviour when there is none."""
        if not self.has_control:
            raise Skip("the server has no TestControl to ask")
        return self.theirs(control.TestControl)

    async def ping(self):
        """A call on the bootstrap object, answered."""
        await behaviours.check_foo(self.theirs(test.TestInterface))


async def failure(call):
    """Waits for a failure and returns it. `call` is a promise, or a function that
    sends and may fail at once."""
    try:
        await (call() if callable(call) else call)
    except capnp.KjException as error:
        return error
    raise AssertionError("a call that must fail succeeded")


async def _ask_server(address):
    context = Context(address, "the server", True)
    await context.begin()
    try:
        response = await context.control().implementation()
        limits = {limit.behaviour: limit.why for limit in response.limits}
        return response.name, limits, True
    except capnp.KjException as error:
        if error.type != "UNIMPLEMENTED":
            raise
        return "the server", {}, False
    finally:
        context.end()


async def _run(behaviour, context):
    async with asyncio.timeout(DEADLINE_SECONDS):
        await context.begin()
        await behaviour(context)
        await context.ping()


def _reason(error):
    if isinstance(error, TimeoutError):
        return f"no answer within {DEADLINE_SECONDS} seconds"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    for candidate in reversed(traceback.extract_tb(error.__traceback__)):
        if candidate.filename.endswith("behaviours.py"):
            frame = candidate
            break
    text = getattr(error, "description", None) or str(error) or frame.line
    return " ".join(f"{frame.name}:{frame.lineno}: {type(error).__name__}: {text}".split())


async def call_all(address, names):
    """Runs the named behaviours, all if none is named. Returns the exit code."""
    passed = failed = 0
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            server, limits, has_control = await _ask_server(address)
    except Exception as error:  # whatever it was, it is the verdict
        print(f"FAIL connect: {_reason(error)}\n0 passed, 1 failed", flush=True)
        return 1
    for name, behaviour in behaviours.BEHAVIOURS.items():
        if names and name not in names:
            continue
        if name in limits:
            print(f"skip {name}: {server}: {limits[name]}", flush=True)
            continue
        context = Context(address, server, has_control)
        try:
            await _run(behaviour, context)
        except Skip as skip:
            print(f"skip {name}: this client: {skip}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {_reason(error)}", flush=True)
        else:
            passed += 1
            print(f"ok {name}", flush=True)
        context.end()
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.stdout.flush()
    return 1 if failed else 0
