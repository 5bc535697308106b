#include "mesh.h"

#include <capnp/rpc.capnp.h>
#include <kj/debug.h>
#include <kj/one-of.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace {

// Introducers don't know of each other, so a count would not do.
uint64_t newToken() {
  uint64_t token;
  KJ_REQUIRE(getrandom(&token, sizeof(token), 0) == sizeof(token));
  return token;
}

// As party.capnp has it.
uint16_t tagOf(capnp::rpc::Message::Reader message) {
  uint16_t tag = message.which();
  bool ofProvide = message.isFinish() && message.getFinish().getQuestionId() >> 31 != 0;
  return ofProvide ? 0x8000 | tag : tag;
}

kj::OwnFd dial(kj::StringPtr path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  KJ_REQUIRE(path.size() < sizeof(address.sun_path), path);
  memcpy(address.sun_path, path.cStr(), path.size() + 1);
  kj::OwnFd fd = KJ_SYSCALL_FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
    int error = errno;
    throw KJ_EXCEPTION(DISCONNECTED, "nobody listens", path, strerror(error));
  }
  return fd;
}

}  // namespace

class Mesh::Link final: public MeshBase::Connection, public kj::Refcounted {
public:
  // A connection that could not be made has an exception in place of a stream.
  Link(Mesh& mesh, kj::StringPtr peer, kj::OneOf<kj::Own<kj::AsyncIoStream>, kj::Exception> from)
      : mesh(mesh), inflow(mesh.inflow(peer)), peer(kj::str(peer)) {
    KJ_SWITCH_ONEOF(from) {
      KJ_CASE_ONEOF(own, kj::Own<kj::AsyncIoStream>) {
        stream = kj::mv(own);
        messages = kj::heap<capnp::AsyncIoMessageStream>(*KJ_ASSERT_NONNULL(stream));
      }
      KJ_CASE_ONEOF(exception, kj::Exception) { broken = kj::mv(exception); }
    }
    name.initRoot<VatName>().setHost(peer);
    mesh.links.upsert(kj::str(peer), this, [&](Link*& is, Link* shall) { is = shall; });
  }

  ~Link() noexcept(false) {
    KJ_IF_SOME(link, mesh.links.find(peer)) {
      if (link == this) mesh.links.erase(peer);
    }
  }

  // Writes who this vat is, before anything else.
  void introduceOneself() {
    auto hello = kj::heapArray<kj::byte>(mesh.self.size() + 1);
    hello[0] = mesh.self.size();
    memcpy(hello.begin() + 1, mesh.self.begin(), mesh.self.size());
    auto written = KJ_ASSERT_NONNULL(stream)->write(hello);
    write(written.attach(kj::mv(hello)));
  }

  VatName::Reader getPeerVatId() override { return name.getRoot<VatName>(); }

  kj::Own<capnp::OutgoingRpcMessage> newOutgoingMessage(unsigned words) override {
    return kj::refcounted<Outgoing>(*this, words);
  }

  kj::Promise<kj::Maybe<kj::Own<capnp::IncomingRpcMessage>>> receiveIncomingMessage() override {
    KJ_IF_SOME(exception, broken) { kj::throwFatalException(exception.clone()); }
    auto read = co_await canceler.wrap(KJ_ASSERT_NONNULL(messages)->tryReadMessage());
    KJ_IF_SOME(held, inflow.held) { co_await held.addBranch(); }
    KJ_IF_SOME(message, read) {
      uint16_t tag = tagOf(message->getRoot<capnp::rpc::Message>());
      ++inflow.counts.findOrCreate(tag, [&]() -> kj::HashMap<uint16_t, uint32_t>::Entry {
        return {tag, 0};
      });
      if (inflow.holdBehind == tag) inflow.hold();
      co_return kj::Own<capnp::IncomingRpcMessage>(kj::heap<Incoming>(kj::mv(message)));
    }
    co_return kj::none;
  }

  kj::Promise<void> shutdown() override {
    auto done = kj::mv(written);
    written = kj::READY_NOW;
    return done.then([this]() {
      KJ_IF_SOME(s, stream) { s->shutdownWrite(); }
    });
  }

  void setIdle(bool idle) override {}

  bool canIntroduceTo(Connection& other) override { return true; }

  void introduceTo(Connection& other, Contact::Builder contact,
                   Awaited::Builder awaited) override {
    uint64_t token = newToken();
    contact.initPath().setHost(kj::downcast<Link>(other).peer);
    contact.setToken(token);
    contact.setSentBy(mesh.self);
    awaited.setToken(token);
  }

  kj::Maybe<kj::Own<Connection>> connectToIntroduced(Contact::Reader contact,
                                                     Completion::Builder completion) override {
    KJ_REQUIRE(contact.getSentBy() == peer, "a contact that somebody else has sent");
    completion.setToken(contact.getToken());
    return mesh.connect(contact.getPath());
  }

  bool canForwardThirdPartyToContact(Contact::Reader contact, Connection& to) override {
    return mesh.forwards;
  }

  void forwardThirdPartyToContact(Contact::Reader contact, Connection& to,
                                  Contact::Builder result) override {
    KJ_REQUIRE(contact.getSentBy() == peer, "a contact that somebody else has sent");
    result.setPath(contact.getPath());
    result.setToken(contact.getToken());
    result.setSentBy(mesh.self);
  }

  kj::Own<void> awaitThirdParty(Awaited::Reader party, kj::Rc<kj::Refcounted> value) override {
    uint64_t token = party.getToken();
    mesh.meeting(token).fulfiller->fulfill(kj::mv(value));
    return kj::heap(kj::defer([&mesh = mesh, token]() { mesh.meetings.erase(token); }));
  }

