"""The behaviours of README.md, from the client's side."""

import asyncio

import harness
from schemas import interface_id, is_full_message, test, twoparty, values

BEHAVIOURS = {}
BROKEN = "the promise was broken"


def behaviour(name):
    def register(function):
        BEHAVIOURS[name] = function
        return function

    return register


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


async def check_foo(cap):
    equal((await cap.foo(i=123, j=True)).x, "foo")


async def check_extends_foo(cap):
    equal((await cap.foo(i=321, j=False)).x, "bar")


def sequence(cap, expected):
    """Sends getCallSequence at once. Returns a promise for its answer."""
    return cap.getCallSequence(expected=expected)


async def number(call):
    return (await call).n


async def until(condition):
    """Asks again and again, each time over the connection, until it is so."""
    while not await condition():
        pass


# Plain calls, their errors, and calls on what is yet to be returned.


@behaviour("bootstrap-and-call")
async def bootstrap_and_call(c):
    await check_foo(c.theirs(test.TestInterface))


@behaviour("unimplemented-method-fails-alone")
async def unimplemented_method_fails_alone(c):
    cap = c.theirs(test.TestInterface)
    await harness.failure(cap.bar())
    await check_foo(cap)


@behaviour("unimplemented-type")
async def unimplemented_type(c):
    error = await harness.failure(c.theirs(test.TestInterface).bar())
    equal(error.type, "UNIMPLEMENTED")
    handle = (await c.objects().testHandle()).object
    other = handle.cast_as(test.TestInterface)
    error = await harness.failure(other.foo(i=123, j=True))
    equal(error.type, "UNIMPLEMENTED")


@behaviour("error-from-handler")
async def error_from_handler(c):
    cap = c.theirs(test.TestInterface)
    error = await harness.failure(cap.foo(i=1, j=False))
    equal(error.type, "FAILED")
    await check_foo(cap)


@behaviour("throw-exception")
async def throw_exception(c):
    error = await harness.failure(c.theirs(test.TestMoreStuff).throwException())
    equal(error.type, "FAILED")
    equal(error.description, "remote exception: test exception")


@behaviour("throw-remote-exception")
async def throw_remote_exception(c):
    error = await harness.failure(c.theirs(test.TestMoreStuff).throwRemoteException())
    equal(error.description, "remote exception: test exception")


@behaviour("full-message")
async def full_message(c):
    cap = c.theirs(test.TestExtends)
    await cap.baz(s=values.fullMessage)
    assert is_full_message(await cap.grault())
    await harness.failure(cap.baz(s={"int8Field": 1}))


@behaviour("cast")
async def cast(c):
    cap = (await c.objects().testExtends()).object
    base = cap.upcast(test.TestInterface)
    await check_extends_foo(base)
    await harness.failure(base.foo(i=123, j=True))
    await base.cast_as(test.TestExtends).grault()
    await harness.failure(sequence(base.cast_as(test.TestCallOrder), 0))
    await check_extends_foo(base.cast_as(test.TestExtends2))


@behaviour("pipelining")
async def pipelining(c):
    gate = harness.Event()
    probe, cap = harness.ours(gate)
    call = c.theirs(test.TestPipeline).getCap(n=234, inCap=cap)
    pipelined = call.outBox.cap.foo(i=321, j=False)
    gate.happen()
    equal((await pipelined).x, "bar")
    response = await call
    equal(response.s, "bar")
    await check_extends_foo(response.outBox.cap)
    equal(probe.calls, 1)


@behaviour("pipelining-any")
async def pipelining_any(c):
    gate = harness.Event()
    probe, cap = harness.ours(gate)
    call = c.theirs(test.TestPipeline).getAnyCap(n=234, inCap=cap)
    pipelined = call.outBox.cap.cast_as(test.TestInterface).foo(i=321, j=False)
    gate.happen()
    equal((await pipelined).x, "bar")
    response = await call
    equal(response.s, "bar")
    await check_extends_foo(response.outBox.cap.as_interface(test.TestInterface))
    equal(probe.calls, 1)


@behaviour("pipelining-after-drop")
async def pipelining_after_drop(c):
    gate = harness.Event()
    probe, cap = harness.ours(gate)
    call = c.theirs(test.TestPipeline).getCap(n=234, inCap=cap)
    pipelined = call.outBox.cap.foo(i=321, j=False)
    call.cancel()
    await probe.called.wait()
    gate.happen()
    equal((await pipelined).x, "bar")


@behaviour("pipelined-null")
async def pipelined_null(c):
    call = c.theirs(test.TestMoreStuff).getNull()
    await harness.failure(sequence(call.nullCap, 0))
    await c.ping()


