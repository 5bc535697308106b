#include "serve.h"

#include <cstdio>

#include <unistd.h>

#include <capnp/rpc-twoparty.h>
#include <kj/debug.h>

#include "membrane.h"
#include "objects.h"

namespace {

using capnp::typeId;
using capnp::rpc::twoparty::VatId;
using CallerId = TestAuthenticatedBootstrap<VatId>;

class ControlObject final: public TestControl::Server {
public:
  explicit ControlObject(State state): state(kj::mv(state)) {}

  kj::Promise<void> callCounts(CallCountsContext context) override {
    auto counts = context.getResults().initCounts(state->calls.size());
    unsigned i = 0;
    for (auto& [id, calls]: state->calls) {
      counts[i].setInterfaceId(id);
      counts[i].setCalls(calls);
      i++;
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> liveHandles(LiveHandlesContext context) override {
    auto results = context.getResults();
    results.setHere(state->handles);
    results.setAll(state->handlesOfServer);
    return kj::READY_NOW;
  }

  kj::Promise<void> cancellations(CancellationsContext context) override {
    context.getResults().setCount(state->cancellations);
    return kj::READY_NOW;
  }

  kj::Promise<void> reset(ResetContext context) override {
    state->calls.clear();
    state->cancellations = 0;
    state->bootstrapSequence = 0;
    return kj::READY_NOW;
  }

  kj::Promise<void> implementation(ImplementationContext context) override {
    auto results = context.getResults();
    results.setName(::implementation());
    results.setSendsResultsToYourself(true);
    auto limits = results.initLimits(1);
    limits[0].setBehaviour("tables-at-rest");
    limits[0].setWhy("the implementation does not tell the sizes of its tables");
    return kj::READY_NOW;
  }

private:
  State state;
};

// Revokes a membrane when it is dropped.
class Revokes final: public TestHandle::Server {
public:
  explicit Revokes(kj::Own<Intercepts> policy): policy(kj::mv(policy)) {}
  ~Revokes() noexcept(false) { policy->revoke(); }

private:
  kj::Own<Intercepts> policy;
};

class ObjectsObject final: public TestObjects::Server {
public:
  explicit ObjectsObject(State state): state(kj::mv(state)) {}

#define GIVES(method, Context, Object)                     \
  kj::Promise<void> method(Context context) override {     \
    context.getResults().setObject(kj::heap<Object>(state)); \
    return kj::READY_NOW;                                  \
  }
  GIVES(testInterface, TestInterfaceContext, InterfaceObject)
  GIVES(testExtends, TestExtendsContext, ExtendsObject)
  GIVES(testPipeline, TestPipelineContext, PipelineObject)
  GIVES(testCallOrder, TestCallOrderContext, CallOrderObject)
  GIVES(testTailCallee, TestTailCalleeContext, TailCalleeObject)
  GIVES(testTailCaller, TestTailCallerContext, TailCallerObject)
  GIVES(testStreaming, TestStreamingContext, StreamingObject)
  GIVES(testMoreStuff, TestMoreStuffContext, MoreStuffObject)
  GIVES(testHandle, TestHandleContext, HandleObject)
  GIVES(testMembrane, TestMembraneContext, MembraneObject)
#undef GIVES

  kj::Promise<void> membraned(MembranedContext context) override {
    auto policy = kj::refcounted<Intercepts>();
    TestMembrane::Client inside = kj::heap<MembraneObject>(state);
    context.getResults().setObject(capnp::membrane(inside, policy->addRef()));
    context.getResults().setRevoker(kj::heap<Revokes>(kj::mv(policy)));
    return kj::READY_NOW;
  }

  kj::Promise<void> testControl(TestControlContext context) override {
    context.getResults().setObject(kj::heap<ControlObject>(kj::addRef(*state)));
    return kj::READY_NOW;
  }

private:
  State state;
};

class CallerIdObject final: public CallerId::Server {
public:
  explicit CallerIdObject(VatId::Reader caller) { message.setRoot(caller); }

  kj::Promise<void> getCallerId(GetCallerIdContext context) override {
    context.getResults().setCaller(message.getRoot<VatId>());
    return kj::READY_NOW;
  }

private:
  capnp::MallocMessageBuilder message;
};

// One capability that is all of the conformance interfaces: each call goes to an
// object of the interface that it names.
class Bootstrap final: public capnp::Capability::Server {
public:
  Bootstrap(State state, VatId::Reader caller)
      : extends(kj::heap<ExtendsObject>(state, ExtendsObject::EITHER_FOO)),
        pipeline(kj::heap<PipelineObject>(state)),
        moreStuff(kj::heap<MoreStuffObject>(state, MoreStuffObject::OF_CONNECTION)),
        tailCallee(kj::heap<TailCalleeObject>(state)),
        tailCaller(kj::heap<TailCallerObject>(state)),
        streaming(kj::heap<StreamingObject>(state)),
        membrane(kj::heap<MembraneObject>(state)),
        callerId(kj::heap<CallerIdObject>(caller)),
        control(kj::heap<ControlObject>(kj::addRef(*state))),
        objects(kj::heap<ObjectsObject>(kj::addRef(*state))) {}

  DispatchCallResult dispatchCall(
      uint64_t interfaceId, uint16_t methodId,
      capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) override {
    switch (interfaceId) {
      case typeId<TestInterface>():
      case typeId<TestExtends>():
      case typeId<TestExtends2>():
        return extends->dispatchCall(interfaceId, methodId, context);
      case typeId<TestPipeline>():
        return pipeline->dispatchCall(interfaceId, methodId, context);
      case typeId<TestCallOrder>():
      case typeId<TestMoreStuff>():
        return moreStuff->dispatchCall(interfaceId, methodId, context);
      case typeId<TestTailCallee>():
        return tailCallee->dispatchCall(interfaceId, methodId, context);
      case typeId<TestTailCaller>():
        return tailCaller->dispatchCall(interfaceId, methodId, context);
      case typeId<TestStreaming>():
        return streaming->dispatchCall(interfaceId, methodId, context);
      case typeId<TestMembrane>():
        return membrane->dispatchCall(interfaceId, methodId, context);
      case typeId<CallerId>():
        return callerId->dispatchCall(interfaceId, methodId, context);
      case typeId<TestControl>():
        return control->dispatchCall(interfaceId, methodId, context);
      case typeId<TestObjects>():
        return objects->dispatchCall(interfaceId, methodId, context);
      default:
        return internalUnimplemented("test-control.capnp:TestAll", interfaceId);
    }
  }

private:
  kj::Own<ExtendsObject> extends;
  kj::Own<PipelineObject> pipeline;
  kj::Own<MoreStuffObject> moreStuff;
  kj::Own<TailCalleeObject> tailCallee;
  kj::Own<TailCallerObject> tailCaller;
  kj::Own<StreamingObject> streaming;
  kj::Own<MembraneObject> membrane;
  kj::Own<CallerIdObject> callerId;
  kj::Own<ControlObject> control;
  kj::Own<ObjectsObject> objects;
};

// A connection with its own bootstrap object.
class Connection final: private capnp::BootstrapFactory<VatId> {
public:
  Connection(kj::Own<kj::AsyncIoStream> stream, bool passesFds, unsigned& handles)
      : stream(kj::mv(stream)), handles(handles), network(connect(passesFds)),
        rpc(capnp::makeRpcServer(*network, static_cast<BootstrapFactory<VatId>&>(*this))) {}

  kj::Promise<void> onDisconnect() { return network->onDisconnect(); }

private:
  kj::Own<kj::AsyncIoStream> stream;
  unsigned& handles;
  kj::Own<capnp::TwoPartyVatNetwork> network;
  kj::Maybe<capnp::Capability::Client> bootstrap;
  capnp::RpcSystem<VatId> rpc;

  kj::Own<capnp::TwoPartyVatNetwork> connect(bool passesFds) {
    constexpr auto SIDE = capnp::rpc::twoparty::Side::SERVER;
    if (!passesFds) return kj::heap<capnp::TwoPartyVatNetwork>(*stream, SIDE);
    constexpr unsigned MAX_FDS_PER_MESSAGE = 4;
    auto& capStream = kj::downcast<kj::AsyncCapabilityStream>(*stream);
    return kj::heap<capnp::TwoPartyVatNetwork>(capStream, MAX_FDS_PER_MESSAGE, SIDE);
  }

  capnp::Capability::Client createFor(VatId::Reader caller) override {
    // The same for however many Bootstrap messages the peer sends.
    KJ_IF_MAYBE(b, bootstrap) { return *b; }
    capnp::Capability::Client result =
        kj::heap<Bootstrap>(kj::refcounted<ConnectionState>(handles), caller);
    bootstrap = result;
    return result;
  }
};

class Acceptor final: private kj::TaskSet::ErrorHandler {
public:
  explicit Acceptor(bool passesFds): passesFds(passesFds), connections(*this) {}

  kj::Promise<void> run(kj::ConnectionReceiver& listener) {
    return listener.accept().then([this, &listener](kj::Own<kj::AsyncIoStream> stream) {
      auto connection = kj::heap<Connection>(kj::mv(stream), passesFds, handles);
      auto done = connection->onDisconnect();
      connections.add(done.attach(kj::mv(connection)));
      return run(listener);
    });
  }

private:
  bool passesFds;
  unsigned handles = 0;
  kj::TaskSet connections;

  void taskFailed(kj::Exception&& exception) override {
    fprintf(stderr, "connection: %s\n", kj::str(exception).cStr());
  }
};

}  // namespace

kj::String implementation() {
  return kj::str("C++ ", CAPNP_VERSION_MAJOR, '.', CAPNP_VERSION_MINOR);
}

void serve(kj::AsyncIoContext& io, kj::StringPtr address) {
  bool isUnix = address.startsWith("unix:");
  if (isUnix) unlink(address.slice(5).cStr());
  auto listener =
      io.provider->getNetwork().parseAddress(address).wait(io.waitScope)->listen();
  if (isUnix) {
    printf("ready %s\n", address.cStr());
  } else {
    auto colon = KJ_REQUIRE_NONNULL(address.findLast(':'), "expected host:port or unix:/path");
    printf("ready %s:%u\n", kj::str(address.slice(0, colon)).cStr(), listener->getPort());
  }
  fflush(stdout);
  Acceptor(isUnix).run(*listener).wait(io.waitScope);
}
