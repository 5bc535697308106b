// A vat of the network in mesh.h that does what party.capnp says.
//
//   peer FOLDER NAME   prints `ready FOLDER/NAME` and runs until it is killed
#include <kj/debug.h>

#include <cstdio>

#include "mesh.h"

namespace {

class CounterObject final: public Counter::Server, public kj::Refcounted {
public:
  uint32_t count = 0;

private:
  kj::Promise<void> next(NextContext context) override {
    context.getResults().setNumber(count++);
    return kj::READY_NOW;
  }
};

using Numbers = kj::Vector<capnp::RemotePromise<Counter::NextResults>>;

class PartyObject final: public Party::Server {
public:
  PartyObject(Mesh& mesh, kj::Own<CounterObject> own)
      : mesh(mesh), counted(*own), ownCounter(kj::mv(own)) {}

  // The party cannot do without the system, which needs the party to begin with.
  capnp::RpcSystem<VatName>* system = nullptr;

private:
  Mesh& mesh;
  CounterObject& counted;
  Counter::Client ownCounter;
  kj::Maybe<Counter::Client> what;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<Counter::Client>>> promised;

  Party::Client party(kj::StringPtr vat) {
    capnp::MallocMessageBuilder message;
    message.initRoot<VatName>().setHost(vat);
    return system->bootstrap(message.getRoot<VatName>()).castAs<Party>();
  }

  Counter::Client& isKept() { return KJ_REQUIRE_NONNULL(what, "nothing is kept"); }

  static void send(Numbers& numbers, Counter::Client& counter, uint32_t times) {
    for (uint32_t i = 0; i < times; ++i) numbers.add(counter.nextRequest().send());
  }

  template <typename Results>
  static kj::Promise<void> wait(Numbers numbers, Results results) {
    auto list = results.initNumbers(numbers.size());
    for (auto i: kj::indices(numbers)) list.set(i, (co_await numbers[i]).getNumber());
  }

  kj::Promise<void> counter(CounterContext context) override {
    context.getResults().setCounter(ownCounter);
    return kj::READY_NOW;
  }

  kj::Promise<void> count(CountContext context) override {
    context.getResults().setCount(counted.count);
    return kj::READY_NOW;
  }

  kj::Promise<void> obtain(ObtainContext context) override {
    auto params = context.getParams();
    auto answer = party(params.getVat()).counterRequest().send();
    if (params.getSettled()) {
      what = (co_await answer).getCounter();
    } else {
      what = answer.getCounter();
    }
  }

  kj::Promise<void> promise(PromiseContext context) override {
    auto pair = kj::newPromiseAndFulfiller<Counter::Client>();
    promised = kj::mv(pair.fulfiller);
    what = Counter::Client(kj::mv(pair.promise));
    return kj::READY_NOW;
  }

  kj::Promise<void> resolve(ResolveContext context) override {
    auto fulfiller = kj::mv(KJ_REQUIRE_NONNULL(promised, "nothing is promised"));
    promised = kj::none;
    auto answer = co_await party(context.getParams().getVat()).counterRequest().send();
    fulfiller->fulfill(answer.getCounter());
  }

  kj::Promise<void> keep(KeepContext context) override {
    what = context.getParams().getCounter();
    return kj::READY_NOW;
  }

  kj::Promise<void> kept(KeptContext context) override {
    context.getResults().setCounter(isKept());
    return kj::READY_NOW;
  }

  kj::Promise<void> give(GiveContext context) override {
    auto request = party(context.getParams().getVat()).keepRequest();
    request.setCounter(isKept());
    co_await request.send();
  }

  kj::Promise<void> call(CallContext context) override {
    Numbers numbers;
    send(numbers, isKept(), context.getParams().getTimes());
    return wait(kj::mv(numbers), context.getResults());
  }

  kj::Promise<void> ask(AskContext context) override {
    auto params = context.getParams();
    auto answer = party(params.getVat()).keptRequest().send();
    auto counter = answer.getCounter();
    what = counter;
    Numbers numbers;
    send(numbers, counter, params.getBefore());
    co_await answer;
    send(numbers, counter, params.getAfter());
    co_await wait(kj::mv(numbers), context.getResults());
  }

  kj::Promise<void> forget(ForgetContext context) override {
    what = kj::none;
    return kj::READY_NOW;
  }

  kj::Promise<void> hold(HoldContext context) override {
    auto params = context.getParams();
    mesh.hold(params.getVat(), params.getBehind());
    return kj::READY_NOW;
  }

  kj::Promise<void> release(ReleaseContext context) override {
    mesh.release(context.getParams().getVat());
    return kj::READY_NOW;
  }

  kj::Promise<void> came(CameContext context) override {
    auto params = context.getParams();
    context.getResults().setCount(mesh.came(params.getVat(), params.getMessage()));
    return kj::READY_NOW;
  }

  kj::Promise<void> forward(ForwardContext context) override {
    mesh.forwards = context.getParams().getOn();
    return kj::READY_NOW;
  }

  kj::Promise<void> connected(ConnectedContext context) override {
    context.getResults().setConnected(mesh.connected(context.getParams().getVat()));
    return kj::READY_NOW;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: peer FOLDER NAME\n");
    return 2;
  }
  auto io = kj::setupAsyncIo();
  Mesh mesh(io, argv[1], argv[2]);
  auto party = kj::heap<PartyObject>(mesh, kj::refcounted<CounterObject>());
  auto& object = *party;
  capnp::RpcSystem<VatName> system(mesh, capnp::Capability::Client(kj::mv(party)));
  object.system = &system;
  printf("ready %s/%s\n", argv[1], argv[2]);
  fflush(stdout);
  system.run().wait(io.waitScope);
}
