// Values and sizes, many things at once, and what only some can do.
#include <unistd.h>

#include <vector>

#include <kj/io.h>

#include "harness.h"

namespace {

void nullCapability(Context& c) {
  auto response = c.wait(c.theirs<TestMoreStuff>().getNullRequest().send());
  CHECK(!response.hasNullCap());
}

void defaults(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  {
    auto request = theirs.methodWithDefaultsRequest();
    request.setA("x");
    auto response = c.wait(request.send());
    CHECK(response.getD() == "x 123 foo", response.getD());
    CHECK(response.getE() == "bar", response.getE());
  }
  auto request = theirs.methodWithDefaultsRequest();
  request.setA("y");
  request.setB(4000000000);
  request.setC("z");
  auto response = c.wait(request.send());
  CHECK(response.getD() == "y 4000000000 z", response.getD());
}

void nullDefault(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  auto without = theirs.methodWithNullDefaultRequest();
  without.setA("x");
  c.wait(without.send());
  auto [probe, cap] = c.ours();
  auto with = theirs.methodWithNullDefaultRequest();
  with.setB(cap);
  c.wait(with.send());
  CHECK(probe->calls == 1, probe->calls);
}

void enormousResultFailsAlone(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  c.failure(theirs.getEnormousStringRequest().send());
  c.wait(sequence(theirs, 0));
}

void enormousParametersFailAlone(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  c.failure(kj::evalNow([&]() {
    auto request = theirs.methodWithDefaultsRequest();
    request.initA(100000000);
    return request.send().ignoreResult();
  }));
  c.wait(sequence(theirs, 0));
}

void largeMessages(Context& c) {
  constexpr size_t SIZE = 4 << 20;
  auto request = c.theirs<TestMoreStuff>().methodWithDefaultsRequest();
  auto text = request.initA(SIZE);
  for (size_t i = 0; i < SIZE; i++) text[i] = static_cast<char>('a' + i % 26);
  auto expected = kj::str(text, " 123 foo");
  auto response = c.wait(request.send());
  CHECK(response.getD() == expected, response.getD().size());
}

void streaming(Context& c) {
  auto theirs = c.wait(c.objects().testStreamingRequest().send()).getObject();
  kj::Vector<kj::Promise<void>> sent;
  for (unsigned n = 1; n <= 100; n++) {
    auto i = theirs.doStreamIRequest();
    i.setI(n);
    sent.add(i.send());
    auto j = theirs.doStreamJRequest();
    j.setJ(2 * n);
    sent.add(j.send());
  }
  auto response = c.wait(theirs.finishStreamRequest().send());
  CHECK(response.getTotalI() == 5050, response.getTotalI());
  CHECK(response.getTotalJ() == 10100, response.getTotalJ());
  c.wait(kj::joinPromises(sent.releaseAsArray()));
}

void sameCapabilityTwice(Context& c) {
  kj::Own<Probe> seen;
  {
    auto [probe, cap] = c.ours();
    auto request = c.theirs<TestPipeline>().testPointersRequest();
    request.setCap(cap);
    request.getObj().setAs<TestInterface>(cap);
    auto list = request.initList(2);
    list.set(0, cap);
    list.set(1, cap);
    c.wait(request.send());
    CHECK(probe->calls == 4, probe->calls);
    seen = kj::mv(probe);
  }
  c.wait(seen->dropped->wait());
}

void capabilitiesEverywhere(Context& c) {
  auto field = c.ours();
  auto pointer = c.ours();
  auto first = c.ours();
  auto last = c.ours();
  auto request = c.theirs<TestPipeline>().testPointersRequest();
  request.setCap(field.cap);
  request.getObj().setAs<TestInterface>(pointer.cap);
  auto list = request.initList(3);
  list.set(0, first.cap);
  list.set(2, last.cap);
  c.wait(request.send());
  for (auto* ours: {&field, &pointer, &first, &last}) {
    CHECK(ours->probe->calls == 1, ours->probe->calls);
  }
}

void manyCalls(Context& c) {
  auto theirs = c.wait(c.objects().testCallOrderRequest().send()).getObject();
  std::vector<capnp::RemotePromise<TestCallOrder::GetCallSequenceResults>> calls;
  for (unsigned i = 0; i < 1000; i++) calls.push_back(sequence(theirs, i));
  for (unsigned i = 0; i < 1000; i++) {
    auto n = c.wait(calls[i]).getN();
    CHECK(n == i, n, i);
  }
}

void manyCallbacks(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  auto gate = newEvent();
  auto [probe, cap] = c.gated(*gate);
  std::vector<capnp::RemotePromise<TestMoreStuff::CallFooResults>> calls;
  for (unsigned i = 0; i < 200; i++) {
    auto request = theirs.callFooRequest();
    request.setCap(cap);
    calls.push_back(request.send());
  }
  c.wait(probe->called->wait());
  gate->happen();
  for (auto& call: calls) CHECK(c.wait(call).getS() == "bar");
  CHECK(probe->calls == 200, probe->calls);
}

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

struct Side {
  TestMembrane::Thing::Client thing;
  kj::StringPtr text;
};

// A thing of theirs and one of ours.
kj::Array<Side> sides(Context& c) {
  auto made = c.wait(c.theirs<TestMembrane>().makeThingRequest().send());
  auto builder = kj::heapArrayBuilder<Side>(2);
  builder.add(Side{made.getThing(), "inside"});
  builder.add(Side{kj::heap<OurThing>(), "outside"});
  return builder.finish();
}

void callThroughServer(Context& c, Side& side, bool tailCall) {
  auto theirs = c.theirs<TestMembrane>();
  auto pass = theirs.callPassThroughRequest();
  pass.setThing(side.thing);
  pass.setTailCall(tailCall);
  CHECK(c.wait(pass.send()).getText() == side.text, side.text);
  auto intercept = theirs.callInterceptRequest();
  intercept.setThing(side.thing);
  intercept.setTailCall(tailCall);
  CHECK(c.wait(intercept.send()).getText() == side.text, side.text);
}

void membraneObjects(Context& c) {
  for (auto& side: sides(c)) {
    callThroughServer(c, side, false);
    auto loopback = c.theirs<TestMembrane>().loopbackRequest();
    loopback.setThing(side.thing);
    auto back = c.wait(loopback.send()).getThing();
    CHECK(c.wait(back.passThroughRequest().send()).getText() == side.text, side.text);
    CHECK(c.wait(side.thing.interceptRequest().send()).getText() == side.text, side.text);
  }
}

void membraneTailCalls(Context& c) {
  for (auto& side: sides(c)) callThroughServer(c, side, true);
}

void callerId(Context& c) {
  using VatId = capnp::rpc::twoparty::VatId;
  auto theirs = c.theirs<TestAuthenticatedBootstrap<VatId>>();
  auto caller = c.wait(theirs.getCallerIdRequest().send());
  CHECK(caller.getCaller().getSide() == capnp::rpc::twoparty::Side::CLIENT);
}

class OurFile final: public TestInterface::Server {
public:
  explicit OurFile(kj::AutoCloseFd fd): fd(kj::mv(fd)) {}
  kj::Maybe<int> getFd() override { return fd.get(); }

private:
  kj::AutoCloseFd fd;
};

struct Pipe {
  kj::AutoCloseFd reading;
  kj::AutoCloseFd writing;
};

Pipe newPipe() {
  int ends[2];
  KJ_SYSCALL(pipe(ends));
  return {kj::AutoCloseFd(ends[0]), kj::AutoCloseFd(ends[1])};
}

std::string readThree(int fd) {
  char buffer[4] = {};
  ssize_t n;
  KJ_SYSCALL(n = read(fd, buffer, 3));
  return std::string(buffer, n);
}

void fileDescriptors(Context& c) {
  if (!c.passesFds()) c.skip("descriptors pass over Unix sockets only");
  auto theirs = c.theirs<TestMoreStuff>();
  for (bool second: {false, true}) {
    auto pipe1 = newPipe();
    auto pipe2 = newPipe();
    auto request = theirs.writeToFdRequest();
    request.setFdCap1(kj::heap<OurFile>(kj::mv(pipe1.writing)));
    if (second) {
      request.setFdCap2(kj::heap<OurFile>(kj::mv(pipe2.writing)));
    } else {
      request.setFdCap2(c.ours().cap);
    }
    auto response = c.wait(request.send());
    CHECK(response.getSecondFdPresent() == second);
    CHECK(readThree(pipe1.reading.get()) == "foo");
    if (second) {
      CHECK(readThree(pipe2.reading.get()) == "bar");
    }
    auto cap = response.getFdCap3();
    auto fd = KJ_REQUIRE_NONNULL(c.wait(cap.getFd()), "no descriptor came back");
    CHECK(readThree(fd) == "baz");
  }
}

std::map<uint64_t, uint64_t> counts(Context& c) {
  std::map<uint64_t, uint64_t> result;
  auto response = c.wait(c.control().callCountsRequest().send());
  for (auto count: response.getCounts()) {
    if (count.getCalls() > 0) result[count.getInterfaceId()] = count.getCalls();
  }
  return result;
}

void callCounts(Context& c) {
  auto theirs = c.theirs<TestMoreStuff>();
  c.wait(c.control().resetRequest().send());
  for (unsigned i = 0; i < 3; i++) c.ping();
  for (unsigned i = 0; i < 2; i++) CHECK(c.wait(sequence(theirs, i)).getN() == i);
  std::map<uint64_t, uint64_t> expected = {{capnp::typeId<TestInterface>(), 3},
                                           {capnp::typeId<TestCallOrder>(), 2}};
  CHECK(counts(c) == expected);
  c.wait(c.control().resetRequest().send());
  CHECK(counts(c).empty());
  CHECK(c.wait(sequence(theirs, 0)).getN() == 0);
}

bool sameTables(TestControl::TableSizes::Reader a, TestControl::TableSizes::Reader b) {
  return capnp::AnyStruct::Reader(a) == capnp::AnyStruct::Reader(b);
}

void tablesAtRest(Context& c) {
  auto control = c.control();
  // The first call settles what the bootstrap itself takes.
  c.wait(control.tableSizesRequest().send());
  auto before = c.wait(control.tableSizesRequest().send());
  {
    auto theirs = c.theirs<TestMoreStuff>();
    auto [probe, cap] = c.ours();
    auto callFoo = theirs.callFooRequest();
    callFoo.setCap(cap);
    c.wait(callFoo.send());
    auto getCap = c.theirs<TestPipeline>().getCapRequest();
    getCap.setN(234);
    getCap.setInCap(cap);
    auto promise = getCap.send();
    checkExtendsFoo(c, promise.getOutBox().getCap());
    auto expect = theirs.expectCancelRequest();
    expect.setCap(cap);
    auto expected = expect.send();
    c.failure(theirs.throwExceptionRequest().send());
    auto handle = c.wait(theirs.getHandleRequest().send()).getHandle();
    c.ping();
  }
  c.until("the tables are as they were before", [&]() {
    return sameTables(before.getSizes(), c.wait(control.tableSizesRequest().send()).getSizes());
  });
}

constexpr Named BEHAVIOURS[] = {
    {"null-capability", nullCapability},
    {"defaults", defaults},
    {"null-default", nullDefault},
    {"enormous-result-fails-alone", enormousResultFailsAlone},
    {"enormous-parameters-fail-alone", enormousParametersFailAlone},
    {"large-messages", largeMessages},
    {"streaming", streaming},
    {"same-capability-twice", sameCapabilityTwice},
    {"capabilities-everywhere", capabilitiesEverywhere},
    {"many-calls", manyCalls},
    {"many-callbacks", manyCallbacks},
    {"membrane-objects", membraneObjects},
    {"membrane-tail-calls", membraneTailCalls},
    {"caller-id", callerId},
    {"file-descriptors", fileDescriptors},
    {"call-counts", callCounts},
    {"tables-at-rest", tablesAtRest},
};

}  // namespace

kj::ArrayPtr<const Named> bulkBehaviours() { return BEHAVIOURS; }
