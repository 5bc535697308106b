@0xd508eebdc2dc42b8;
# The conformance interfaces: what implementations of Cap'n Proto RPC call on one
# another to show that they agree. Names, ids, ordinals and types are shared by
# all of them; the file id and the names fix the ids that are not written out.
#
# What an object must do when it is called is said beside each method. `foo` and
# `bar` with fixed arguments look silly on purpose: a caller that gets anything
# else back knows that something was mixed up on the way.

enum TestEnum {
  foo @0;
  bar @1;
  baz @2;
  qux @3;
  quux @4;
  corge @5;
  grault @6;
  garply @7;
}

struct TestAllTypes {
  # One field of each kind, then one list of each. Fields that an interface type
  # would belong in are Void, so that the struct needs no capability table.
  voidField @0 :Void;
  boolField @1 :Bool;
  int8Field @2 :Int8;
  int16Field @3 :Int16;
  int32Field @4 :Int32;
  int64Field @5 :Int64;
  uInt8Field @6 :UInt8;
  uInt16Field @7 :UInt16;
  uInt32Field @8 :UInt32;
  uInt64Field @9 :UInt64;
  float32Field @10 :Float32;
  float64Field @11 :Float64;
  textField @12 :Text;
  dataField @13 :Data;
  structField @14 :TestAllTypes;
  enumField @15 :TestEnum;
  interfaceField @16 :Void;

  voidList @17 :List(Void);
  boolList @18 :List(Bool);
  int8List @19 :List(Int8);
  int16List @20 :List(Int16);
  int32List @21 :List(Int32);
  int64List @22 :List(Int64);
  uInt8List @23 :List(UInt8);
  uInt16List @24 :List(UInt16);
  uInt32List @25 :List(UInt32);
  uInt64List @26 :List(UInt64);
  float32List @27 :List(Float32);
  float64List @28 :List(Float64);
  textList @29 :List(Text);
  dataList @30 :List(Data);
  structList @31 :List(TestAllTypes);
  enumList @32 :List(TestEnum);
  interfaceList @33 :List(Void);
}

interface TestInterface {
  # The plainest of callees.
  foo @0 (i :UInt32, j :Bool) -> (x :Text);
  # Takes 123 and true, fails with anything else; x is "foo".
  bar @1 () -> ();
  # Unimplemented: the call fails and hurts nobody else.
  baz @2 (s :TestAllTypes);
  # Takes the full message, in which every field and list is set.
}

interface TestExtends extends(TestInterface) {
  # Its own foo takes 321 and false, and returns "bar": a caller can tell which
  # object it reached through the inherited method.
  qux @0 ();
  # Unimplemented.
  corge @1 TestAllTypes -> ();
  # Unimplemented.
  grault @2 () -> TestAllTypes;
  # Returns the full message.
}

interface TestExtends2 extends(TestExtends) {}
# Inheritance over two steps.

interface TestPipeline {
  # Results that hold capabilities, to be called before the results are there.
  getCap @0 (n :UInt32, inCap :TestInterface) -> (s :Text, outBox :Box);
  # Takes 234. Calls inCap.foo(123, true) first and wants "foo"; then s is "bar"
  # and outBox has a new TestExtends.
  testPointers @1 (cap :TestInterface, obj :AnyPointer, list :List(TestInterface)) -> ();
  # Capabilities in every kind of pointer: calls foo(123, true) on cap, on obj as
  # a capability and on each of list, where they are not null.
  getAnyCap @2 (n :UInt32, inCap :Capability) -> (s :Text, outBox :AnyBox);
  # getCap without types.
  getCapPipelineOnly @3 () -> (outBox :Box);
  # Sets its pipeline to a box with a new TestExtends, and never returns.

  struct Box {
    cap @0 :TestInterface;
  }
  struct AnyBox {
    cap @0 :Capability;
  }
}

interface TestCallOrder {
  # Shows in which order calls arrived.
  getCallSequence @0 (expected :UInt32) -> (n :UInt32);
  # Returns 0, 1, 2… from call to call. What the caller expects is only for those
  # who read a trace.
}

