// Scripts of calls, drawn at random from a seed, whose every result is known beforehand.
//
// The same as `src/conformance/client/script.rs` does with this project's own client: a
// script has references to objects that number the calls which they get, the server's and
// its own, promises of its own, and what the server's `echo` makes of them. Calls through
// one reference arrive in order. Between two references to one object there is no order, so
// the script waits for the answers of one before it goes on with the other.
#include "scripts.h"

#include <cstdio>
#include <optional>
#include <random>
#include <vector>

#include "harness.h"
#include "ours.h"

namespace {

// A script is as long as several behaviours.
constexpr auto DEADLINE = 200 * kj::SECONDS;
constexpr unsigned STEPS = 150;
constexpr size_t REFERENCES = 12;
constexpr auto WHY_BROKEN = "the script broke this promise"_kj;

// What was done, for whoever reads a failure.
using Steps = kj::Vector<kj::String>;

// What a reference leads to, as far as the script knows by now.
struct Place {
  enum Kind { OBJECT, PROMISE, BROKEN };
  Kind kind;
  size_t index = 0;
};

kj::String KJ_STRINGIFY(Place place) {
  switch (place.kind) {
    case Place::OBJECT: return kj::str("object ", place.index);
    case Place::PROMISE: return kj::str("promise ", place.index);
    case Place::BROKEN: break;
  }
  return kj::str("what is broken");
}

struct Reference {
  unsigned number;
  TestCallOrder::Client cap;
  Place place;
};

// Nobody has this number.
constexpr unsigned NO_REFERENCE = 0;

struct Object {
  // The number of its next call.
  unsigned next = 0;
  // The reference through which it was called last.
  unsigned caller = NO_REFERENCE;
};

struct ScriptPromise {
  kj::Own<kj::PromiseFulfiller<TestCallOrder::Client>> fulfiller;
  // What it is a promise for, once it is resolved.
  std::optional<Place> place;
  // The reference through which it is called until then.
  unsigned caller = NO_REFERENCE;
};

// How a call ends: unknown as long as what was called is a promise.
struct Expected {
  enum Kind { UNKNOWN, NUMBER, FAILURE };
  Kind kind;
  unsigned number = 0;
};

struct Call {
  capnp::RemotePromise<TestCallOrder::GetCallSequenceResults> answer;
  // What was called when it was made.
  Place place;
  Expected expected;
};

// An echo that was not looked at yet, and the reference that was pipelined from it.
struct Echo {
  capnp::RemotePromise<TestMoreStuff::EchoResults> answer;
  Place place;
  unsigned number;
};

class Script {
public:
  Script(Context& c, uint64_t seed, Steps& steps)
      : c(c), random(seed), steps(steps), theirs(c.theirs<TestMoreStuff>()) {}

  void run() {
    newObjectOfOurs();
    for (unsigned i = 0; i < STEPS; i++) step();
    while (!openPromises().empty()) resolveAPromise();
    settleAll();
  }

private:
  Context& c;
  std::mt19937_64 random;
  Steps& steps;
  TestMoreStuff::Client theirs;
  std::vector<Reference> references;
  std::vector<Object> objects;
  std::vector<ScriptPromise> promises;
  std::vector<Call> calls;
  std::vector<Echo> echoes;
  unsigned lastNumber = NO_REFERENCE;
  // How many calls were canceled, and how many of those had begun.
  unsigned canceled = 0;
  unsigned begunAndCanceled = 0;

  void step() {
    switch (below(22)) {
      case 0: return newObjectOfTheirs();
      case 1: return newObjectOfOurs();
      case 2: return newPromiseOfOurs();
      case 3:
      case 4:
      case 5: return echo();
      case 6: return readEcho();
      case 7: return forgetEcho();
      case 8: return resolveAPromise();
      case 9: return dropReference();
      case 10: return settleAll();
      case 11: return callBack();
      case 12: return cancel();
      case 13: return turn();
      default: return call();
    }
  }

  size_t below(size_t end) { return random() % end; }

  template <typename... Parts>
  void note(Parts&&... parts) {
    steps.add(kj::str(kj::fwd<Parts>(parts)...));
  }

  // Sends what is to be sent, and handles what has arrived, without waiting for more.
  void turn() {
    note("turn");
    c.turn();
  }

  // References.

  unsigned add(TestCallOrder::Client cap, Place place) {
    auto number = ++lastNumber;
    references.push_back({number, kj::mv(cap), place});
    if (references.size() > REFERENCES) references.erase(references.begin());
    return number;
  }

  Reference& someReference() { return references[below(references.size())]; }

