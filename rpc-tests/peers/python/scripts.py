"""Scripts of calls, drawn at random from a seed, whose every result is known beforehand.

The same as `src/conformance/client/script.rs` does with this project's own client: a script
has references to objects that number the calls which they get, the server's and its own,
promises of its own, and what the server's `echo` makes of them. Calls through one reference
arrive in order. Between two references to one object there is no order, so the script waits
for the answers of one before it goes on with the other.
"""

import asyncio
import random

import behaviours
import capnp
import harness
from schemas import control, test

STEPS = 120
# A script is as long as several behaviours.
DEADLINE_SECONDS = 200
REFERENCES = 10


class Object:
    """Something that numbers the calls which it gets."""

    def __init__(self, name):
        self.name = name
        self.next = 0
        self.caller = None


class OpenPromise:
    """A promise of the script's, until it is resolved."""

    def __init__(self, name):
        self.name = name
        self.promise = harness.Promise(test.TestCallOrder)
        self.leads_to = None  # an Object, or BROKEN
        self.caller = None


BROKEN = object()


class Reference:
    def __init__(self, number, cap, place):
        self.number = number
        self.cap = cap
        self.place = place


def _place(place):
    while isinstance(place, OpenPromise) and place.leads_to is not None:
        place = place.leads_to
    return place


