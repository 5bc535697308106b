@0xa6e6a265105aae94;
# What a server says of itself, for people who call it by hand.

interface Description {
  schema @0 () -> (request :Data);
  # The schemas of the server's objects, as `capnp compile -o-` writes them: a serialized
  # CodeGeneratorRequest. One of its requested files has the interface of the bootstrap
  # object.
}
