@0xb41e2d20f0a9c3d7;
# What torture.capnp imports.

interface Base {
  ping @0 () -> (count :UInt32);
  same @1 Shared -> Shared;
}

interface Cell(T) {
  # A generic interface that is extended in another file.

  load @0 () -> (value :T);
  store @1 (value :T) -> Shared;
}

struct Shared {
  text @0 :Text;
  base @1 :Base;
}

enum Colour { red @0; green @1; }
