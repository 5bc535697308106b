// Membranes, on this side and on theirs.
#include <kj/function.h>

#include "harness.h"
#include "membrane.h"

namespace {

class OurThing final: public TestMembrane::Thing::Server {
public:
  kj::Promise<void> passThrough(PassThroughContext context) override {
    context.getResults().setText("outside");
    return kj::READY_NOW;
  }
  kj::Promise<void> intercept(InterceptContext context) override {
    context.getResults().setText("outside");
    return kj::READY_NOW;
  }
};

void expect(Context& c, TestMembrane::Thing::Client thing, kj::StringPtr through,
            kj::StringPtr intercepted) {
  auto passed = c.wait(thing.passThroughRequest().send());
  CHECK(passed.getText() == through, passed.getText(), through);
  auto answered = c.wait(thing.interceptRequest().send());
  CHECK(answered.getText() == intercepted, answered.getText(), intercepted);
}

// Everything that a membrane does. `outside` is a TestMembrane behind one.
void throughAMembrane(Context& c, TestMembrane::Client outside, kj::Function<void()> revoke) {
  // Inside, as a promise and as what it becomes.
  auto making = outside.makeThingRequest().send();
  expect(c, making.getThing(), "inside", "inbound");
  auto inside = c.wait(making).getThing();
  expect(c, inside, "inside", "inbound");
  // Outside.
  TestMembrane::Thing::Client ours = kj::heap<OurThing>();
  auto pass = outside.callPassThroughRequest();
  pass.setThing(ours);
  CHECK(c.wait(pass.send()).getText() == "outside");
  auto intercept = outside.callInterceptRequest();
  intercept.setThing(ours);
  CHECK(c.wait(intercept.send()).getText() == "outbound");
  // In and out, as a promise and as what it becomes.
  auto loop = [&](TestMembrane::Thing::Client thing, kj::StringPtr through, kj::StringPtr intercepted) {
    auto loopback = outside.loopbackRequest();
    loopback.setThing(thing);
    auto looping = loopback.send();
    expect(c, looping.getThing(), through, intercepted);
    expect(c, c.wait(looping).getThing(), through, intercepted);
  };
  loop(ours, "outside", "outside");
  loop(inside, "inside", "inbound");
  // Revoked.
  auto waiting = outside.waitForeverRequest().send();
  expect(c, inside, "inside", "inbound");
  revoke();
  CHECK(has(c.failure(kj::mv(waiting)).getDescription(), "revoked"));
  CHECK(has(c.failure(inside.passThroughRequest().send()).getDescription(), "revoked"));
  CHECK(has(c.failure(outside.makeThingRequest().send()).getDescription(), "revoked"));
}

void membraneHere(Context& c) {
  auto policy = kj::refcounted<Intercepts>();
  auto outside = capnp::membrane(c.theirs<TestMembrane>(), policy->addRef());
  throughAMembrane(c, outside, [&]() { policy->revoke(); });
}

void membraneAtServer(Context& c) {
  auto made = c.wait(c.objects().membranedRequest().send());
  auto outside = made.getObject();
  kj::Maybe<TestHandle::Client> revoker = made.getRevoker();
  { auto drop = kj::mv(made); }
  throughAMembrane(c, outside, [&]() { revoker = nullptr; });
}

constexpr Named BEHAVIOURS[] = {
    {"membrane", membraneHere},
    {"membrane-at-server", membraneAtServer},
};

}  // namespace

kj::ArrayPtr<const Named> membraneBehaviours() { return BEHAVIOURS; }
