#include "objects.h"

#include <unistd.h>

#include <kj/debug.h>
#include <kj/io.h>

#include "test-values.capnp.h"

namespace {

void requireFullMessage(TestAllTypes::Reader message) {
  KJ_REQUIRE(capnp::AnyStruct::Reader(message) == capnp::AnyStruct::Reader(*FULL_MESSAGE),
             "this is not the full message");
}

// A file descriptor as a capability, without any methods worth calling.
class FileObject final: public TestInterface::Server {
public:
  explicit FileObject(kj::AutoCloseFd fd): fd(kj::mv(fd)) {}
  kj::Maybe<int> getFd() override { return fd.get(); }

private:
  kj::AutoCloseFd fd;
};

void writeAll(int fd, kj::StringPtr text) { kj::FdOutputStream(fd).write(text.begin(), text.size()); }

}  // namespace

kj::Promise<void> callFoo(TestInterface::Client cap) {
  auto request = cap.fooRequest();
  request.setI(123);
  request.setJ(true);
  return request.send().then([](capnp::Response<TestInterface::FooResults> response) {
    KJ_REQUIRE(response.getX() == "foo", response.getX());
  });
}

// =======================================================================================

kj::Promise<void> InterfaceObject::foo(FooContext context) {
  auto params = context.getParams();
  KJ_REQUIRE(params.getI() == 123 && params.getJ(), "foo takes 123 and true");
  context.getResults().setX("foo");
  return kj::READY_NOW;
}

kj::Promise<void> InterfaceObject::baz(BazContext context) {
  requireFullMessage(context.getParams().getS());
  return kj::READY_NOW;
}

kj::Promise<void> ExtendsObject::foo(FooContext context) {
  auto params = context.getParams();
  if (accepts == EITHER_FOO && params.getI() == 123 && params.getJ()) {
    context.getResults().setX("foo");
    return kj::READY_NOW;
  }
  KJ_REQUIRE(params.getI() == 321 && !params.getJ(), "foo of TestExtends takes 321 and false");
  context.getResults().setX("bar");
  return kj::READY_NOW;
}

kj::Promise<void> ExtendsObject::baz(BazContext context) {
  requireFullMessage(context.getParams().getS());
  return kj::READY_NOW;
}

kj::Promise<void> ExtendsObject::grault(GraultContext context) {
  context.setResults(*FULL_MESSAGE);
  return kj::READY_NOW;
}

// =======================================================================================

kj::Promise<void> PipelineObject::getCap(GetCapContext context) {
  auto params = context.getParams();
  KJ_REQUIRE(params.getN() == 234, "getCap takes 234");
  auto inCap = params.getInCap();
  context.releaseParams();
  return ::callFoo(kj::mv(inCap)).then([this, context]() mutable {
    auto results = context.getResults();
    results.setS("bar");
    results.initOutBox().setCap(kj::heap<ExtendsObject>(state));
  });
}

kj::Promise<void> PipelineObject::getAnyCap(GetAnyCapContext context) {
  auto params = context.getParams();
  KJ_REQUIRE(params.getN() == 234, "getAnyCap takes 234");
  auto inCap = params.getInCap();
  context.releaseParams();
  return ::callFoo(inCap.castAs<TestInterface>()).then([this, context]() mutable {
    auto results = context.getResults();
    results.setS("bar");
    results.initOutBox().setCap(TestExtends::Client(kj::heap<ExtendsObject>(state)));
  });
}

kj::Promise<void> PipelineObject::testPointers(TestPointersContext context) {
  auto params = context.getParams();
  kj::Vector<kj::Promise<void>> calls;
  if (params.hasCap()) calls.add(::callFoo(params.getCap()));
  if (params.hasObj()) calls.add(::callFoo(params.getObj().getAs<TestInterface>()));
  auto list = params.getList();
  capnp::AnyList::Reader pointers = capnp::toAny(list);
  for (unsigned i = 0; i < list.size(); i++) {
    if (!pointers.as<capnp::List<capnp::AnyPointer>>()[i].isNull()) {
      calls.add(::callFoo(list[i]));
    }
  }
  return kj::joinPromises(calls.releaseAsArray());
}

