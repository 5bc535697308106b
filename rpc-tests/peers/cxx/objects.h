// The objects of the conformance interfaces, as a server has them and as the
// client's tests use them for their own side.
#pragma once

#include <map>

#include <capnp/capability.h>
#include <kj/async.h>
#include <kj/refcount.h>

#include "cancelable.h"
#include "test-control.capnp.h"
#include "test.capnp.h"

// What a server keeps about one connection, shared by its objects.
struct ConnectionState: public kj::Refcounted {
  explicit ConnectionState(unsigned& handlesOfServer): handlesOfServer(handlesOfServer) {}

  std::map<uint64_t, uint64_t> calls;
  unsigned cancellations = 0;
  unsigned bootstrapSequence = 0;
  unsigned handles = 0;
  unsigned& handlesOfServer;
};

using State = kj::Own<ConnectionState>;

// Counts the calls that reach an object before it handles them.
template <typename Base>
class Counted: public Cancelable<Base> {
public:
  explicit Counted(const State& state): state(kj::addRef(const_cast<ConnectionState&>(*state))) {}

  typename Base::DispatchCallResult dispatchCall(
      uint64_t interfaceId, uint16_t methodId,
      capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) override {
    ++state->calls[interfaceId];
    return Cancelable<Base>::dispatchCall(interfaceId, methodId, context);
  }

protected:
  State state;

  // A promise for a method that ends only by being canceled.
  kj::Promise<void> untilCanceled();
};

// Calls `foo` as most methods that are given a TestInterface do, and insists on
// the right answer.
kj::Promise<void> callFoo(TestInterface::Client cap);

class InterfaceObject final: public Counted<TestInterface::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> foo(FooContext context) override;
  kj::Promise<void> baz(BazContext context) override;
};

class ExtendsObject final: public Counted<TestExtends2::Server> {
public:
  enum Accepts { OWN_FOO, EITHER_FOO };
  explicit ExtendsObject(const State& state, Accepts accepts = OWN_FOO)
      : Counted(state), accepts(accepts) {}
  kj::Promise<void> foo(FooContext context) override;
  kj::Promise<void> baz(BazContext context) override;
  kj::Promise<void> grault(GraultContext context) override;

private:
  Accepts accepts;
};

class PipelineObject final: public Counted<TestPipeline::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> getCap(GetCapContext context) override;
  kj::Promise<void> testPointers(TestPointersContext context) override;
  kj::Promise<void> getAnyCap(GetAnyCapContext context) override;
  kj::Promise<void> getCapPipelineOnly(GetCapPipelineOnlyContext context) override;
};

class CallOrderObject final: public Counted<TestCallOrder::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> getCallSequence(GetCallSequenceContext context) override;

private:
  unsigned next = 0;
};

class TailCalleeObject final: public Counted<TestTailCallee::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> foo(FooContext context) override;
};

class TailCallerObject final: public Counted<TestTailCaller::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> foo(FooContext context) override;
};

class StreamingObject final: public Counted<TestStreaming::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> doStreamI(DoStreamIContext context) override;
  kj::Promise<void> doStreamJ(DoStreamJContext context) override;
  kj::Promise<void> finishStream(FinishStreamContext context) override;

private:
  unsigned totalI = 0;
  unsigned totalJ = 0;
};

class HandleObject final: public Counted<TestHandle::Server> {
public:
  explicit HandleObject(const State& state);
  ~HandleObject() noexcept(false);
};

class MoreStuffObject final: public Counted<TestMoreStuff::Server> {
public:
  // The bootstrap object's sequence is the connection's, which can be reset.
  enum Sequence { OWN, OF_CONNECTION };
  explicit MoreStuffObject(const State& state, Sequence sequence = OWN)
      : Counted(state), next(sequence == OWN ? own : this->state->bootstrapSequence) {}

  kj::Promise<void> getCallSequence(GetCallSequenceContext context) override;
  kj::Promise<void> callFoo(CallFooContext context) override;
  kj::Promise<void> callFooWhenResolved(CallFooWhenResolvedContext context) override;
  kj::Promise<void> neverReturn(NeverReturnContext context) override;
  kj::Promise<void> hold(HoldContext context) override;
  kj::Promise<void> callHeld(CallHeldContext context) override;
  kj::Promise<void> getHeld(GetHeldContext context) override;
  kj::Promise<void> echo(EchoContext context) override;
  kj::Promise<void> expectCancel(ExpectCancelContext context) override;
  kj::Promise<void> methodWithDefaults(MethodWithDefaultsContext context) override;
  kj::Promise<void> getHandle(GetHandleContext context) override;
  kj::Promise<void> getNull(GetNullContext context) override;
  kj::Promise<void> getEnormousString(GetEnormousStringContext context) override;
  kj::Promise<void> methodWithNullDefault(MethodWithNullDefaultContext context) override;
  kj::Promise<void> writeToFd(WriteToFdContext context) override;
  kj::Promise<void> throwException(ThrowExceptionContext context) override;
  kj::Promise<void> throwRemoteException(ThrowRemoteExceptionContext context) override;

private:
  unsigned own = 0;
  unsigned& next;
  kj::Maybe<TestInterface::Client> held;
};

class MembraneObject final: public Counted<TestMembrane::Server> {
public:
  using Counted::Counted;
  kj::Promise<void> makeThing(MakeThingContext context) override;
  kj::Promise<void> callPassThrough(CallPassThroughContext context) override;
  kj::Promise<void> callIntercept(CallInterceptContext context) override;
  kj::Promise<void> loopback(LoopbackContext context) override;
  kj::Promise<void> waitForever(WaitForeverContext context) override;
};

class ThingObject final: public Counted<TestMembrane::Thing::Server> {
public:
  ThingObject(const State& state, kj::StringPtr text): Counted(state), text(text) {}
  kj::Promise<void> passThrough(PassThroughContext context) override;
  kj::Promise<void> intercept(InterceptContext context) override;

private:
  kj::StringPtr text;
};

// =======================================================================================

template <typename Base>
kj::Promise<void> Counted<Base>::untilCanceled() {
  return kj::Promise<void>(kj::NEVER_DONE)
      .attach(kj::defer([state = kj::addRef(*state)]() mutable { ++state->cancellations; }));
}
