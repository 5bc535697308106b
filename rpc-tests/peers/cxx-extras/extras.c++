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
//   peer echo-serve HOST         serves an Echo, to be measured
//   peer bytes-serve HOST        serves a ByteStream, and prints of each that ends how
//                                many bytes it took, and their sum, on the standard error
//   peer bytes-send HOST:PORT LENGTH
//                                writes so many bytes to the ByteStream there
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
#include <cstdlib>
#include <cstring>

#include "byte-stream.capnp.h"
#include "echo.capnp.h"
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

class EchoImpl final: public Echo::Server {
protected:
  kj::Promise<void> ping(PingContext context) override {
    return kj::READY_NOW;
  }

  kj::Promise<void> echo(EchoContext context) override {
    context.getResults().setData(context.getParams().getData());
    return kj::READY_NOW;
  }

  kj::Promise<void> next(NextContext context) override {
    context.getResults().setEcho(kj::heap<EchoImpl>());
    return kj::READY_NOW;
  }

  kj::Promise<void> push(PushContext context) override {
    bytes += context.getParams().getData().size();
    return kj::READY_NOW;
  }

  kj::Promise<void> total(TotalContext context) override {
    context.getResults().setBytes(bytes);
    return kj::READY_NOW;
  }

private:
  uint64_t bytes = 0;
};

void echoServe(kj::StringPtr host) {
  capnp::EzRpcServer server(kj::heap<EchoImpl>(), host);
  ready(host, server.getPort().wait(server.getWaitScope()));
  kj::NEVER_DONE.wait(server.getWaitScope());
}

class Bytes final: public ByteStream::Server {
protected:
  kj::Promise<void> write(WriteContext context) override {
    for (kj::byte b: context.getParams().getBytes()) {
      sum += b;
      ++length;
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> end(EndContext context) override {
    fprintf(stderr, "took %llu bytes, sum %llu\n", length, sum);
    return kj::READY_NOW;
  }

private:
  unsigned long long length = 0;
  unsigned long long sum = 0;
};

void bytesServe(kj::StringPtr host) {
  capnp::EzRpcServer server(kj::heap<Bytes>(), host);
  ready(host, server.getPort().wait(server.getWaitScope()));
  kj::NEVER_DONE.wait(server.getWaitScope());
}

void bytesSend(kj::StringPtr address, unsigned long long length) {
  capnp::EzRpcClient client(address);
  auto stream = client.getMain<ByteStream>();
  constexpr unsigned long long CHUNK = 10000;
  KJ_IF_MAYBE(e, kj::runCatchingExceptions([&]() {
    for (unsigned long long sent = 0; sent < length; sent += CHUNK) {
      auto request = stream.writeRequest();
      auto bytes = request.initBytes(kj::min(CHUNK, length - sent));
      for (auto i: kj::indices(bytes)) {
        bytes[i] = (sent + i) % 253;
      }
      // Waits for room.
      request.send().wait(client.getWaitScope());
    }
    stream.endRequest().send().wait(client.getWaitScope());
    printf("sent: %llu\n", length);
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
  } else if (is("echo-serve", 1)) {
    echoServe(argv[2]);
  } else if (is("bytes-serve", 1)) {
    bytesServe(argv[2]);
  } else if (is("bytes-send", 2)) {
    bytesSend(argv[2], strtoull(argv[3], nullptr, 10));
  } else {
    fprintf(stderr, "see the head of extras.c++ for what it takes\n");
    return 2;
  }
  return 0;
}