kj::Promise<void> PipelineObject::getCapPipelineOnly(GetCapPipelineOnlyContext context) {
  capnp::PipelineBuilder<TestPipeline::GetCapPipelineOnlyResults> pipeline;
  pipeline.initOutBox().setCap(kj::heap<ExtendsObject>(state));
  context.setPipeline(pipeline.build());
  return untilCanceled();
}

// =======================================================================================

kj::Promise<void> CallOrderObject::getCallSequence(GetCallSequenceContext context) {
  context.getResults().setN(next++);
  return kj::READY_NOW;
}

kj::Promise<void> TailCalleeObject::foo(FooContext context) {
  auto params = context.getParams();
  auto results = context.getResults();
  results.setI(params.getI());
  results.setT(params.getT());
  results.setC(kj::heap<CallOrderObject>(state));
  return kj::READY_NOW;
}

kj::Promise<void> TailCallerObject::foo(FooContext context) {
  auto params = context.getParams();
  auto request = params.getCallee().fooRequest();
  request.setI(params.getI());
  request.setT("from TestTailCaller");
  return context.tailCall(kj::mv(request));
}

kj::Promise<void> StreamingObject::doStreamI(DoStreamIContext context) {
  auto i = context.getParams().getI();
  // A turn of the event loop, so that calls which did not wait would be seen.
  return kj::evalLater([this, i]() { totalI += i; });
}

kj::Promise<void> StreamingObject::doStreamJ(DoStreamJContext context) {
  auto j = context.getParams().getJ();
  return kj::evalLater([this, j]() { totalJ += j; });
}

kj::Promise<void> StreamingObject::finishStream(FinishStreamContext context) {
  auto results = context.getResults();
  results.setTotalI(totalI);
  results.setTotalJ(totalJ);
  return kj::READY_NOW;
}

HandleObject::HandleObject(const State& state): Counted(state) {
  ++this->state->handles;
  ++this->state->handlesOfServer;
}

HandleObject::~HandleObject() noexcept(false) {
  --state->handles;
  --state->handlesOfServer;
}

// =======================================================================================

