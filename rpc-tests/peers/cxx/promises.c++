// Promises as parameters, the order of calls, embargoes and tail calls.
#include "cancelable.h"
#include "harness.h"
#include "ours.h"

namespace {

class OurTailCallee final: public TestTailCallee::Server {
public:
  explicit OurTailCallee(Probe& probe): probe(kj::addRef(probe)) {}

  kj::Promise<void> foo(FooContext context) override {
    ++probe->calls;
    auto params = context.getParams();
    auto results = context.getResults();
    results.setI(params.getI());
    results.setT(params.getT());
    results.setC(kj::heap<OurCallOrder>());
    return kj::READY_NOW;
  }

private:
  kj::Own<Probe> probe;
};

class NeverTailCallee final: public Cancelable<TestTailCallee::Server> {
public:
  explicit NeverTailCallee(Probe& probe): probe(kj::addRef(probe)) {}

  kj::Promise<void> foo(FooContext context) override {
    probe->called->happen();
    return kj::Promise<void>(kj::NEVER_DONE)
        .attach(kj::defer([probe = kj::addRef(*probe)]() mutable { probe->canceled->happen(); }));
  }

private:
  kj::Own<Probe> probe;
};

// Passes `foo` on to another object as a tail call.
class OurTailCaller final: public TestInterface::Server {
public:
  explicit OurTailCaller(TestInterface::Client target): target(kj::mv(target)) {}

