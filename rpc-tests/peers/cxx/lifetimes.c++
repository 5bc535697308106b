// Who is alive when, who is told of a cancellation, and the end of a connection.
#include <sys/socket.h>

#include "harness.h"

namespace {

void holdAndGet(Context& c) {
  capnp::CapabilityServerSet<TestInterface> set;
  auto theirs = c.theirs<TestMoreStuff>();
  auto [probe, cap] = c.oursIn(set);
  auto hold = theirs.holdRequest();
  hold.setCap(cap);
  c.wait(hold.send());
  CHECK(c.wait(theirs.callHeldRequest().send()).getS() == "bar");
  CHECK(probe->calls == 1, probe->calls);
  auto held = c.wait(theirs.getHeldRequest().send()).getCap();
  CHECK(c.wait(set.getLocalServer(held)) != nullptr, "what came back is not our object");
  checkFoo(c, held);
  CHECK(probe->calls == 2, probe->calls);
}

void holdReleases(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  kj::Own<Probe> first;
  {
    auto [probe, cap] = c.ours();
    auto hold = theirs.holdRequest();
    hold.setCap(cap);
    c.wait(hold.send());
    first = kj::mv(probe);
  }
  CHECK(c.wait(theirs.callHeldRequest().send()).getS() == "bar");
  CHECK(first->calls == 1, first->calls);
  CHECK(!first->isDropped, "released while it was held");
  auto [second, cap] = c.ours();
  auto hold = theirs.holdRequest();
  hold.setCap(cap);
  c.wait(hold.send());
  c.wait(first->dropped->wait());
  CHECK(!second->isDropped);
}

unsigned handlesHere(Context& c) {
  return c.wait(c.control().liveHandlesRequest().send()).getHere();
}

void releaseResult(Context& c) {
  CHECK(handlesHere(c) == 0);
  auto theirs = c.theirs<TestMoreStuff>();
  {
    auto handle1 = c.wait(theirs.getHandleRequest().send()).getHandle();
    CHECK(handlesHere(c) == 1);
    {
      auto handle2 = c.wait(theirs.getHandleRequest().send()).getHandle();
      CHECK(handlesHere(c) == 2);
    }
    c.until("one handle lives", [&]() { return handlesHere(c) == 1; });
  }
  c.until("no handle lives", [&]() { return handlesHere(c) == 0; });
}

void releaseParameter(Context& c) {
  kj::Own<Probe> seen;
  {
    auto [probe, cap] = c.ours();
    auto request = c.theirs<TestMoreStuff>().callFooRequest();
    request.setCap(kj::mv(cap));
    c.wait(request.send());
    seen = kj::mv(probe);
  }
  c.wait(seen->dropped->wait());
}

void dropInCall(Context& c) {
  auto gate = newEvent();
  auto [probe, cap] = c.gated(*gate);
  kj::Maybe<capnp::RemotePromise<TestMoreStuff::CallFooResults>> call;
  {
    auto object = c.wait(c.objects().testMoreStuffRequest().send()).getObject();
    auto request = object.callFooRequest();
    request.setCap(cap);
    call = request.send();
  }
  c.wait(probe->called->wait());
  c.ping();
  gate->happen();
  CHECK(c.wait(KJ_ASSERT_NONNULL(call)).getS() == "bar");
}

template <typename Request>
void dropAndExpectRelease(Context& c, Request request) {
  kj::Own<Probe> seen;
  {
    auto [probe, cap] = c.ours();
    request.setCap(kj::mv(cap));
    auto promise = request.send();
    seen = kj::mv(probe);
    c.ping();
    CHECK(!seen->isDropped, "released before the call was canceled");
  }
  c.wait(seen->dropped->wait());
}

void cancelReleasesParameters(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  dropAndExpectRelease(c, theirs.expectCancelRequest());
  dropAndExpectRelease(c, theirs.neverReturnRequest());
}

void cancelReachesHandler(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  auto control = c.control();
  auto count = [&]() { return c.wait(control.cancellationsRequest().send()).getCount(); };
  {
    auto expect = theirs.expectCancelRequest().send();
    auto never = theirs.neverReturnRequest().send();
    // An answer of the same object: both methods have begun.
    c.wait(theirs.getNullRequest().send());
    CHECK(count() == 0);
  }
  c.until("two calls were canceled", [&]() { return count() == 2; });
}

void disconnect(Context& c) {
  auto second = c.connect();
  auto theirs = second.rpc->bootstrap().castAs<TestMoreStuff>();
  auto [probe, cap] = c.ours();
  auto handle = c.wait(theirs.getHandleRequest().send()).getHandle();
  auto request = theirs.neverReturnRequest();
  request.setCap(kj::mv(cap));
  auto inFlight = request.send();
  checkFoo(c, theirs.castAs<TestInterface>());

  auto handles = [&]() { return c.wait(c.control().liveHandlesRequest().send()).getAll(); };
  unsigned before = c.hasControl ? handles() : 0;
  KJ_SYSCALL(shutdown(second.fd, SHUT_RDWR));

  auto error = c.failure(inFlight);
  CHECK(error.getType() == kj::Exception::Type::DISCONNECTED, error);
  auto later = c.failure(sendFoo(theirs.castAs<TestInterface>()));
  CHECK(later.getType() == kj::Exception::Type::DISCONNECTED, later);
  c.wait(probe->dropped->wait());
  if (c.hasControl) {
    c.until("the server dropped the handle", [&]() { return handles() == before - 1; });
  }
}

constexpr Named BEHAVIOURS[] = {
    {"hold", holdAndGet},
    {"hold-releases", holdReleases},
    {"release-result", releaseResult},
    {"release-parameter", releaseParameter},
    {"drop-in-call", dropInCall},
    {"cancel-releases-parameters", cancelReleasesParameters},
    {"cancel-reaches-handler", cancelReachesHandler},
    {"disconnect", disconnect},
};

}  // namespace

kj::ArrayPtr<const Named> lifetimeBehaviours() { return BEHAVIOURS; }
