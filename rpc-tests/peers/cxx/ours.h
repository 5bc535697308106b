// Objects and promises of the client's own that several files need.
#pragma once

#include <capnp/capability.h>

#include "test.capnp.h"

// Does what the schema says: numbers the calls.
class OurCallOrder final: public TestCallOrder::Server {
public:
  kj::Promise<void> getCallSequence(GetCallSequenceContext context) override {
    context.getResults().setN(next++);
    return kj::READY_NOW;
  }

private:
  unsigned next = 0;
};

// A promise for a capability, to be resolved later.
template <typename T>
struct OurPromise {
  typename T::Client cap;
  kj::Own<kj::PromiseFulfiller<typename T::Client>> fulfiller;
};

template <typename T>
OurPromise<T> newPromise() {
  auto paf = kj::newPromiseAndFulfiller<typename T::Client>();
  return {kj::mv(paf.promise), kj::mv(paf.fulfiller)};
}
