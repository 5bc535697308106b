@0xf07b1da417f73107;
# What a conformance server offers beside the conformance interfaces: one object
# that is all of them, each of them singly, and a view into the server.

using Test = import "test.capnp";

interface TestControl {
  # A view into the server, for evidence that a client can't see from outside.
  #
  # A server keeps its counts per connection, so that clients don't disturb one
  # another. Calls on this interface and on TestObjects are not counted.

  callCounts @0 () -> (counts :List(CallCount));
  # How many calls reached objects of the conformance interfaces over this
  # connection since it began or was reset. Interfaces that were never called may
  # be left out.

  liveHandles @1 () -> (here :UInt32, all :UInt32);
  # TestHandle objects that exist: those that were given out over this
  # connection, and those of every connection of the server.

  tableSizes @2 () -> (sizes :TableSizes);
  # The tables of the connection that this call came over. Unimplemented where an
  # implementation has no way to tell.

  cancellations @3 () -> (count :UInt32);
  # Calls of expectCancel, neverReturn, getCapPipelineOnly and waitForever over
  # this connection that ended because they were canceled.

  reset @4 ();
  # Sets callCounts and cancellations of this connection to nothing, and the next
  # sequence number of the bootstrap object as a TestCallOrder to 0. The handles
  # that live keep counting.

  implementation @5 () -> (
      name :Text, limits :List(Limit), sendsResultsToYourself :Bool, onlyTailCalls :Bool);
  # What the server is built with, and which behaviours of the conformance
  # programs that cannot show, for reasons that lie in it. A client skips those
  # and names the reason.
  #
  # sendsResultsToYourself: a call that the server passes back to the vat that it
  # came from is sent with sendResultsTo.yourself. There are implementations that
  # never run such a call; their clients skip what depends on it. onlyTailCalls:
  # that is so where a method tail-calls, but not for pipelined calls.

  struct Limit {
    behaviour @0 :Text;
    why @1 :Text;
  }

  struct CallCount {
    interfaceId @0 :UInt64;
    # As the calls named it: a method that TestExtends inherits counts for
    # TestInterface.
    calls @1 :UInt64;
  }

  struct TableSizes {
    # Entries in use, as the server sees them while it answers the call: the
    # answer to that very call is one of the answers.
    questions @0 :UInt32;
    answers @1 :UInt32;
    exports @2 :UInt32;
    imports @3 :UInt32;
    embargoes @4 :UInt32;
  }
}

interface TestObjects {
  # Each conformance object by itself, new on every call, for peers that can't
  # treat one capability as several interfaces.
  testInterface @0 () -> (object :Test.TestInterface);
  testExtends @1 () -> (object :Test.TestExtends);
  testPipeline @2 () -> (object :Test.TestPipeline);
  testCallOrder @3 () -> (object :Test.TestCallOrder);
  testTailCallee @4 () -> (object :Test.TestTailCallee);
  testTailCaller @5 () -> (object :Test.TestTailCaller);
  testStreaming @6 () -> (object :Test.TestStreaming);
  testMoreStuff @7 () -> (object :Test.TestMoreStuff);
  testHandle @8 () -> (object :Test.TestHandle);
  testMembrane @9 () -> (object :Test.TestMembrane);
  testControl @10 () -> (object :TestControl);
  # Of this connection, as the bootstrap object is.
  membraned @11 () -> (object :Test.TestMembrane, revoker :Test.TestHandle);
  # A TestMembrane behind a membrane of its own. What the membrane intercepts
  # returns "inbound" if it came from outside, "outbound" if from inside. When
  # `revoker` is dropped, the membrane is revoked: everything that goes through it
  # fails, with a reason that contains "revoked".
}

interface TestAll extends(
    Test.TestExtends2, Test.TestPipeline, Test.TestMoreStuff, Test.TestTailCallee,
    Test.TestTailCaller, Test.TestStreaming, Test.TestMembrane, TestControl, TestObjects) {
  # The bootstrap object of a conformance server, which has a fresh one for each
  # connection. It tells a call by the interface id, as any capability does that
  # is several interfaces at once; a client may use any of them directly.
  #
  # TestInterface.foo answers here as TestInterface and as TestExtends do: "foo"
  # to (123, true), "bar" to (321, false).
}
