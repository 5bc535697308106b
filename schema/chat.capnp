@0xd3c2a1b7e5f04986;
# A chat room that calls its guests back.

interface Room {
  join @0 (name :Text, listener :Listener) -> (seat :Seat);
  # Takes a seat. From now on the listener is told what is said, by whomever.
}

interface Seat {
  # A place in a room. Dropping it leaves the room.

  say @0 (text :Text);
  # Tells everybody in the room, oneself too. Returns when all have heard it.
}

interface Listener {
  said @0 (who :Text, text :Text);
}
