// Runs behaviours against a server: connections, deadlines, checks, and the
// client's own objects that tell what happened to them.
#pragma once

#include <map>
#include <string>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/debug.h>
#include <kj/refcount.h>
#include <kj/timer.h>

#include "test-control.capnp.h"
#include "test.capnp.h"

#define CHECK(condition, ...) KJ_REQUIRE(condition, ##__VA_ARGS__)

// Something that happens once.
class Event: public kj::Refcounted {
public:
  Event(): Event(kj::newPromiseAndFulfiller<void>()) {}
  void happen() { fulfiller->fulfill(); }
  kj::Promise<void> wait() { return promise.addBranch(); }
  kj::Own<Event> addRef() { return kj::addRef(*this); }

private:
  explicit Event(kj::PromiseFulfillerPair<void> pair)
      : fulfiller(kj::mv(pair.fulfiller)), promise(pair.promise.fork()) {}

  kj::Own<kj::PromiseFulfiller<void>> fulfiller;
  kj::ForkedPromise<void> promise;
};

inline kj::Own<Event> newEvent() { return kj::refcounted<Event>(); }

// What becomes known of one of the client's own objects.
struct Probe: public kj::Refcounted {
  unsigned calls = 0;
  kj::Own<Event> called = newEvent();
  kj::Own<Event> canceled = newEvent();
  kj::Own<Event> dropped = newEvent();
  bool isDropped = false;
};

class Context {
public:
  Context(kj::AsyncIoContext& io, kj::StringPtr address);

  // The server's bootstrap object over this behaviour's connection.
  template <typename T>
  typename T::Client theirs() {
    return rpc->bootstrap().castAs<T>();
  }

  // A new object of the server.
  TestObjects::Client objects() { return theirs<TestObjects>(); }

  // A TestInterface of our own, and what becomes known of it.
  struct Ours {
    kj::Own<Probe> probe;
    TestInterface::Client cap;
  };
  Ours ours();
  // One that the set recognises.
  Ours oursIn(capnp::CapabilityServerSet<TestInterface>& set);
  // One whose calls wait until the event.
  Ours gated(Event& gate);

  // Waits, until the behaviour's deadline.
  template <typename T>
  T wait(kj::Promise<T> promise) {
    return promise.exclusiveJoin(deadline<T>()).wait(io.waitScope);
  }
  // The promise keeps its pipeline.
  template <typename T>
  capnp::Response<T> wait(capnp::RemotePromise<T>& promise) {
    return wait(kj::mv(static_cast<kj::Promise<capnp::Response<T>>&>(promise)));
  }
  template <typename T>
  capnp::Response<T> wait(capnp::RemotePromise<T>&& promise) {
    return wait(promise);
  }

  // Waits for a failure and returns it.
  template <typename T>
  kj::Exception failure(T&& promise) {
    KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() { (void)wait(kj::fwd<T>(promise)); })) {
      CHECK(!isDeadline(*e), "no answer within the deadline");
      return kj::mv(*e);
    }
    KJ_FAIL_REQUIRE("a call that must fail succeeded");
  }

  // Asks again and again, each time over the connection, until it is so.
  void until(const char* what, kj::Function<bool()> condition);

  // A call on the bootstrap object, answered.
  void ping();

  // Sends what is to be sent, and handles what has arrived, without waiting for more.
  void turn() { io.waitScope.poll(); }

  // The view into the server. Skips the behaviour when there is none.
  TestControl::Client control();
  bool hasControl = true;

  // A second connection, whose socket the caller may shut down.
  struct Connection {
    kj::Own<kj::AsyncIoStream> stream;
    kj::Own<capnp::TwoPartyClient> rpc;
    int fd;
  };
  Connection connect();
  bool passesFds() const { return isUnix; }

  // Ends the behaviour as one that this client can't show.
  [[noreturn]] void skip(kj::StringPtr reason);

  // What it waits for fails when so much time has passed.
  void begin(kj::Duration within);
  void end();
  // The reason, if the behaviour was skipped.
  kj::Maybe<kj::String> skipped;

private:
  kj::AsyncIoContext& io;
  kj::String address;
  bool isUnix;
  kj::TimePoint deadlineAt;
  kj::Own<kj::AsyncIoStream> stream;
  kj::Own<capnp::TwoPartyClient> rpc;

  template <typename T>
  kj::Promise<T> deadline() {
    return io.provider->getTimer().atTime(deadlineAt).then(
        []() -> kj::Promise<T> { return deadlineError(); });
  }
  static kj::Exception deadlineError();
  static bool isDeadline(const kj::Exception& e);
};

// Calls foo(123, true) and checks the answer, or foo(321, false) of TestExtends.
void checkFoo(Context& c, TestInterface::Client cap);
capnp::RemotePromise<TestInterface::FooResults> sendFoo(TestInterface::Client cap);
capnp::RemotePromise<TestInterface::FooResults> sendExtendsFoo(TestInterface::Client cap);
void checkExtendsFoo(Context& c, TestInterface::Client cap);

capnp::RemotePromise<TestCallOrder::GetCallSequenceResults> sequence(
    TestCallOrder::Client cap, unsigned expected);

inline bool has(kj::StringPtr text, kj::StringPtr part) {
  return std::string(text.cStr()).find(part.cStr()) != std::string::npos;
}

// What went wrong, and where, on one line.
std::string reasonOf(const kj::Exception& e);

using Behaviour = void (*)(Context&);
struct Named {
  const char* name;
  Behaviour run;
};
// The behaviours of each file, in the order of the table in README.md.
kj::ArrayPtr<const Named> callBehaviours();
kj::ArrayPtr<const Named> promiseBehaviours();
kj::ArrayPtr<const Named> lifetimeBehaviours();
kj::ArrayPtr<const Named> membraneBehaviours();
kj::ArrayPtr<const Named> bulkBehaviours();

// Runs what is selected, all if nothing is, and returns the exit code.
int callAll(kj::AsyncIoContext& io, kj::StringPtr address, kj::ArrayPtr<char* const> selected);