  Place newObject() {
    objects.emplace_back();
    return {Place::OBJECT, objects.size() - 1};
  }

  // What a place is by now.
  Place now(Place place) const {
    while (place.kind == Place::PROMISE && promises[place.index].place) {
      place = *promises[place.index].place;
    }
    return place;
  }

  void newObjectOfTheirs() {
    auto place = newObject();
    auto number = add(c.objects().testCallOrderRequest().send().getObject(), place);
    note("reference ", number, ": new object of theirs, ", place);
  }

  void newObjectOfOurs() {
    auto place = newObject();
    auto number = add(kj::heap<OurCallOrder>(), place);
    note("reference ", number, ": new object of ours, ", place);
  }

  void newPromiseOfOurs() {
    auto promise = newPromise<TestCallOrder>();
    promises.push_back({kj::mv(promise.fulfiller), std::nullopt});
    Place place = {Place::PROMISE, promises.size() - 1};
    auto number = add(kj::mv(promise.cap), place);
    note("reference ", number, ": new promise of ours, ", place);
  }

  void dropReference() {
    if (references.size() < 2) return;
    auto dropped = references.begin() + below(references.size());
    note("drop reference ", dropped->number);
    references.erase(dropped);
  }

  // Echoes.

  void echo() {
    auto& reference = someReference();
    auto from = reference.number;
    auto place = reference.place;
    auto request = theirs.echoRequest();
    request.setCap(reference.cap);
    auto answer = request.send();
    auto number = add(answer.getCap(), place);
    note("reference ", number, ": echo of reference ", from);
    echoes.push_back({kj::mv(answer), place, number});
  }

  Echo takeEcho() {
    auto at = echoes.begin() + below(echoes.size());
    auto taken = kj::mv(*at);
    echoes.erase(at);
    return taken;
  }

  // Waits for an echo, and goes on with the capability in its results instead of the one
  // that was pipelined.
  void readEcho() {
    if (echoes.empty()) return;
    auto echo = takeEcho();
    auto cap = c.wait(echo.answer).getCap();
    for (auto old = references.begin(); old != references.end(); ++old) {
      if (old->number == echo.number) {
        references.erase(old);
        break;
      }
    }
    auto number = add(kj::mv(cap), echo.place);
    note("reference ", number, ": result of the echo for reference ", echo.number);
  }

  // What was pipelined stays. If that is gone, too, this cancels the call.
  void forgetEcho() {
    if (echoes.empty()) return;
    note("forget the echo for reference ", takeEcho().number);
  }

  // Promises.

  std::vector<size_t> openPromises() const {
    std::vector<size_t> open;
    for (size_t i = 0; i < promises.size(); i++) {
      if (!promises[i].place) open.push_back(i);
    }
    return open;
  }

  void resolveAPromise() {
    auto open = openPromises();
    if (open.empty()) return;
    auto index = open[below(open.size())];
    auto& promise = promises[index];
    // Only with what leads to an object: open promises would make the script's own
    // book-keeping the hard part.
    std::vector<Reference*> targets;
    for (auto& reference: references) {
      if (now(reference.place).kind == Place::OBJECT) targets.push_back(&reference);
    }
    if (targets.empty() || below(5) == 0) {
      note("reject promise ", index);
      promise.place = Place{Place::BROKEN};
      promise.fulfiller->reject(KJ_EXCEPTION(FAILED, WHY_BROKEN));
      for (auto* call: queued(index)) call->expected = {Expected::FAILURE};
      return;
    }
    auto& target = *targets[below(targets.size())];
    auto place = now(target.place);
    settle(place.index);
    note("fulfill promise ", index, " with reference ", target.number);
    promise.place = place;
    promise.fulfiller->fulfill(kj::cp(target.cap));
    // What waited is delivered.
    auto& object = objects[place.index];
    for (auto* call: queued(index)) {
      call->expected = {Expected::NUMBER, object.next++};
      object.caller = promise.caller;
    }
  }

  // The calls that wait in a promise, in order.
  std::vector<Call*> queued(size_t promise) {
    std::vector<Call*> queued;
    for (auto& call: calls) {
      bool waits = call.expected.kind == Expected::UNKNOWN;
      if (waits && call.place.index == promise) queued.push_back(&call);
    }
    return queued;
  }

  // Calls.

