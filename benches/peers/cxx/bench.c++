// The C++ implementation as a server and as a client of echo.capnp.
//
//     bench server ADDR
//     bench client ADDR [--figures NAME,NAME...] [--divide N]
//     bench within [--figures NAME,NAME...] [--divide N]
//
// ADDR is host:port or unix:/path. The client prints the figures that are
// described in benches/src/figures.rs, for the same amount of work. `within` prints
// those of benches/src/within.rs, of which there are local_call and two_vats_call.

#include "echo.capnp.h"

#include <capnp/message.h>
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/debug.h>
#include <kj/main.h>
#include <kj/vector.h>

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <list>
#include <string>
#include <vector>

namespace {

constexpr unsigned WARM_UP_CALLS = 2000;
constexpr unsigned PING_CALLS = 20000;
constexpr unsigned PIPELINED_CALLS = 300000;
constexpr unsigned CHAINS = 5000;
constexpr unsigned CHAIN_DEPTH = 10;
constexpr unsigned CHUNKS = 16384;
constexpr unsigned CHUNK_BYTES = 64 << 10;
constexpr unsigned LOCAL_CALLS = 100000;
constexpr unsigned TWO_VATS_CALLS = 300000;

class EchoServer final : public Echo::Server {
 public:
  kj::Promise<void> ping(PingContext) override { return kj::READY_NOW; }

  kj::Promise<void> echo(EchoContext context) override {
    auto data = context.getParams().getData();
    context.getResults(capnp::MessageSize{data.size() / 8 + 8, 0}).setData(data);
    return kj::READY_NOW;
  }

  kj::Promise<void> next(NextContext context) override {
    context.getResults().setEcho(kj::heap<EchoServer>());
    return kj::READY_NOW;
  }

  kj::Promise<void> push(PushContext context) override {
    pushed += context.getParams().getData().size();
    return kj::READY_NOW;
  }

  kj::Promise<void> total(TotalContext context) override {
    context.getResults().setBytes(pushed);
    return kj::READY_NOW;
  }

 private:
  uint64_t pushed = 0;
};

// A point in real time, to tell how long ago it was.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

double processorSeconds() {
  timespec now;
  KJ_SYSCALL(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now));
  return now.tv_sec + now.tv_nsec * 1e-9;
}

template <typename... Value>
void print(const char* format, Value... value) {
  std::printf(format, value...);
  std::fflush(stdout);
}

class Load {
 public:
  Load(Echo::Client echo, kj::WaitScope& scope, unsigned divisor)
      : echo(kj::mv(echo)), scope(scope), divisor(divisor) {}

  void warmUp() {
    for (unsigned left = amount(WARM_UP_CALLS); left > 0; --left) pingOnce();
  }

  // Whether there is such a figure.
  bool measure(const std::string& figure) {
    if (figure == "ping") {
      ping();
    } else if (figure == "pipelined_w16") {
      pipelined(16);
    } else if (figure == "pipelined_w128") {
      pipelined(128);
    } else if (figure == "pipelined_w1024") {
      pipelined(1024);
    } else if (figure == "chain10") {
      chain();
    } else if (figure == "stream64k") {
      stream();
    } else {
      return false;
    }
    return true;
  }

 private:
  Echo::Client echo;
  kj::WaitScope& scope;
  unsigned divisor;

  unsigned amount(unsigned full) const { return std::max(1u, full / divisor); }

  void pingOnce() { echo.pingRequest().send().wait(scope); }

  void ping() {
    std::vector<double> times(amount(PING_CALLS));
    for (double& time : times) {
      Stopwatch watch;
      pingOnce();
      time = watch.seconds() * 1e6;
    }
    std::sort(times.begin(), times.end());
    print("ping_us_p50 %.2f\n", times[times.size() * 50 / 100]);
    print("ping_us_p99 %.2f\n", times[times.size() * 99 / 100]);
  }

