@0xa184c7885cdaf2a1;
# What the RPC protocol leaves to the network, for the smallest network: one
# connection between a vat that listens and a vat that dialled.
#
# Third parties don't exist here, so what would introduce one is empty.

enum Side {
  # A vat is known by the side of the connection that it is on, and by nothing
  # else.
  server @0;
  # The one that listened.
  client @1;
  # The one that dialled.
}

struct VatId {
  side @0 :Side;
}

struct ThirdPartyCompletion {
  # Names a provision to the vat that provides it. The third party can only be
  # one of the two vats, so a number that the provider picks is enough.
  joinId @0 :UInt32;
}

struct ThirdPartyToAwait {}
# Whom a provider should expect: the peer, there is nobody else.

struct ThirdPartyToContact {}
# Where a third party can be found. Never sent between two parties.

struct JoinKeyPart {
  # One of the Join messages which together ask whether several capabilities are
  # the same object.
  joinId @0 :UInt32;
  # Chosen by the asker, the same in all parts of one join.
  partCount @1 :UInt16;
  partNum @2 :UInt16;
  # Which of the partCount parts this is, from 0.
}

struct JoinResult {
  joinId @0 :UInt32;
  succeeded @1 :Bool;
  # All the parts reached the same object.
  cap @2 :AnyPointer;
  # That object, in one of the parts' results when the join succeeded.
}
