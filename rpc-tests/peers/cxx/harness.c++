#include "harness.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cancelable.h"

namespace {

constexpr auto DEADLINE = 20 * kj::SECONDS;
constexpr const char* DEADLINE_TEXT = "no answer within the deadline";

class OurObject final: public Cancelable<TestInterface::Server> {
public:
  explicit OurObject(Probe& probe, kj::Maybe<kj::Own<Event>> gate = nullptr)
      : probe(kj::addRef(probe)), gate(kj::mv(gate)) {}

  ~OurObject() noexcept(false) {
    probe->isDropped = true;
    probe->dropped->happen();
  }

  kj::Promise<void> foo(FooContext context) override {
    auto params = context.getParams();
    KJ_REQUIRE(params.getI() == 123 && params.getJ(), "foo takes 123 and true");
    ++probe->calls;
    probe->called->happen();
    context.getResults().setX("foo");
    KJ_IF_MAYBE(g, gate) { return (*g)->wait(); }
    return kj::READY_NOW;
  }

private:
  kj::Own<Probe> probe;
  kj::Maybe<kj::Own<Event>> gate;
};

std::string oneLine(kj::StringPtr text) {
  std::string result = text.cStr();
  std::replace(result.begin(), result.end(), '\n', ' ');
  return result;
}

}  // namespace

Context::Context(kj::AsyncIoContext& io, kj::StringPtr address)
    : io(io), address(kj::heapString(address)), isUnix(address.startsWith("unix:")),
      deadlineAt(kj::origin<kj::TimePoint>()) {}

void Context::skip(kj::StringPtr reason) {
  skipped = kj::heapString(reason);
  kj::throwFatalException(KJ_EXCEPTION(UNIMPLEMENTED, reason));
}

void Context::begin(kj::Duration within) {
  skipped = nullptr;
  deadlineAt = io.provider->getTimer().now() + within;
  auto connection = connect();
  stream = kj::mv(connection.stream);
  rpc = kj::mv(connection.rpc);
}

void Context::end() {
  rpc = nullptr;
  stream = nullptr;
}

Context::Connection Context::connect() {
  auto remote = wait(io.provider->getNetwork().parseAddress(address));
  auto stream = wait(remote->connect());
  int fd = KJ_REQUIRE_NONNULL(stream->getFd());
  kj::Own<capnp::TwoPartyClient> rpc;
  if (isUnix) {
    constexpr unsigned MAX_FDS_PER_MESSAGE = 4;
    auto& capStream = kj::downcast<kj::AsyncCapabilityStream>(*stream);
    rpc = kj::heap<capnp::TwoPartyClient>(capStream, MAX_FDS_PER_MESSAGE);
  } else {
    rpc = kj::heap<capnp::TwoPartyClient>(*stream);
  }
  return {kj::mv(stream), kj::mv(rpc), fd};
}

Context::Ours Context::ours() {
  auto probe = kj::refcounted<Probe>();
  TestInterface::Client cap = kj::heap<OurObject>(*probe);
  return {kj::mv(probe), kj::mv(cap)};
}

Context::Ours Context::oursIn(capnp::CapabilityServerSet<TestInterface>& set) {
  auto probe = kj::refcounted<Probe>();
  auto cap = set.add(kj::heap<OurObject>(*probe));
  return {kj::mv(probe), kj::mv(cap)};
}

Context::Ours Context::gated(Event& gate) {
  auto probe = kj::refcounted<Probe>();
  TestInterface::Client cap = kj::heap<OurObject>(*probe, gate.addRef());
  return {kj::mv(probe), kj::mv(cap)};
}

TestControl::Client Context::control() {
  if (!hasControl) skip("the server has no TestControl to ask");
  return theirs<TestControl>();
}

void Context::until(const char* what, kj::Function<bool()> condition) {
  while (!condition()) {
    CHECK(io.provider->getTimer().now() < deadlineAt, "not within the deadline", what);
  }
}

void Context::ping() { checkFoo(*this, theirs<TestInterface>()); }

kj::Exception Context::deadlineError() { return KJ_EXCEPTION(FAILED, DEADLINE_TEXT); }