  void call() {
    auto& reference = someReference();
    auto place = now(reference.place);
    Expected expected = {Expected::FAILURE};
    if (place.kind == Place::PROMISE) {
      auto& caller = promises[place.index].caller;
      // Its calls are queued: nobody can wait for them now.
      if (caller != NO_REFERENCE && caller != reference.number) return;
      caller = reference.number;
      expected = {Expected::UNKNOWN};
    } else if (place.kind == Place::OBJECT) {
      auto& object = objects[place.index];
      if (object.caller != NO_REFERENCE && object.caller != reference.number) {
        settle(place.index);
      }
      object.caller = reference.number;
      expected = {Expected::NUMBER, object.next++};
    }
    note("call reference ", reference.number, ", ", place);
    calls.push_back({sequence(reference.cap, expected.number), place, expected});
  }

  // Waits for the calls of one object.
  void settle(size_t object) {
    note("settle object ", object);
    settleWhere(
        [&](Place place) { return place.kind == Place::OBJECT && place.index == object; });
  }

  // Waits for all calls that can be answered by now.
  void settleAll() {
    note("settle");
    settleWhere([](Place) { return true; });
  }

  template <typename Which>
  void settleWhere(Which which) {
    std::vector<Call> open;
    for (auto& call: calls) {
      if (call.expected.kind == Expected::UNKNOWN || !which(now(call.place))) {
        open.push_back(kj::mv(call));
      } else if (call.expected.kind == Expected::NUMBER) {
        auto n = c.wait(call.answer).getN();
        CHECK(n == call.expected.number, n, call.expected.number, call.place);
      } else {
        auto error = c.failure(call.answer);
        CHECK(has(error.getDescription(), WHY_BROKEN), error);
      }
    }
    calls = kj::mv(open);
  }

  // The rest.

  void callBack() {
    note("callFoo");
    auto [probe, cap] = c.ours();
    auto request = theirs.callFooRequest();
    request.setCap(cap);
    CHECK(c.wait(request.send()).getS() == "bar");
    CHECK(probe->calls == 1, probe->calls);
  }

  void cancel() {
    bool expects = below(2) == 0;
    bool begins = below(2) == 0;
    note(expects ? "expectCancel" : "neverReturn", begins ? ", begun" : "", ", canceled");
    auto probe = expects ? sendAndDrop(theirs.expectCancelRequest(), begins)
                         : sendAndDrop(theirs.neverReturnRequest(), begins);
    c.wait(probe->dropped->wait());
    canceled++;
    if (begins) begunAndCanceled++;
    c.until("the server has seen what was canceled", [&]() {
      auto seen = c.wait(c.control().cancellationsRequest().send()).getCount();
      CHECK(seen <= canceled, seen, canceled);
      return seen >= begunAndCanceled;
    });
  }

  template <typename Request>
  kj::Own<Probe> sendAndDrop(Request request, bool begins) {
    auto ours = c.ours();
    request.setCap(kj::mv(ours.cap));
    auto promise = request.send();
    // An answer of the same object: the method has begun. Otherwise it may never begin.
    if (begins) c.wait(theirs.getNullRequest().send());
    return kj::mv(ours.probe);
  }
};

using TableSizes = capnp::Response<TestControl::TableSizesResults>;

// Nothing if the server does not tell.
kj::Maybe<TableSizes> tableSizes(Context& c) {
  kj::Maybe<TableSizes> sizes;
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() {
    sizes = c.wait(c.control().tableSizesRequest().send());
  })) {
    if (e->getType() != kj::Exception::Type::UNIMPLEMENTED) kj::throwFatalException(kj::mv(*e));
  }
  return sizes;
}

void runScript(Context& c, uint64_t seed, Steps& steps) {
  // The first call settles what the bootstrap itself takes.
  tableSizes(c);
  auto before = tableSizes(c);
  Script(c, seed, steps).run();
  c.ping();
  KJ_IF_MAYBE(b, before) {
    capnp::AnyStruct::Reader old(b->getSizes());
    c.until("the tables are as they were before", [&]() {
      auto sizes = c.wait(c.control().tableSizesRequest().send());
      return capnp::AnyStruct::Reader(sizes.getSizes()) == old;
    });
  }
}

}  // namespace

int runScripts(kj::AsyncIoContext& io, kj::StringPtr address, kj::ArrayPtr<char* const> seeds) {
  Context c(io, address);
  for (kj::StringPtr seed: seeds) {
    Steps steps;
    auto exception = kj::runCatchingExceptions([&]() {
      c.begin(DEADLINE);
      runScript(c, seed.parseAs<uint64_t>(), steps);
    });
    c.end();
    KJ_IF_MAYBE(e, exception) {
      printf("FAIL %s: %s\n%s\n", seed.cStr(), reasonOf(*e).c_str(), kj::strArray(steps, "\n").cStr());
      fflush(stdout);
      return 1;
    }
    printf("ok %s\n", seed.cStr());
    fflush(stdout);
  }
  return 0;
}
