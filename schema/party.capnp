@0x928914e1f82a1962;
# What three vats do for a test that tells one of them to give another what a third one
# hosts, whoever has made them, and the tokens by which such vats introduce each other.

interface Counter {
  # What is given away.

  next @0 () -> (number :UInt32);
  # How often this was called before.
}

interface Party {
  # What every vat offers.

  counter @0 () -> (counter :Counter);
  # A counter that this vat hosts, always the same.

  count @1 () -> (count :UInt32);
  # How often that one was called.

  obtain @2 (vat :Text, settled :Bool);
  # Keeps the counter of another vat, in place of what is kept so far. Returns when that vat
  # has answered, if `settled` is set, and otherwise keeps what it will answer.

  promise @3 ();
  # Keeps a promise.

  resolve @4 (vat :Text);
  # Resolves the promise to the counter of another vat, when that vat has answered.

  keep @5 (counter :Counter);
  # Keeps this.

  kept @6 () -> (counter :Counter);
  # What is kept.

  give @7 (vat :Text);
  # Gives what is kept to another vat, which keeps it, too.

  call @8 (times :UInt32) -> (numbers :List(UInt32));
  # Calls what is kept so often, without waiting for an answer in between.

  ask @9 (vat :Text, before :UInt32, after :UInt32) -> (numbers :List(UInt32));
  # Asks another vat for what it keeps, and keeps that. Calls it so often before that vat has
  # answered, and so often afterwards, without waiting for an answer of what is called.

  forget @10 ();
  # Keeps nothing any more.

  hold @11 (vat :Text, behind :UInt16);
  # Reads nothing more from a vat behind the next message that has this tag in the union
  # `Message` of rpc.capnp, or from now on if it is 0xffff.

  release @12 (vat :Text);
  # Reads on.

  came @13 (vat :Text, message :UInt16) -> (count :UInt32);
  # How many messages with this tag have been read from a vat, over all connections. A Finish
  # whose question is from 2^31 on, as that of a Provide, has the tag 0x8004 here.

  connected @14 (vat :Text) -> (connected :Bool);
  # Whether this vat has a connection with another one, as far as it knows.

  forward @15 (on :Bool);
  # Whether this vat passes contacts on that it has not used. At first it does.
}

# The tokens. Layouts are those of the network in which the C++ implementation's branch for
# three vats tests itself.

struct VatName {
  host @0 :Text;
  unique @1 :Bool;
  # Not used.
}

struct Contact {
  # For the recipient.
  path @0 :VatName;
  token @1 :UInt64;
  sentBy @2 :Text;
  # The vat that sends this, which need not be the one that has made it.
}

struct Awaited {
  # For the host.
  token @0 :UInt64;
}

struct Completion {
  # For the host, from the recipient.
  token @0 :UInt64;
}

struct Joined {}
# Not used.

struct Tagged {
  # How every message of rpc.capnp begins.
  tag @0 :UInt16;
  # Which of the union it is.
}