  void pipelined(unsigned window) {
    unsigned calls = amount(PIPELINED_CALLS);
    std::list<capnp::RemotePromise<Echo::PingResults>> outstanding;
    auto awaitOldest = [&]() {
      outstanding.front().wait(scope);
      outstanding.pop_front();
    };
    Stopwatch watch;
    double processor = processorSeconds();
    for (unsigned call = 0; call < calls; ++call) {
      if (outstanding.size() >= window) awaitOldest();
      outstanding.push_back(echo.pingRequest().send());
    }
    while (!outstanding.empty()) awaitOldest();
    processor = processorSeconds() - processor;
    print("pipelined_w%u_calls_per_s %.0f\n", window, calls / watch.seconds());
    print("pipelined_w%u_client_cpu_us %.3f\n", window, processor * 1e6 / calls);
  }

  void chain() {
    unsigned times = amount(CHAINS);
    Stopwatch watch;
    for (unsigned time = 0; time < times; ++time) {
      Echo::Client end = echo;
      for (unsigned step = 0; step < CHAIN_DEPTH; ++step) {
        end = end.nextRequest().send().getEcho();
      }
      end.pingRequest().send().wait(scope);
    }
    print("chain%u_us %.2f\n", CHAIN_DEPTH, watch.seconds() * 1e6 / times);
  }

  void stream() {
    unsigned chunks = amount(CHUNKS);
    kj::Array<kj::byte> data = kj::heapArray<kj::byte>(CHUNK_BYTES);
    std::fill(data.begin(), data.end(), 7);
    Stopwatch watch;
    Echo::Client fresh = echo.nextRequest().send().wait(scope).getEcho();
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
      auto request = fresh.pushRequest(capnp::MessageSize{CHUNK_BYTES / 8 + 8, 0});
      request.setData(data);
      request.send().wait(scope);
    }
    uint64_t total = fresh.totalRequest().send().wait(scope).getBytes();
    double bytes = double(chunks) * CHUNK_BYTES;
    KJ_REQUIRE(total == uint64_t(chunks) * CHUNK_BYTES, "bytes were lost", total);
    print("stream%uk_MBps %.0f\n", CHUNK_BYTES >> 10, bytes / watch.seconds() / 1e6);
  }
};

// What a ping takes that leaves neither this process nor this event loop.
void printWithin(const char* figure, Echo::Client& echo, kj::WaitScope& scope, unsigned calls) {
  calls = std::max(1u, calls);
  for (unsigned left = (calls + 9) / 10; left > 0; --left) echo.pingRequest().send().wait(scope);
  Stopwatch watch;
  for (unsigned left = calls; left > 0; --left) echo.pingRequest().send().wait(scope);
  print("%s_us %.3f\n", figure, watch.seconds() * 1e6 / calls);
}

void localCall(kj::WaitScope& scope, unsigned divisor) {
  Echo::Client echo = kj::heap<EchoServer>();
  printWithin("local_call", echo, scope, LOCAL_CALLS / divisor);
}

// A pipe in memory, between two vats.
void twoVatsCall(kj::WaitScope& scope, unsigned divisor) {
  auto pipe = kj::newTwoWayPipe();
  capnp::TwoPartyVatNetwork serverSide(*pipe.ends[0], capnp::rpc::twoparty::Side::SERVER);
  capnp::TwoPartyVatNetwork clientSide(*pipe.ends[1], capnp::rpc::twoparty::Side::CLIENT);
  auto server = capnp::makeRpcServer(serverSide, kj::heap<EchoServer>());
  auto client = capnp::makeRpcClient(clientSide);
  capnp::MallocMessageBuilder message;
  auto vat = message.initRoot<capnp::rpc::twoparty::VatId>();
  vat.setSide(capnp::rpc::twoparty::Side::SERVER);
  auto echo = client.bootstrap(vat).castAs<Echo>();
  printWithin("two_vats_call", echo, scope, TWO_VATS_CALLS / divisor);
}

class Program {
 public:
  explicit Program(kj::ProcessContext& context) : context(context) {}

  kj::MainFunc getMain() {
    return kj::MainBuilder(context, "bench", "Serves echo.capnp, or loads a server of it.")
        .addSubCommand("server", KJ_BIND_METHOD(*this, serverMain), "Serve until killed.")
        .addSubCommand("client", KJ_BIND_METHOD(*this, clientMain), "Print the figures.")
        .addSubCommand("within", KJ_BIND_METHOD(*this, withinMain),
                       "Print the figures within a process.")
        .build();
  }

