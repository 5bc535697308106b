@0x9d6c1f4be0a3785e;
# What `capnp-threads tap --record` writes: a stream of these messages, one for each event,
# in the order in which the events happened.

struct Event {
  time @0 :UInt64;
  # Since the recording began, in nanoseconds.

  connection @1 :UInt32;
  # Connections are counted from 1, in the order in which clients came.

  union {
    opened @2 :Text;
    # A client was accepted, and the server was reached. What is known of the client.

    message @3 :Message;
    # A message passed through.

    ended @4 :End;
    # One side has said its last message.
  }

  struct Message {
    fromClient @0 :Bool;
    # Who sent it: the side that connected, or the one that was reached.

    segments @1 :List(Data);
    # Its content, as it went over the connection.

    descriptors @2 :UInt16;
    # How many file descriptors went with it. They are not recorded.
  }

  struct End {
    fromClient @0 :Bool;
    failure @1 :Text;
    # Why, if it is not that the side has finished.
  }
}