@behaviour("pipeline-only")
async def pipeline_only(c):
    call = c.theirs(test.TestPipeline).getCapPipelineOnly()
    await check_extends_foo(call.outBox.cap)
    await check_extends_foo(call.outBox.cap)


@behaviour("callback")
async def callback(c):
    probe, cap = harness.ours()
    equal((await c.theirs(test.TestMoreStuff).callFoo(cap=cap)).s, "bar")
    equal(probe.calls, 1)


# Promises as parameters, the order of calls, embargoes and tail calls.


async def resolve_and_expect(c, call, promise):
    probe, cap = harness.ours()
    # Whoever called too early would have done so by the time that this is
    # answered.
    await c.ping()
    equal(probe.calls, 0)
    promise.fulfil(cap)
    equal((await call).s, "bar")
    equal(probe.calls, 1)


@behaviour("promise-parameter")
async def promise_parameter(c):
    theirs = c.theirs(test.TestMoreStuff)
    promise = harness.Promise(test.TestInterface)
    await resolve_and_expect(c, theirs.callFooWhenResolved(cap=promise.cap), promise)
    promise = harness.Promise(test.TestInterface)
    await resolve_and_expect(c, theirs.callFoo(cap=promise.cap), promise)


@behaviour("promise-chain")
async def promise_chain(c):
    outer = harness.Promise(test.TestInterface)
    inner = harness.Promise(test.TestInterface)
    call = c.theirs(test.TestMoreStuff).callFooWhenResolved(cap=outer.cap)
    await c.ping()
    outer.fulfil(inner.cap)
    await resolve_and_expect(c, call, inner)


class OurCallOrder(test.TestCallOrder.Server):
    def __init__(self):
        self.next = 0

    async def getCallSequence(self, expected, _context):
        self.next += 1
        return self.next - 1


@behaviour("call-order")
async def call_order(c):
    theirs = c.theirs(test.TestMoreStuff)
    early = sequence(theirs, 0)
    echo = theirs.echo(cap=OurCallOrder())
    pipeline = echo.cap
    calls = [sequence(pipeline, 0), sequence(pipeline, 1)]
    await early
    calls.append(sequence(pipeline, 2))
    resolved = (await echo).cap
    # Only calls on the pipeline are held back for those before: `resolved` is our
    # own object without a detour.
    calls.extend(sequence(pipeline, n) for n in range(3, 6))
    for expected, call in enumerate(calls):
        equal(await number(call), expected)
    equal(await number(sequence(resolved, 6)), 6)


@behaviour("embargo-error")
async def embargo_error(c):
    theirs = c.theirs(test.TestMoreStuff)
    promise = harness.Promise(test.TestCallOrder)
    early = sequence(theirs, 0)
    echo = theirs.echo(cap=promise.cap)
    pipeline = echo.cap
    calls = [sequence(pipeline, 0), sequence(pipeline, 1)]
    await early
    calls.append(sequence(pipeline, 2))
    resolved = (await echo).cap
    calls += [sequence(pipeline, 3), sequence(pipeline, 4), sequence(resolved, 5)]
    promise.reject(BROKEN)
    for call in calls:
        assert BROKEN in (await harness.failure(call)).description
    # Nothing of it is left over.
    await sequence(theirs, 1)


@behaviour("embargo-null")
async def embargo_null(c):
    theirs = c.theirs(test.TestMoreStuff)
    call = theirs.getNull()
    cap = call.nullCap
    before = sequence(cap, 0)
    await call
    after = sequence(cap, 1)
    await harness.failure(before)
    await harness.failure(after)
    await sequence(theirs, 0)


@behaviour("rejected-promise")
async def rejected_promise(c):
    theirs = c.theirs(test.TestMoreStuff)
    promise = harness.Promise(test.TestInterface)
    await theirs.hold(cap=promise.cap)
    call = theirs.callHeld()
    await c.ping()
    promise.reject(BROKEN)
    assert BROKEN in (await harness.failure(call)).description


class OurTailCallee(test.TestTailCallee.Server):
    def __init__(self, probe):
        self.probe = probe

    async def foo(self, i, t, _context):
        self.probe.calls += 1
        return i, t, OurCallOrder()


class NeverTailCallee(test.TestTailCallee.Server):
    """A callee that ends only by being canceled."""

    def __init__(self, probe):
        self.probe = probe

    async def foo(self, i, t, _context):
        self.probe.called.happen()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.probe.canceled.happen()


