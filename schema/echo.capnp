@0xe6c3a1f0b5d29c47;
# An object that does next to nothing, so that what it takes to call it can be
# measured. Peers in other languages serve the same interface.

interface Echo {
  ping @0 ();
  # Returns at once.

  echo @1 (data :Data) -> (data :Data);
  # Returns what it was given.

  next @2 () -> (echo :Echo);
  # Returns an object like this one, for chains of calls to pipelined results.

  push @3 (data :Data) -> stream;
  # Takes part of a stream.

  total @4 () -> (bytes :UInt64);
  # How many bytes were pushed so far.
}