  kj::Promise<kj::Rc<kj::Refcounted>> completeThirdParty(Completion::Reader completion) override {
    return mesh.meeting(completion.getToken()).provided.addBranch();
  }

  kj::Array<kj::byte> generateEmbargoId() override {
    uint64_t token = newToken();
    return kj::heapArray<kj::byte>(kj::asBytes(token));
  }

private:
  class Outgoing final: public capnp::OutgoingRpcMessage, public kj::Refcounted {
  public:
    Outgoing(Link& link, unsigned words)
        : link(link), message(words == 0 ? capnp::SUGGESTED_FIRST_SEGMENT_WORDS : words) {}

    capnp::AnyPointer::Builder getBody() override { return message.getRoot<capnp::AnyPointer>(); }
    size_t sizeInWords() override { return message.sizeInWords(); }

    void send() override {
      // A broken connection is noticed by reading.
      if (link.messages == kj::none) return;
      auto done = link.written.then([self = kj::addRef(*this)]() mutable {
        auto& messages = *KJ_ASSERT_NONNULL(self->link.messages);
        return messages.writeMessage(self->message).attach(kj::mv(self));
      });
      link.write(kj::mv(done));
    }

  private:
    Link& link;
    capnp::MallocMessageBuilder message;
  };

  class Incoming final: public capnp::IncomingRpcMessage {
  public:
    explicit Incoming(kj::Own<capnp::MessageReader> message): message(kj::mv(message)) {}
    capnp::AnyPointer::Reader getBody() override { return message->getRoot<capnp::AnyPointer>(); }
    size_t sizeInWords() override { return message->sizeInWords(); }

  private:
    kj::Own<capnp::MessageReader> message;
  };

  Mesh& mesh;
  Inflow& inflow;
  kj::String peer;
  capnp::MallocMessageBuilder name;
  kj::Maybe<kj::Exception> broken;
  kj::Maybe<kj::Own<kj::AsyncIoStream>> stream;
  kj::Maybe<kj::Own<capnp::MessageStream>> messages;
  kj::Canceler canceler;
  kj::Promise<void> written = kj::READY_NOW;

  // What is written from now on is written behind this. Nobody waits for it: a failure ends
  // the reading.
  void write(kj::Promise<void> done) {
    written = done.catch_([this](kj::Exception&& exception) {
      broken = exception.clone();
      canceler.cancel(exception.clone());
    }).eagerlyEvaluate(nullptr);
  }
};

Mesh::Mesh(kj::AsyncIoContext& io, kj::StringPtr folder, kj::StringPtr self)
    : io(io), folder(kj::str(folder)), self(kj::str(self)),
      listener(io.provider->getNetwork()
                   .parseAddress(kj::str("unix:", folder, '/', self))
                   .wait(io.waitScope)
                   ->listen()),
      tasks(*this) {
  tasks.add(listen());
}

kj::Promise<void> Mesh::listen() {
  for (;;) tasks.add(welcome(co_await listener->accept()));
}

kj::Promise<void> Mesh::welcome(kj::Own<kj::AsyncIoStream> stream) {
  kj::byte length;
  co_await stream->read(kj::arrayPtr(&length, 1), 1);
  auto name = kj::heapString(length);
  co_await stream->read(name.asBytes(), length);
  accepted.push(kj::refcounted<Link>(*this, name, kj::mv(stream)));
}

kj::Maybe<kj::Own<Mesh::Connection>> Mesh::connect(VatName::Reader hostId) {
  auto host = hostId.getHost();
  if (host == self) return kj::none;
  KJ_IF_SOME(link, links.find(host)) { return kj::Own<Connection>(kj::addRef(*link)); }
  try {
    auto stream = io.lowLevelProvider->wrapSocketFd(dial(kj::str(folder, '/', host)));
    auto link = kj::refcounted<Link>(*this, host, kj::mv(stream));
    link->introduceOneself();
    return kj::Own<Connection>(kj::mv(link));
  } catch (kj::Exception& exception) {
    return kj::Own<Connection>(kj::refcounted<Link>(*this, host, kj::mv(exception)));
  }
}

void Mesh::Inflow::hold() {
  holdBehind = NOTHING;
  auto pair = kj::newPromiseAndFulfiller<void>();
  held = pair.promise.fork();
  release = kj::mv(pair.fulfiller);
}

void Mesh::hold(kj::StringPtr vat, uint16_t behind) {
  auto& flow = inflow(vat);
  flow.holdBehind = behind;
  if (behind == NOTHING) flow.hold();
}

void Mesh::release(kj::StringPtr vat) {
  auto& flow = inflow(vat);
  flow.holdBehind = NOTHING;
  KJ_IF_SOME(release, flow.release) { release->fulfill(); }
  flow.release = kj::none;
  flow.held = kj::none;
}

uint32_t Mesh::came(kj::StringPtr vat, uint16_t tag) {
  KJ_IF_SOME(count, inflow(vat).counts.find(tag)) { return count; }
  return 0;
}

Mesh::Inflow& Mesh::inflow(kj::StringPtr vat) {
  return *inflows.findOrCreate(vat, [&]() -> kj::HashMap<kj::String, kj::Own<Inflow>>::Entry {
    return {kj::str(vat), kj::heap<Inflow>()};
  });
}

Mesh::Meeting& Mesh::meeting(uint64_t token) {
  return *meetings.findOrCreate(token, [&]() -> kj::HashMap<uint64_t, kj::Own<Meeting>>::Entry {
    return {token, kj::heap<Meeting>(kj::newPromiseAndFulfiller<kj::Rc<kj::Refcounted>>())};
  });
}

void Mesh::taskFailed(kj::Exception&& exception) {
  fprintf(stderr, "mesh: %s\n", kj::str(exception).cStr());
}