async def expect_tail_call(c, callee):
    call = c.theirs(test.TestTailCaller).foo(i=456, callee=callee)
    pipeline = call.c
    first = sequence(pipeline, 0)
    response = await call
    equal(response.i, 456)
    equal(response.t, "from TestTailCaller")
    second = sequence(pipeline, 1)
    third = sequence(pipeline, 2)
    equal(await number(first), 0)
    equal(await number(second), 1)
    equal(await number(third), 2)
    equal(await number(sequence(response.c, 3)), 3)


@behaviour("tail-call")
async def tail_call(c):
    probe = harness.Probe()
    await expect_tail_call(c, OurTailCallee(probe))
    equal(probe.calls, 1)


@behaviour("tail-call-at-server")
async def tail_call_at_server(c):
    await expect_tail_call(c, (await c.objects().testTailCallee()).object)


class OurTailCaller(test.TestInterface.Server):
    """Passes foo on to another object as a tail call."""

    def __init__(self, target):
        self.target = target

    async def foo(self, i, j, _context):
        result = _context.tail_call(self.target.foo_request(i=i, j=j))
        # Where the target is remote, the end of this promise would abort the
        # process, and nothing but a cancellation is to be waited for.
        result.kjpromise.cancel()
        await asyncio.get_running_loop().create_future()


@behaviour("tail-call-back")
async def tail_call_back(c):
    if c.server.startswith("C++ 1."):
        # It says noPromisePipelining of every call whose results hold no capabilities.
        raise harness.Skip("pycapnp gives the tail call up if its caller will not pipeline")
    target = (await c.objects().testInterface()).object
    response = await c.theirs(test.TestMoreStuff).callFoo(cap=OurTailCaller(target))
    equal(response.s, "bar")


@behaviour("tail-call-cancel")
async def tail_call_cancel(c):
    probe = harness.Probe()
    call = c.theirs(test.TestTailCaller).foo(i=1, callee=NeverTailCallee(probe))
    await probe.called.wait()
    call.cancel()
    await probe.canceled.wait()


# Who is alive when, who is told of a cancellation, and the end of a connection.


@behaviour("hold")
async def hold(c):
    second = await c.connect()
    theirs = second.theirs(test.TestMoreStuff)
    probe, cap = harness.ours()
    await theirs.hold(cap=cap)
    equal((await theirs.callHeld()).s, "bar")
    equal(probe.calls, 1)
    held = (await theirs.getHeld()).cap
    # pycapnp does not compare capabilities. But one that is our own object is not
    # affected by the end of the connection that it came back over.
    second.shut_down()
    await harness.failure(theirs.callHeld())
    await check_foo(held)
    equal(probe.calls, 2)


@behaviour("hold-releases")
async def hold_releases(c):
    theirs = c.theirs(test.TestMoreStuff)
    first, cap = harness.ours()
    await theirs.hold(cap=cap)
    del cap
    equal((await theirs.callHeld()).s, "bar")
    equal(first.calls, 1)
    assert not first.is_dropped, "released while it was held"
    second, cap = harness.ours()
    await theirs.hold(cap=cap)
    await first.dropped.wait()
    assert not second.is_dropped


@behaviour("release-result")
async def release_result(c):
    theirs = c.theirs(test.TestMoreStuff)

    async def lives(count):
        return (await c.control().liveHandles()).here == count

    assert await lives(0)
    one = (await theirs.getHandle()).handle
    assert await lives(1)
    two = (await theirs.getHandle()).handle
    assert await lives(2)
    del two
    await until(lambda: lives(1))
    del one
    await until(lambda: lives(0))


@behaviour("release-parameter")
async def release_parameter(c):
    probe, cap = harness.ours()
    call = c.theirs(test.TestMoreStuff).callFoo(cap=cap)
    del cap
    await call
    await probe.dropped.wait()


@behaviour("drop-in-call")
async def drop_in_call(c):
    gate = harness.Event()
    probe, cap = harness.ours(gate)
    theirs = (await c.objects().testMoreStuff()).object
    call = theirs.callFoo(cap=cap)
    del theirs
    await probe.called.wait()
    await c.ping()
    gate.happen()
    equal((await call).s, "bar")


@behaviour("cancel-releases-parameters")
async def cancel_releases_parameters(c):
    theirs = c.theirs(test.TestMoreStuff)
    for method in (theirs.expectCancel, theirs.neverReturn):
        probe, cap = harness.ours()
        call = method(cap=cap)
        del cap
        await c.ping()
        assert not probe.is_dropped, "released before the call was canceled"
        call.cancel()
        await probe.dropped.wait()