  kj::Promise<void> foo(FooContext context) override {
    auto params = context.getParams();
    auto request = target.fooRequest();
    request.setI(params.getI());
    request.setJ(params.getJ());
    return context.tailCall(kj::mv(request));
  }

private:
  TestInterface::Client target;
};

void resolveAndExpect(Context& c, kj::Promise<void> answered, Probe& probe,
                      OurPromise<TestInterface>& promise, TestInterface::Client cap) {
  // Whoever called too early would have done so by the time that this is
  // answered.
  c.ping();
  CHECK(probe.calls == 0, "called before the promise resolved");
  promise.fulfiller->fulfill(kj::mv(cap));
  c.wait(kj::mv(answered));
  CHECK(probe.calls == 1, probe.calls);
}

void promiseParameter(Context& c) {
  {
    auto [probe, cap] = c.ours();
    auto promise = newPromise<TestInterface>();
    auto request = c.theirs<TestMoreStuff>().callFooWhenResolvedRequest();
    request.setCap(promise.cap);
    auto answered = request.send().then([](auto response) { CHECK(response.getS() == "bar"); });
    resolveAndExpect(c, kj::mv(answered), *probe, promise, cap);
  }
  {
    auto [probe, cap] = c.ours();
    auto promise = newPromise<TestInterface>();
    auto request = c.theirs<TestMoreStuff>().callFooRequest();
    request.setCap(promise.cap);
    auto answered = request.send().then([](auto response) { CHECK(response.getS() == "bar"); });
    resolveAndExpect(c, kj::mv(answered), *probe, promise, cap);
  }
}

void promiseChain(Context& c) {
  auto [probe, cap] = c.ours();
  auto outer = newPromise<TestInterface>();
  auto inner = newPromise<TestInterface>();
  auto request = c.theirs<TestMoreStuff>().callFooWhenResolvedRequest();
  request.setCap(outer.cap);
  auto answered = request.send().then([](auto response) { CHECK(response.getS() == "bar"); });
  c.ping();
  outer.fulfiller->fulfill(kj::cp(inner.cap));
  resolveAndExpect(c, kj::mv(answered), *probe, inner, cap);
}

void callOrder(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  TestCallOrder::Client ours = kj::heap<OurCallOrder>();
  auto early = sequence(theirs, 0);
  auto request = theirs.echoRequest();
  request.setCap(ours);
  auto echo = request.send();
  auto pipeline = echo.getCap();

  auto call0 = sequence(pipeline, 0);
  auto call1 = sequence(pipeline, 1);
  c.wait(early);
  auto call2 = sequence(pipeline, 2);
  auto resolved = c.wait(echo).getCap();
  // Only calls on the pipeline are held back for those before: `resolved` is our
  // own object without a detour.
  auto call3 = sequence(pipeline, 3);
  auto call4 = sequence(pipeline, 4);
  auto call5 = sequence(pipeline, 5);

  unsigned expected = 0;
  for (auto* call: {&call0, &call1, &call2, &call3, &call4, &call5}) {
    auto n = c.wait(*call).getN();
    CHECK(n == expected, n, expected);
    ++expected;
  }
  CHECK(c.wait(sequence(resolved, 6)).getN() == 6);
}

void embargoError(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  auto promise = newPromise<TestCallOrder>();
  auto early = sequence(theirs, 0);
  auto request = theirs.echoRequest();
  request.setCap(promise.cap);
  auto echo = request.send();
  auto pipeline = echo.getCap();

  auto call0 = sequence(pipeline, 0);
  auto call1 = sequence(pipeline, 1);
  c.wait(early);
  auto call2 = sequence(pipeline, 2);
  auto resolved = c.wait(echo).getCap();
  auto call3 = sequence(pipeline, 3);
  auto call4 = sequence(pipeline, 4);
  auto call5 = sequence(resolved, 5);
  promise.fulfiller->rejectIfThrows([]() { KJ_FAIL_REQUIRE("the promise was broken"); });

  for (auto* call: {&call0, &call1, &call2, &call3, &call4, &call5}) {
    auto error = c.failure(*call);
    CHECK(has(error.getDescription(), "the promise was broken"), error);
  }
  // Nothing of it is left over.
  c.wait(sequence(theirs, 1));
}

void embargoNull(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  auto promise = theirs.getNullRequest().send();
  auto cap = promise.getNullCap();
  auto call0 = sequence(cap, 0);
  c.wait(promise);
  auto call1 = sequence(cap, 1);
  c.failure(call0);
  c.failure(call1);
  c.wait(sequence(theirs, 0));
}

void rejectedPromise(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  auto promise = newPromise<TestInterface>();
  auto hold = theirs.holdRequest();
  hold.setCap(promise.cap);
  c.wait(hold.send());
  auto call = theirs.callHeldRequest().send();
  c.ping();
  promise.fulfiller->rejectIfThrows([]() { KJ_FAIL_REQUIRE("the promise was broken"); });
  auto error = c.failure(call);
  CHECK(has(error.getDescription(), "the promise was broken"), error);
}

void expectTailCall(Context& c, TestTailCallee::Client callee) {
  auto request = c.theirs<TestTailCaller>().fooRequest();
  request.setI(456);
  request.setCallee(kj::mv(callee));
  auto promise = request.send();
  auto call0 = sequence(promise.getC(), 0);
  auto response = c.wait(promise);
  CHECK(response.getI() == 456, response.getI());
  CHECK(response.getT() == "from TestTailCaller", response.getT());
  auto call1 = sequence(promise.getC(), 1);
  auto call2 = sequence(promise.getC(), 2);
  CHECK(c.wait(call0).getN() == 0);
  CHECK(c.wait(call1).getN() == 1);
  CHECK(c.wait(call2).getN() == 2);
  CHECK(c.wait(sequence(response.getC(), 3)).getN() == 3);
}

void tailCall(Context& c) {
  auto probe = kj::refcounted<Probe>();
  expectTailCall(c, kj::heap<OurTailCallee>(*probe));
  CHECK(probe->calls == 1, probe->calls);
}

void tailCallAtServer(Context& c) {
  expectTailCall(c, c.wait(c.objects().testTailCalleeRequest().send()).getObject());
}

void tailCallBack(Context& c) {
  auto target = c.wait(c.objects().testInterfaceRequest().send()).getObject();
  auto request = c.theirs<TestMoreStuff>().callFooRequest();
  request.setCap(kj::heap<OurTailCaller>(kj::mv(target)));
  CHECK(c.wait(request.send()).getS() == "bar");
}

void tailCallCancel(Context& c) {
  auto probe = kj::refcounted<Probe>();
  {
    auto request = c.theirs<TestTailCaller>().fooRequest();
    request.setCallee(kj::heap<NeverTailCallee>(*probe));
    auto promise = request.send();
    c.wait(probe->called->wait());
  }
  c.wait(probe->canceled->wait());
}

constexpr Named BEHAVIOURS[] = {
    {"promise-parameter", promiseParameter},
    {"promise-chain", promiseChain},
    {"call-order", callOrder},
    {"embargo-error", embargoError},
    {"embargo-null", embargoNull},
    {"rejected-promise", rejectedPromise},
    {"tail-call", tailCall},
    {"tail-call-at-server", tailCallAtServer},
    {"tail-call-back", tailCallBack},
    {"tail-call-cancel", tailCallCancel},
};

}  // namespace

kj::ArrayPtr<const Named> promiseBehaviours() { return BEHAVIOURS; }