interface TestTailCallee {
  struct TailResult {
    i @0 :UInt32;
    t @1 :Text;
    c @2 :TestCallOrder;
  }

  foo @0 (i :Int32, t :Text) -> TailResult;
  # Returns i and t as they came, and a new TestCallOrder.
}

interface TestTailCaller {
  foo @0 (i :Int32, callee :TestTailCallee) -> TestTailCallee.TailResult;
  # Tail-calls callee.foo(i, "from TestTailCaller").
}

interface TestStreaming {
  # Adds up what is streamed to it. Each call waits until those before it are
  # done.
  doStreamI @0 (i :UInt32) -> stream;
  doStreamJ @1 (j :UInt32) -> stream;
  finishStream @2 () -> (totalI :UInt32, totalJ :UInt32);
}

interface TestHandle {}
# Nothing but an object whose life can be observed.

interface TestMoreStuff extends(TestCallOrder) {
  # Lifetimes, promises as parameters, cancellation and errors.
  callFoo @0 (cap :TestInterface) -> (s :Text);
  # Calls cap.foo(123, true), wants "foo", returns "bar".
  callFooWhenResolved @1 (cap :TestInterface) -> (s :Text);
  # The same, after waiting until cap is no longer a promise.
  neverReturn @2 (cap :TestInterface) -> (capCopy :TestInterface);
  # Keeps cap, puts a copy into its results, and never returns them.
  hold @3 (cap :TestInterface) -> ();
  # Keeps cap beyond the call, until the next hold.
  callHeld @4 () -> (s :Text);
  # callFoo with the held capability.
  getHeld @5 () -> (cap :TestInterface);
  # The held capability, kept as well.
  echo @6 (cap :TestCallOrder) -> (cap :TestCallOrder);
  # Returns its argument.
  expectCancel @7 (cap :TestInterface) -> ();
  # Keeps cap and never returns; cap is released when the call is canceled.
  methodWithDefaults @8 (a :Text, b :UInt32 = 123, c :Text = "foo") -> (d :Text, e :Text = "bar");
  # d is a, b in decimal and c, with a space between them; e is left alone.
  getHandle @9 () -> (handle :TestHandle);
  # A new object, counted while it lives.
  getNull @10 () -> (nullCap :TestMoreStuff);
  # Returns no capability.
  getEnormousString @11 () -> (str :Text);
  # Tries to return 100 000 000 bytes. That is beyond what a message may have, so
  # this call fails, and only this call.
  methodWithNullDefault @12 (a :Text, b :TestInterface = null);
  # Calls b.foo(123, true) and wants "foo", unless b is null.
  writeToFd @13 (fdCap1 :TestInterface, fdCap2 :TestInterface)
      -> (fdCap3 :TestInterface, secondFdPresent :Bool);
  # Writes "foo" to the descriptor of fdCap1, and "bar" to that of fdCap2 if one
  # came along. fdCap3 has the reading end of a pipe that holds "baz".
  throwException @14 ();
  # Fails with "test exception".
  throwRemoteException @15 ();
  # Fails with "remote exception: test exception", in which the first words are
  # part of the reason and not a prefix that some implementation put there.
}

interface TestMembrane {
  # Objects to put on either side of a membrane, which replaces the results of
  # `intercept` and lets `passThrough` pass.
  makeThing @0 () -> (thing :Thing);
  # A new Thing, whose methods both return "inside".
  callPassThrough @1 (thing :Thing, tailCall :Bool) -> Result;
  # Calls thing.passThrough and returns its results, as a tail call if asked to.
  callIntercept @2 (thing :Thing, tailCall :Bool) -> Result;
  # The same with thing.intercept.
  loopback @3 (thing :Thing) -> (thing :Thing);
  # Returns its argument.
  waitForever @4 ();
  # Never returns; a membrane that is revoked must end it.

  interface Thing {
    passThrough @0 () -> Result;
    intercept @1 () -> Result;
  }

  struct Result {
    text @0 :Text;
  }
}

interface TestAuthenticatedBootstrap(VatId) {
  # A bootstrap object which knows whom it was given to.
  getCallerId @0 () -> (caller :VatId);
}