kj::Promise<void> MoreStuffObject::getCallSequence(GetCallSequenceContext context) {
  context.getResults().setN(next++);
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::callFoo(CallFooContext context) {
  auto cap = context.getParams().getCap();
  context.releaseParams();
  return ::callFoo(kj::mv(cap)).then([context]() mutable { context.getResults().setS("bar"); });
}

kj::Promise<void> MoreStuffObject::callFooWhenResolved(CallFooWhenResolvedContext context) {
  auto cap = context.getParams().getCap();
  context.releaseParams();
  auto resolved = cap.whenResolved();
  return resolved.then([cap = kj::mv(cap)]() mutable { return ::callFoo(kj::mv(cap)); })
      .then([context]() mutable { context.getResults().setS("bar"); });
}

kj::Promise<void> MoreStuffObject::neverReturn(NeverReturnContext context) {
  auto cap = context.getParams().getCap();
  context.getResults().setCapCopy(cap);
  return untilCanceled().attach(kj::mv(cap));
}

kj::Promise<void> MoreStuffObject::hold(HoldContext context) {
  held = context.getParams().getCap();
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::callHeld(CallHeldContext context) {
  auto& cap = KJ_REQUIRE_NONNULL(held, "nothing is held");
  return ::callFoo(cap).then([context]() mutable { context.getResults().setS("bar"); });
}

kj::Promise<void> MoreStuffObject::getHeld(GetHeldContext context) {
  context.getResults().setCap(KJ_REQUIRE_NONNULL(held, "nothing is held"));
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::echo(EchoContext context) {
  context.getResults().setCap(context.getParams().getCap());
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::expectCancel(ExpectCancelContext context) {
  auto cap = context.getParams().getCap();
  return untilCanceled().attach(kj::mv(cap));
}

kj::Promise<void> MoreStuffObject::methodWithDefaults(MethodWithDefaultsContext context) {
  auto params = context.getParams();
  context.getResults().setD(kj::str(params.getA(), ' ', params.getB(), ' ', params.getC()));
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::getHandle(GetHandleContext context) {
  context.getResults().setHandle(kj::heap<HandleObject>(state));
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::getNull(GetNullContext context) {
  context.getResults();
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::getEnormousString(GetEnormousStringContext context) {
  context.getResults().initStr(100000000);
  return kj::READY_NOW;
}

kj::Promise<void> MoreStuffObject::methodWithNullDefault(MethodWithNullDefaultContext context) {
  auto params = context.getParams();
  if (!params.hasB()) return kj::READY_NOW;
  return ::callFoo(params.getB());
}

kj::Promise<void> MoreStuffObject::writeToFd(WriteToFdContext context) {
  auto params = context.getParams();
  auto cap1 = params.getFdCap1();
  auto cap2 = params.getFdCap2();
  auto fd1 = cap1.getFd();
  return fd1.then([context, cap1 = kj::mv(cap1), cap2 = kj::mv(cap2)](
                      kj::Maybe<int> fd) mutable {
    writeAll(KJ_REQUIRE_NONNULL(fd, "no descriptor came with fdCap1"), "foo");
    auto fd2 = cap2.getFd();
    return fd2.then([context, cap2 = kj::mv(cap2)](kj::Maybe<int> fd) mutable {
      KJ_IF_MAYBE(f, fd) { writeAll(*f, "bar"); }
      int ends[2];
      KJ_SYSCALL(pipe(ends));
      kj::AutoCloseFd reading(ends[0]);
      kj::AutoCloseFd writing(ends[1]);
      writeAll(writing.get(), "baz");
      auto results = context.getResults();
      results.setFdCap3(kj::heap<FileObject>(kj::mv(reading)));
      results.setSecondFdPresent(fd != nullptr);
    });
  });
}

kj::Promise<void> MoreStuffObject::throwException(ThrowExceptionContext context) {
  return KJ_EXCEPTION(FAILED, "test exception");
}

kj::Promise<void> MoreStuffObject::throwRemoteException(ThrowRemoteExceptionContext context) {
  return KJ_EXCEPTION(FAILED, "remote exception: test exception");
}

// =======================================================================================

namespace {

// Returns what a thing's method returns, as a tail call or by copying.
template <typename Context, typename Request>
kj::Promise<void> forward(Context context, Request request, bool tailCall) {
  if (tailCall) return context.tailCall(kj::mv(request));
  return request.send().then([context](capnp::Response<TestMembrane::Result> result) mutable {
    context.setResults(result);
  });
}

}  // namespace

kj::Promise<void> MembraneObject::makeThing(MakeThingContext context) {
  context.getResults().setThing(kj::heap<ThingObject>(state, "inside"));
  return kj::READY_NOW;
}

kj::Promise<void> MembraneObject::callPassThrough(CallPassThroughContext context) {
  auto params = context.getParams();
  return forward(context, params.getThing().passThroughRequest(), params.getTailCall());
}

kj::Promise<void> MembraneObject::callIntercept(CallInterceptContext context) {
  auto params = context.getParams();
  return forward(context, params.getThing().interceptRequest(), params.getTailCall());
}

kj::Promise<void> MembraneObject::loopback(LoopbackContext context) {
  context.getResults().setThing(context.getParams().getThing());
  return kj::READY_NOW;
}

kj::Promise<void> MembraneObject::waitForever(WaitForeverContext context) {
  return untilCanceled();
}

kj::Promise<void> ThingObject::passThrough(PassThroughContext context) {
  context.getResults().setText(text);
  return kj::READY_NOW;
}

kj::Promise<void> ThingObject::intercept(InterceptContext context) {
  context.getResults().setText(text);
  return kj::READY_NOW;
}
