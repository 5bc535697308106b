// The membrane of the conformance interfaces: it has intercept answered by things of
// its own.
#pragma once

#include <capnp/membrane.h>
#include <kj/refcount.h>

#include "test.capnp.h"

class Intercepts final: public capnp::MembranePolicy, public kj::Refcounted {
public:
  Intercepts(): Intercepts(kj::newPromiseAndFulfiller<void>()) {}

  void revoke() { fulfiller->reject(KJ_EXCEPTION(FAILED, "the membrane was revoked")); }

  kj::Maybe<capnp::Capability::Client> inboundCall(
      uint64_t interfaceId, uint16_t methodId, capnp::Capability::Client target) override {
    return instead(interfaceId, methodId, "inbound");
  }

  kj::Maybe<capnp::Capability::Client> outboundCall(
      uint64_t interfaceId, uint16_t methodId, capnp::Capability::Client target) override {
    return instead(interfaceId, methodId, "outbound");
  }

  kj::Own<MembranePolicy> addRef() override { return kj::addRef(*this); }
  // What is called through a promise from inside may turn out to be from outside, and
  // then its calls are none of the membrane's. Before 1.0 this was the default.
  bool shouldResolveBeforeRedirecting() override { return true; }
  kj::Maybe<kj::Promise<void>> onRevoked() override { return revoked.addBranch(); }

private:
  explicit Intercepts(kj::PromiseFulfillerPair<void> pair)
      : fulfiller(kj::mv(pair.fulfiller)), revoked(pair.promise.fork()) {}

  class Says final: public TestMembrane::Thing::Server {
  public:
    explicit Says(kj::StringPtr text): text(text) {}
    kj::Promise<void> intercept(InterceptContext context) override {
      context.getResults().setText(text);
      return kj::READY_NOW;
    }

  private:
    kj::StringPtr text;
  };

  kj::Maybe<capnp::Capability::Client> instead(
      uint64_t interfaceId, uint16_t methodId, kj::StringPtr text) {
    constexpr uint16_t INTERCEPT = 1;
    if (interfaceId != capnp::typeId<TestMembrane::Thing>() || methodId != INTERCEPT) {
      return nullptr;
    }
    return capnp::Capability::Client(kj::heap<Says>(text));
  }

  kj::Own<kj::PromiseFulfiller<void>> fulfiller;
  kj::ForkedPromise<void> revoked;
};