@behaviour("cancel-reaches-handler")
async def cancel_reaches_handler(c):
    theirs = c.theirs(test.TestMoreStuff)

    async def canceled(count):
        return (await c.control().cancellations()).count == count

    calls = [theirs.expectCancel(), theirs.neverReturn()]
    # An answer of the same object: both methods have begun.
    await theirs.getNull()
    assert await canceled(0)
    for call in calls:
        call.cancel()
    await until(lambda: canceled(2))


@behaviour("disconnect")
async def disconnect(c):
    second = await c.connect()
    theirs = second.theirs(test.TestMoreStuff)
    probe, cap = harness.ours()
    handle = (await theirs.getHandle()).handle
    call = theirs.neverReturn(cap=cap)
    del cap
    await check_foo(second.theirs(test.TestInterface))

    async def handles():
        return (await c.control().liveHandles()).all

    async def one_less():
        return await handles() == before - 1

    before = await handles() if c.has_control else None
    second.shut_down()
    equal((await harness.failure(call)).type, "DISCONNECTED")
    later = second.theirs(test.TestInterface).foo(i=123, j=True)
    equal((await harness.failure(later)).type, "DISCONNECTED")
    await probe.dropped.wait()
    if before is not None:
        await until(one_less)
    del handle


# Values and sizes, many things at once, and what only some can do.


@behaviour("null-capability")
async def null_capability(c):
    response = await c.theirs(test.TestMoreStuff).getNull()
    assert not response._has("nullCap")


@behaviour("defaults")
async def defaults(c):
    theirs = c.theirs(test.TestMoreStuff)
    response = await theirs.methodWithDefaults(a="x")
    equal((response.d, response.e), ("x 123 foo", "bar"))
    response = await theirs.methodWithDefaults(a="y", b=4_000_000_000, c="z")
    equal(response.d, "y 4000000000 z")


@behaviour("null-default")
async def null_default(c):
    theirs = c.theirs(test.TestMoreStuff)
    await theirs.methodWithNullDefault(a="x")
    probe, cap = harness.ours()
    await theirs.methodWithNullDefault(b=cap)
    equal(probe.calls, 1)


@behaviour("enormous-result-fails-alone")
async def enormous_result_fails_alone(c):
    theirs = c.theirs(test.TestMoreStuff)
    await harness.failure(theirs.getEnormousString())
    await sequence(theirs, 0)


@behaviour("enormous-parameters-fail-alone")
async def enormous_parameters_fail_alone(c):
    theirs = c.theirs(test.TestMoreStuff)
    await harness.failure(lambda: theirs.methodWithDefaults(a="\0" * 100_000_000))
    await sequence(theirs, 0)


@behaviour("large-messages")
async def large_messages(c):
    text = ("abcdefghijklmnopqrstuvwxyz" * (4 << 20))[: 4 << 20]
    response = await c.theirs(test.TestMoreStuff).methodWithDefaults(a=text)
    assert response.d == f"{text} 123 foo", f"{len(response.d)} characters"


@behaviour("streaming")
async def streaming(c):
    theirs = (await c.objects().testStreaming()).object
    sent = []
    for n in range(1, 101):
        sent.append(theirs.doStreamI(i=n))
        sent.append(theirs.doStreamJ(j=2 * n))
    response = await theirs.finishStream()
    equal((response.totalI, response.totalJ), (5050, 10100))
    for call in sent:
        await call


@behaviour("same-capability-twice")
async def same_capability_twice(c):
    probe, cap = harness.ours()
    request = c.theirs(test.TestPipeline).testPointers_request()
    request.cap = cap
    request.obj = cap
    request.init("list", 2)
    request.list[0] = cap
    request.list[1] = cap
    call = request.send()
    del request, cap
    await call
    equal(probe.calls, 4)
    await probe.dropped.wait()


@behaviour("capabilities-everywhere")
async def capabilities_everywhere(c):
    probes, caps = zip(*(harness.ours() for _ in range(4)))
    request = c.theirs(test.TestPipeline).testPointers_request()
    request.cap = caps[0]
    request.obj = caps[1]
    request.init("list", 3)
    request.list[0] = caps[2]
    request.list[2] = caps[3]
    await request.send()
    equal([probe.calls for probe in probes], [1, 1, 1, 1])


@behaviour("many-calls")
async def many_calls(c):
    theirs = (await c.objects().testCallOrder()).object
    calls = [sequence(theirs, n) for n in range(1000)]
    for expected, call in enumerate(calls):
        equal(await number(call), expected)


