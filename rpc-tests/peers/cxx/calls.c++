// Plain calls, their errors, and calls on what is yet to be returned.
#include "harness.h"
#include "test-values.capnp.h"

namespace {

using Type = kj::Exception::Type;

void bootstrapAndCall(Context& c) { checkFoo(c, c.theirs<TestInterface>()); }

void unimplementedMethodFailsAlone(Context& c) {
  auto cap = c.theirs<TestInterface>();
  c.failure(cap.barRequest().send());
  checkFoo(c, cap);
}

void unimplementedType(Context& c) {
  auto bar = c.failure(c.theirs<TestInterface>().barRequest().send());
  CHECK(bar.getType() == Type::UNIMPLEMENTED, bar);
  auto handle = c.wait(c.objects().testHandleRequest().send()).getObject();
  auto foo = c.failure(sendFoo(handle.castAs<TestInterface>()));
  CHECK(foo.getType() == Type::UNIMPLEMENTED, foo);
}

void errorFromHandler(Context& c) {
  auto cap = c.theirs<TestInterface>();
  auto request = cap.fooRequest();
  request.setI(1);
  auto error = c.failure(request.send());
  CHECK(error.getType() == Type::FAILED, error);
  checkFoo(c, cap);
}

void throwException(Context& c) {
  auto error = c.failure(c.theirs<TestMoreStuff>().throwExceptionRequest().send());
  CHECK(error.getType() == Type::FAILED, error);
  CHECK(error.getDescription() == "remote exception: test exception", error);
}

void throwRemoteException(Context& c) {
  auto error = c.failure(c.theirs<TestMoreStuff>().throwRemoteExceptionRequest().send());
#if CAPNP_VERSION_MAJOR < 1
  // Puts its prefix in front of whatever was sent.
  constexpr auto EXPECTED = "remote exception: remote exception: test exception"_kj;
#else
  constexpr auto EXPECTED = "remote exception: test exception"_kj;
#endif
  CHECK(error.getDescription() == EXPECTED, error);
}

void fullMessage(Context& c) {
  auto cap = c.theirs<TestExtends>();
  TestAllTypes::Reader full = *FULL_MESSAGE;
  auto request = cap.bazRequest();
  request.setS(full);
  c.wait(request.send());
  auto returned = c.wait(cap.graultRequest().send());
  CHECK(capnp::AnyStruct::Reader(static_cast<TestAllTypes::Reader&>(returned)) ==
        capnp::AnyStruct::Reader(full));
  auto other = cap.bazRequest();
  other.initS().setInt8Field(1);
  c.failure(other.send());
}

void cast(Context& c) {
  TestInterface::Client base = c.wait(c.objects().testExtendsRequest().send()).getObject();
  checkExtendsFoo(c, base);
  c.failure(sendFoo(base));
  c.wait(base.castAs<TestExtends>().graultRequest().send());
  c.failure(sequence(base.castAs<TestCallOrder>(), 0));
  checkExtendsFoo(c, base.castAs<TestExtends2>());
}

void pipelining(Context& c) {
  auto gate = newEvent();
  auto [probe, cap] = c.gated(*gate);
  auto request = c.theirs<TestPipeline>().getCapRequest();
  request.setN(234);
  request.setInCap(cap);
  auto promise = request.send();
  auto pipelined = sendExtendsFoo(promise.getOutBox().getCap());
  gate->happen();
  CHECK(c.wait(pipelined).getX() == "bar");
  auto response = c.wait(promise);
  CHECK(response.getS() == "bar");
  checkExtendsFoo(c, response.getOutBox().getCap());
  CHECK(probe->calls == 1, probe->calls);
}

void pipeliningAny(Context& c) {
  auto gate = newEvent();
  auto [probe, cap] = c.gated(*gate);
  auto request = c.theirs<TestPipeline>().getAnyCapRequest();
  request.setN(234);
  request.setInCap(cap);
  auto promise = request.send();
  auto pipelined = sendExtendsFoo(promise.getOutBox().getCap().castAs<TestInterface>());
  gate->happen();
  CHECK(c.wait(pipelined).getX() == "bar");
  auto response = c.wait(promise);
  CHECK(response.getS() == "bar");
  checkExtendsFoo(c, response.getOutBox().getCap().castAs<TestInterface>());
  CHECK(probe->calls == 1, probe->calls);
}

void pipeliningAfterDrop(Context& c) {
  auto gate = newEvent();
  auto [probe, cap] = c.gated(*gate);
  kj::Maybe<capnp::RemotePromise<TestInterface::FooResults>> pipelined;
  {
    auto request = c.theirs<TestPipeline>().getCapRequest();
    request.setN(234);
    request.setInCap(cap);
    auto promise = request.send();
    pipelined = sendExtendsFoo(promise.getOutBox().getCap());
  }
  c.wait(probe->called->wait());
  gate->happen();
  CHECK(c.wait(KJ_ASSERT_NONNULL(pipelined)).getX() == "bar");
}

void pipelinedNull(Context& c) {
  auto promise = c.theirs<TestMoreStuff>().getNullRequest().send();
  c.failure(sequence(promise.getNullCap(), 0));
  c.ping();
}

void pipelineOnly(Context& c) {
  auto promise = c.theirs<TestPipeline>().getCapPipelineOnlyRequest().send();
  checkExtendsFoo(c, promise.getOutBox().getCap());
  checkExtendsFoo(c, promise.getOutBox().getCap());
}

void callback(Context& c) {
  auto [probe, cap] = c.ours();
  auto request = c.theirs<TestMoreStuff>().callFooRequest();
  request.setCap(cap);
  CHECK(c.wait(request.send()).getS() == "bar");
  CHECK(probe->calls == 1, probe->calls);
}

constexpr Named BEHAVIOURS[] = {
    {"bootstrap-and-call", bootstrapAndCall},
    {"unimplemented-method-fails-alone", unimplementedMethodFailsAlone},
    {"unimplemented-type", unimplementedType},
    {"error-from-handler", errorFromHandler},
    {"throw-exception", throwException},
    {"throw-remote-exception", throwRemoteException},
    {"full-message", fullMessage},
    {"cast", cast},
    {"pipelining", pipelining},
    {"pipelining-any", pipeliningAny},
    {"pipelining-after-drop", pipeliningAfterDrop},
    {"pipelined-null", pipelinedNull},
    {"pipeline-only", pipelineOnly},
    {"callback", callback},
};

}  // namespace

kj::ArrayPtr<const Named> callBehaviours() { return BEHAVIOURS; }
