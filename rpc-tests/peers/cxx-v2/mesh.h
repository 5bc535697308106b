// A network of vats in which any two can be introduced to each other. Every vat listens at a
// Unix socket of its name in a folder that all share; who connects says first who it is, by
// the length of its name in one byte and the name. Then come messages in standard framing.
#pragma once

#include <capnp/rpc.h>
#include <capnp/serialize-async.h>
#include <kj/async-io.h>
#include <kj/async-queue.h>
#include <kj/map.h>

#include "party.capnp.h"

using MeshBase = capnp::VatNetwork<VatName, Completion, Awaited, Contact, Joined>;

class Mesh final: public MeshBase, private kj::TaskSet::ErrorHandler {
public:
  Mesh(kj::AsyncIoContext& io, kj::StringPtr folder, kj::StringPtr self);

  kj::Maybe<kj::Own<Connection>> connect(VatName::Reader hostId) override;
  kj::Promise<kj::Own<Connection>> accept() override { return accepted.pop(); }

  // Whether contacts are passed on.
  bool forwards = true;

  // Reads nothing more from a vat behind the next message with this tag, or from now on if it
  // is NOTHING.
  static constexpr uint16_t NOTHING = 0xffff;
  void hold(kj::StringPtr vat, uint16_t behind);
  // Reads on.
  void release(kj::StringPtr vat);
  // How many messages with this tag were read from a vat.
  uint32_t came(kj::StringPtr vat, uint16_t tag);
  // Whether there is a connection with a vat.
  bool connected(kj::StringPtr vat) { return links.find(vat) != kj::none; }

private:
  class Link;

  // What is counted and held back of what comes from a vat.
  struct Inflow {
    kj::HashMap<uint16_t, uint32_t> counts;
    uint16_t holdBehind = NOTHING;
    kj::Maybe<kj::ForkedPromise<void>> held;
    kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> release;

    void hold();
  };

  // Where a provision and those who come for it meet.
  struct Meeting {
    Meeting(kj::PromiseFulfillerPair<kj::Rc<kj::Refcounted>> pair)
        : provided(pair.promise.fork()), fulfiller(kj::mv(pair.fulfiller)) {}
    kj::ForkedPromise<kj::Rc<kj::Refcounted>> provided;
    kj::Own<kj::PromiseFulfiller<kj::Rc<kj::Refcounted>>> fulfiller;
  };

  kj::AsyncIoContext& io;
  kj::String folder;
  kj::String self;
  kj::HashMap<kj::String, Link*> links;
  kj::HashMap<kj::String, kj::Own<Inflow>> inflows;
  kj::HashMap<uint64_t, kj::Own<Meeting>> meetings;
  kj::ProducerConsumerQueue<kj::Own<Connection>> accepted;
  kj::Own<kj::ConnectionReceiver> listener;
  kj::TaskSet tasks;

  kj::Promise<void> listen();
  kj::Promise<void> welcome(kj::Own<kj::AsyncIoStream> stream);
  Inflow& inflow(kj::StringPtr vat);
  Meeting& meeting(uint64_t token);
  void taskFailed(kj::Exception&& exception) override;
};