bool Context::isDeadline(const kj::Exception& e) { return e.getDescription() == DEADLINE_TEXT; }

// =======================================================================================

capnp::RemotePromise<TestInterface::FooResults> sendFoo(TestInterface::Client cap) {
  auto request = cap.fooRequest();
  request.setI(123);
  request.setJ(true);
  return request.send();
}

capnp::RemotePromise<TestInterface::FooResults> sendExtendsFoo(TestInterface::Client cap) {
  auto request = cap.fooRequest();
  request.setI(321);
  request.setJ(false);
  return request.send();
}

void checkFoo(Context& c, TestInterface::Client cap) {
  auto response = c.wait(sendFoo(kj::mv(cap)));
  CHECK(response.getX() == "foo", response.getX());
}

void checkExtendsFoo(Context& c, TestInterface::Client cap) {
  auto response = c.wait(sendExtendsFoo(kj::mv(cap)));
  CHECK(response.getX() == "bar", response.getX());
}

capnp::RemotePromise<TestCallOrder::GetCallSequenceResults> sequence(
    TestCallOrder::Client cap, unsigned expected) {
  auto request = cap.getCallSequenceRequest();
  request.setExpected(expected);
  return request.send();
}

// =======================================================================================

std::string reasonOf(const kj::Exception& e) {
  return oneLine(kj::str(e.getFile(), ':', e.getLine(), ": ", e.getDescription()));
}

namespace {

struct Server {
  kj::String name = kj::str("the server");
  std::map<std::string, std::string> limits;
};

Server askServer(Context& c) {
  Server server;
  c.begin(DEADLINE);
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() {
    auto response = c.wait(c.control().implementationRequest().send());
    server.name = kj::heapString(response.getName());
    for (auto limit: response.getLimits()) {
      server.limits[limit.getBehaviour().cStr()] = limit.getWhy().cStr();
    }
  })) {
    if (e->getType() != kj::Exception::Type::UNIMPLEMENTED) kj::throwFatalException(kj::mv(*e));
    c.hasControl = false;
  }
  c.end();
  return server;
}

}  // namespace

int callAll(kj::AsyncIoContext& io, kj::StringPtr address, kj::ArrayPtr<char* const> selected) {
  Context c(io, address);
  Server server;
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() { server = askServer(c); })) {
    printf("FAIL connect: %s\n0 passed, 1 failed\n", oneLine(e->getDescription()).c_str());
    return 1;
  }
  unsigned passed = 0;
  unsigned failed = 0;
  auto report = [](const char* verdict, const char* name, const std::string& reason) {
    printf("%s %s%s%s\n", verdict, name, reason.empty() ? "" : ": ", reason.c_str());
    fflush(stdout);
  };
  kj::ArrayPtr<const Named> all[] = {callBehaviours(), promiseBehaviours(), lifetimeBehaviours(),
                                     membraneBehaviours(), bulkBehaviours()};
  for (auto behaviours: all) {
    for (auto& behaviour: behaviours) {
      if (selected.size() > 0 &&
          std::none_of(selected.begin(), selected.end(),
                       [&](const char* s) { return strcmp(s, behaviour.name) == 0; })) {
        continue;
      }
      auto limit = server.limits.find(behaviour.name);
      if (limit != server.limits.end()) {
        report("skip", behaviour.name, std::string(server.name.cStr()) + ": " + limit->second);
        continue;
      }
      auto exception = kj::runCatchingExceptions([&]() {
        c.begin(DEADLINE);
        behaviour.run(c);
        c.ping();
      });
      KJ_IF_MAYBE(reason, c.skipped) {
        report("skip", behaviour.name, std::string("this client: ") + reason->cStr());
      } else KJ_IF_MAYBE(e, exception) {
        ++failed;
        report("FAIL", behaviour.name, reasonOf(*e));
      } else {
        ++passed;
        report("ok", behaviour.name, "");
      }
      c.end();
    }
  }
  printf("%u passed, %u failed\n", passed, failed);
  fflush(stdout);
  return failed == 0 ? 0 : 1;
}
