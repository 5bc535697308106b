// What older parts of the C++ implementation do, and what the conformance
// behaviours don't look at.
//
//   peer trace-serve HOST        serves objects that fail, with a trace encoder
//   peer trace-call HOST:PORT    calls one and prints what the failure says
//   peer names-serve HOST        exports capabilities under the names foo and bar
//   peer names-call HOST:PORT NAME
//                                imports a capability by its name and calls foo
//   peer save HOST:PORT NAME OWNER
//                                imports a capability by its name, saves it for an
//                                owner and prints the reference
//
// A server prints `ready HOST:PORT` and runs until it is killed. A client prints
// one `name: value` a line.
#include <capnp/ez-rpc.h>
#include <capnp/persistent.capnp.h>
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/debug.h>
#include <kj/encoding.h>

#include <cstdio>
#include <cstring>

#include "sturdy.capnp.h"
#include "test.capnp.h"

namespace {

class Foo final: public TestInterface::Server {
public:
  explicit Foo(kj::StringPtr x): x(x) {}

protected:
  kj::Promise<void> foo(FooContext context) override {
    context.getResults().setX(x);
    return kj::READY_NOW;
  }

private:
  kj::StringPtr x;
};

class MoreStuff final: public TestMoreStuff::Server {
protected:
  kj::Promise<void> throwException(ThrowExceptionContext context) override {
    return KJ_EXCEPTION(OVERLOADED, "too much");
  }

  // The failure of the one that is called is that of the caller, too.
  kj::Promise<void> callFoo(CallFooContext context) override {
    auto request = context.getParams().getCap().fooRequest();
    return request.send().then([](auto&&) {});
  }
};

void ready(kj::StringPtr host, unsigned port) {
  printf("ready %s:%u\n", host.cStr(), port);
  fflush(stdout);
}

// One connection.
struct Traced {
  kj::Own<kj::AsyncIoStream> stream;
  capnp::TwoPartyVatNetwork network;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> system;

  explicit Traced(kj::Own<kj::AsyncIoStream> own)
      : stream(kj::mv(own)),
        network(*stream, capnp::rpc::twoparty::Side::SERVER),
        system(capnp::makeRpcServer(network, kj::heap<MoreStuff>())) {
    system.setTraceEncoder([](const kj::Exception& e) {
      return kj::str("c++(", e.getRemoteTrace(), ")");
    });
  }
};

void traceServe(kj::StringPtr host) {
  auto io = kj::setupAsyncIo();
  auto listener = io.provider->getNetwork().parseAddress(host, 0).wait(io.waitScope)->listen();
  ready(host, listener->getPort());
  for (;;) {
    Traced served(listener->accept().wait(io.waitScope));
    served.network.onDisconnect().wait(io.waitScope);
  }
}

void printFailure(const kj::Exception& e) {
  static const char* const TYPES[] = {"failed", "overloaded", "disconnected", "unimplemented"};
  printf("type: %s\nreason: %s\ntrace: %s\n", TYPES[static_cast<int>(e.getType())],
         e.getDescription().cStr(), e.getRemoteTrace().cStr());
}

void traceCall(kj::StringPtr address) {
  capnp::EzRpcClient client(address);
  auto object = client.getMain<TestMoreStuff>();
  auto request = object.throwExceptionRequest();
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() {
    (void)request.send().wait(client.getWaitScope());
  })) {
    printFailure(*e);
  }
}

void namesServe(kj::StringPtr host) {
  capnp::EzRpcServer server(host);
  server.exportCap("foo", kj::heap<Foo>("exported as foo"));
  server.exportCap("bar", kj::heap<Foo>("exported as bar"));
  ready(host, server.getPort().wait(server.getWaitScope()));
  kj::NEVER_DONE.wait(server.getWaitScope());
}

void namesCall(kj::StringPtr address, kj::StringPtr name) {
  capnp::EzRpcClient client(address);
  auto request = client.importCap<TestInterface>(name).fooRequest();
  request.setI(123);
  request.setJ(true);
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() {
    printf("x: %s\n", request.send().wait(client.getWaitScope()).getX().cStr());
  })) {
    printFailure(*e);
  }
}

void save(kj::StringPtr address, kj::StringPtr name, kj::StringPtr owner) {
  capnp::EzRpcClient client(address);
  auto request = client.importCap(name)
      .castAs<capnp::Persistent<SturdyRef, Owner>>().saveRequest();
  request.initSealFor().setName(owner);
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() {
    auto saved = request.send().wait(client.getWaitScope());
    printf("secret: %s\n", kj::encodeHex(saved.getSturdyRef().getSecret()).cStr());
  })) {
    printFailure(*e);
  }
}

}  // namespace

int main(int argc, char** argv) {
  auto is = [&](const char* verb, int arguments) {
    return argc == 2 + arguments && strcmp(argv[1], verb) == 0;
  };
  if (is("trace-serve", 1)) {
    traceServe(argv[2]);
  } else if (is("trace-call", 1)) {
    traceCall(argv[2]);
  } else if (is("names-serve", 1)) {
    namesServe(argv[2]);
  } else if (is("names-call", 2)) {
    namesCall(argv[2], argv[3]);
  } else if (is("save", 3)) {
    save(argv[2], argv[3], argv[4]);
  } else {
    fprintf(stderr, "see the head of extras.c++ for what it takes\n");
    return 2;
  }
  return 0;
}