@behaviour("many-callbacks")
async def many_callbacks(c):
    theirs = c.theirs(test.TestMoreStuff)
    gate = harness.Event()
    probe, cap = harness.ours(gate)
    calls = [theirs.callFoo(cap=cap) for _ in range(200)]
    await probe.called.wait()
    gate.happen()
    for call in calls:
        equal((await call).s, "bar")
    equal(probe.calls, 200)


class OurThing(test.TestMembrane.Thing.Server):
    async def passThrough(self, _context):
        _context.results.text = "outside"

    async def intercept(self, _context):
        _context.results.text = "outside"


async def sides(c):
    """A thing of theirs and one of ours, with the texts that they return."""
    made = await c.theirs(test.TestMembrane).makeThing()
    return [(made.thing, "inside"), (test.TestMembrane.Thing._new_client(OurThing()), "outside")]


async def call_through_server(c, thing, text, tail_call):
    theirs = c.theirs(test.TestMembrane)
    equal((await theirs.callPassThrough(thing=thing, tailCall=tail_call)).text, text)
    equal((await theirs.callIntercept(thing=thing, tailCall=tail_call)).text, text)


@behaviour("membrane-objects")
async def membrane_objects(c):
    for thing, text in await sides(c):
        await call_through_server(c, thing, text, False)
        back = (await c.theirs(test.TestMembrane).loopback(thing=thing)).thing
        equal((await back.passThrough()).text, text)
        equal((await thing.intercept()).text, text)


@behaviour("membrane-tail-calls")
async def membrane_tail_calls(c):
    for thing, text in await sides(c):
        await call_through_server(c, thing, text, True)


@behaviour("membrane")
async def membrane(c):
    raise harness.Skip("pycapnp has no membranes")


@behaviour("membrane-at-server")
async def membrane_at_server(c):
    async def expect(thing, through, intercepted):
        equal((await thing.passThrough()).text, through)
        equal((await thing.intercept()).text, intercepted)

    outside = (await c.objects().membraned()).object
    making = outside.makeThing()
    await expect(making.thing, "inside", "inbound")
    inside = (await making).thing
    await expect(inside, "inside", "inbound")
    ours = test.TestMembrane.Thing._new_client(OurThing())
    equal((await outside.callPassThrough(thing=ours)).text, "outside")
    equal((await outside.callIntercept(thing=ours)).text, "outbound")
    for thing, through, intercepted in [
        (ours, "outside", "outside"),
        (inside, "inside", "inbound"),
    ]:
        looping = outside.loopback(thing=thing)
        await expect(looping.thing, through, intercepted)
        await expect((await looping).thing, through, intercepted)
    # Not revoked: what is read from results keeps all of them, the revoker too.


@behaviour("caller-id")
async def caller_id(c):
    response = await c.theirs(test.TestAuthenticatedBootstrap).getCallerId()
    # Without a brand, the interface's parameter is an AnyPointer.
    equal(response.caller.as_struct(twoparty.VatId).side, "client")


@behaviour("file-descriptors")
async def file_descriptors(c):
    raise harness.Skip("pycapnp does not pass file descriptors")


@behaviour("call-counts")
async def call_counts(c):
    theirs = c.theirs(test.TestMoreStuff)

    async def counts():
        response = await c.control().callCounts()
        return {n.interfaceId: n.calls for n in response.counts if n.calls}

    await c.control().reset()
    for _ in range(3):
        await c.ping()
    for n in range(2):
        equal(await number(sequence(theirs, n)), n)
    expected = {interface_id(test.TestInterface): 3, interface_id(test.TestCallOrder): 2}
    equal(await counts(), expected)
    await c.control().reset()
    equal(await counts(), {})
    equal(await number(sequence(theirs, 0)), 0)


async def use_everything(c):
    theirs = c.theirs(test.TestMoreStuff)
    probe, cap = harness.ours()
    await theirs.callFoo(cap=cap)
    call = c.theirs(test.TestPipeline).getCap(n=234, inCap=cap)
    await check_extends_foo(call.outBox.cap)
    expect = theirs.expectCancel(cap=cap)
    await harness.failure(theirs.throwException())
    handle = (await theirs.getHandle()).handle
    await c.ping()
    expect.cancel()
    call.cancel()
    del handle


@behaviour("tables-at-rest")
async def tables_at_rest(c):
    view = c.control()

    async def tables():
        return str((await view.tableSizes()).sizes)

    async def as_before():
        return await tables() == before

    # The first call settles what the bootstrap itself takes.
    await tables()
    before = await tables()
    await use_everything(c)
    await until(as_before)