 private:
  kj::ProcessContext& context;
  unsigned divisor = 1;
  kj::Vector<std::string> figures;

  kj::MainFunc serverMain() {
    return kj::MainBuilder(context, "bench server", "Serves at ADDR.")
        .expectArg("ADDR", KJ_BIND_METHOD(*this, serve))
        .build();
  }

  kj::MainFunc clientMain() {
    return kj::MainBuilder(context, "bench client", "Loads the server at ADDR.")
        .addOptionWithArg({"divide"}, KJ_BIND_METHOD(*this, setDivisor), "N",
                          "Do that part of the work.")
        .addOptionWithArg({"figures"}, KJ_BIND_METHOD(*this, setFigures), "NAME,NAME...",
                          "Do only this work.")
        .expectArg("ADDR", KJ_BIND_METHOD(*this, load))
        .build();
  }

  kj::MainFunc withinMain() {
    return kj::MainBuilder(context, "bench within", "Calls objects in this process.")
        .addOptionWithArg({"divide"}, KJ_BIND_METHOD(*this, setDivisor), "N",
                          "Do that part of the work.")
        .addOptionWithArg({"figures"}, KJ_BIND_METHOD(*this, setFigures), "NAME,NAME...",
                          "Do only this work.")
        .callAfterParsing(KJ_BIND_METHOD(*this, within))
        .build();
  }

  kj::MainBuilder::Validity within() {
    if (figures.size() == 0) {
      for (auto name : {"local_call", "two_vats_call"}) figures.add(name);
    }
    kj::EventLoop loop;
    kj::WaitScope scope(loop);
    for (const std::string& figure : figures) {
      if (figure == "local_call") {
        localCall(scope, divisor);
      } else if (figure == "two_vats_call") {
        twoVatsCall(scope, divisor);
      } else {
        return kj::str("there is no figure ", figure.c_str());
      }
    }
    return true;
  }

  kj::MainBuilder::Validity setDivisor(kj::StringPtr text) {
    char* end;
    unsigned long number = std::strtoul(text.cStr(), &end, 10);
    if (end == text.cStr() || *end != '\0' || number == 0 || number > PIPELINED_CALLS) {
      return "not a number above zero";
    }
    divisor = number;
    return true;
  }

  kj::MainBuilder::Validity setFigures(kj::StringPtr text) {
    std::string list = text.cStr();
    for (size_t start = 0; start <= list.size();) {
      size_t end = std::min(list.find(',', start), list.size());
      figures.add(list.substr(start, end - start));
      start = end + 1;
    }
    return true;
  }

  kj::MainBuilder::Validity serve(kj::StringPtr text) {
    auto io = kj::setupAsyncIo();
    auto address = io.provider->getNetwork().parseAddress(text).wait(io.waitScope);
    auto listener = address->listen();
    capnp::TwoPartyServer server(kj::heap<EchoServer>());
    print("ready %s\n", withPort(text, listener->getPort()).c_str());
    server.listen(*listener).wait(io.waitScope);
    return true;
  }

  // The address with the port that the system chose.
  static std::string withPort(kj::StringPtr text, unsigned port) {
    std::string address = text.cStr();
    if (text.startsWith("unix:")) return address;
    return address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  }

  kj::MainBuilder::Validity load(kj::StringPtr text) {
    if (figures.size() == 0) {
      for (auto name : {"ping", "pipelined_w16", "pipelined_w128", "pipelined_w1024", "chain10",
                        "stream64k"}) {
        figures.add(name);
      }
    }
    auto io = kj::setupAsyncIo();
    auto address = io.provider->getNetwork().parseAddress(text).wait(io.waitScope);
    auto stream = address->connect().wait(io.waitScope);
    capnp::TwoPartyClient client(*stream);
    Load load(client.bootstrap().castAs<Echo>(), io.waitScope, divisor);
    load.warmUp();
    for (const std::string& figure : figures) {
      if (!load.measure(figure)) return kj::str("there is no figure ", figure.c_str());
    }
    return true;
  }
};

}  // namespace

KJ_MAIN(Program)