class Script:
    def __init__(self, context, seed):
        self.c = context
        self.random = random.Random(seed)
        self.theirs = context.theirs(test.TestMoreStuff)
        self.references = []
        self.promises = []
        self.calls = []  # [promise, place, expected number, or None while that is unknown]
        self.echoes = []  # (promise, place, the number of what was pipelined from it)
        # How many calls were cancelled, and how many of those had begun.
        self.cancelled = 0
        self.begun_and_cancelled = 0
        self.count = 0
        self.steps = []

    async def run(self):
        self.new_object_of_ours()
        steps = [
            (1, self.new_object_of_theirs),
            (1, self.new_object_of_ours),
            (1, self.new_promise),
            (3, self.echo),
            (1, self.read_echo),
            (1, self.resolve_a_promise),
            (1, self.drop_reference),
            (1, self.settle_all),
            (1, self.call_back),
            (1, self.cancel),
            (9, self.call),
        ]
        choices = [step for weight, step in steps for _ in range(weight)]
        for _ in range(STEPS):
            outcome = self.random.choice(choices)()
            if outcome is not None:
                await outcome
        while self.open_promises():
            await self.resolve_a_promise()
        await self.settle_all()

    def note(self, text):
        self.steps.append(text)

    def add(self, cap, place):
        self.count += 1
        self.references.append(Reference(self.count, cap, place))
        if len(self.references) > REFERENCES:
            self.references.pop(0)
        return self.count

    def some_reference(self):
        return self.random.choice(self.references)

    # References.

    def new_object_of_theirs(self):
        call = self.c.theirs(control.TestObjects).testCallOrder()
        place = Object(f"theirs {self.count}")
        self.note(f"reference {self.add(call.object, place)}: new object, {place.name}")

    def new_object_of_ours(self):
        place = Object(f"ours {self.count}")
        cap = test.TestCallOrder._new_client(behaviours.OurCallOrder())
        self.note(f"reference {self.add(cap, place)}: new object, {place.name}")

    def new_promise(self):
        place = OpenPromise(f"promise {self.count}")
        self.promises.append(place)
        self.note(f"reference {self.add(place.promise.cap, place)}: {place.name}")

    def echo(self):
        reference = self.some_reference()
        call = self.theirs.echo(cap=reference.cap)
        number = self.add(call.cap, reference.place)
        self.echoes.append((call, reference.place, number))
        self.note(f"reference {number}: echo of reference {reference.number}")

    async def read_echo(self):
        if not self.echoes:
            return
        call, place, old = self.echoes.pop(self.random.randrange(len(self.echoes)))
        cap = (await call).cap
        self.references = [it for it in self.references if it.number != old]
        number = self.add(cap, place)
        self.note(f"reference {number}: result of the echo for reference {old}")

    def drop_reference(self):
        if len(self.references) > 1:
            dropped = self.references.pop(self.random.randrange(len(self.references)))
            self.note(f"drop reference {dropped.number}")

    # Promises.

    def open_promises(self):
        return [promise for promise in self.promises if promise.leads_to is None]

    async def resolve_a_promise(self):
        candidates = self.open_promises()
        if not candidates:
            return
        promise = self.random.choice(candidates)
        targets = [it for it in self.references if isinstance(_place(it.place), Object)]
        waiting = [call for call in self.calls if call[1] is promise and call[2] is None]
        if not targets or self.random.randrange(5) == 0:
            self.note(f"reject {promise.name}")
            promise.leads_to = BROKEN
            promise.promise.reject(behaviours.BROKEN)
            for call in waiting:
                call[2] = BROKEN
            return
        target = self.random.choice(targets)
        place = _place(target.place)
        await self.settle(place)
        self.note(f"fulfil {promise.name} with reference {target.number}, {place.name}")
        promise.leads_to = place
        promise.promise.fulfil(target.cap)
        # What waited is delivered.
        for call in waiting:
            call[2] = place.next
            place.next += 1
            place.caller = promise.caller

    # Calls.

    async def call(self):
        reference = self.some_reference()
        place = _place(reference.place)
        expected = None
        if place is BROKEN:
            expected = BROKEN
        elif isinstance(place, OpenPromise):
            if place.caller not in (None, reference.number):
                return  # its calls are queued, and nobody can wait for them now
            place.caller = reference.number
        else:
            if place.caller not in (None, reference.number):
                await self.settle(place)
            place.caller = reference.number
            expected = place.next
            place.next += 1
        name = "what is broken" if place is BROKEN else place.name
        self.note(f"call reference {reference.number}, {name}")
        self.calls.append([behaviours.sequence(reference.cap, 0), place, expected])

    async def settle(self, place):
        self.note(f"settle {place.name}")
        await self._settle(lambda of: of is place)

    async def settle_all(self):
        self.note("settle")
        await self._settle(lambda of: True)

    async def _settle(self, which):
        calls, self.calls = self.calls, []
        for call in calls:
            promise, place, expected = call
            if expected is None or not which(_place(place)):
                self.calls.append(call)
            elif expected is BROKEN:
                error = await harness.failure(promise)
                assert behaviours.BROKEN in error.description, error.description
            else:
                n = (await promise).n
                assert n == expected, f"a call of {place.name} arrived as {n}, not {expected}"

    # The rest.

    async def call_back(self):
        self.note("callFoo")
        probe, cap = harness.ours()
        behaviours.equal((await self.theirs.callFoo(cap=cap)).s, "bar")
        behaviours.equal(probe.calls, 1)

    async def cancel(self):
        method = self.random.choice(["expectCancel", "neverReturn"])
        self.note(f"{method}, cancelled")
        probe, cap = harness.ours()
        call = getattr(self.theirs, method)(cap=cap)
        del cap
        # An answer of the same object: the method has begun. Otherwise it may never begin.
        begins = self.random.randrange(2)
        if begins:
            await self.theirs.getNull()
        call.cancel()
        del call
        await probe.dropped.wait()
        self.cancelled += 1
        self.begun_and_cancelled += begins
        await behaviours.until(self.cancellations_are_counted)

    async def cancellations_are_counted(self):
        seen = (await self.c.control().cancellations()).count
        assert seen <= self.cancelled, f"{seen} of {self.cancelled} were cancelled"
        return seen >= self.begun_and_cancelled


async def run_all(address, seeds):
    """Runs the scripts of some seeds. Returns the exit code."""
    for seed in seeds:
        context = harness.Context(address, "the server", True)
        script = None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await context.begin()
                script = Script(context, int(seed))
                await script.run()
        except (capnp.KjException, AssertionError, TimeoutError) as error:
            steps = "\n".join(script.steps) if script else ""
            print(f"FAIL {seed}: {harness._reason(error)}\n{steps}", flush=True)
            return 1
        finally:
            context.end()
        print(f"ok {seed}", flush=True)
    return 0
