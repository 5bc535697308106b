@0xbc0f5a7e219d8346;
# Everything that can be read as an `Option`.

using Rust = import "/rust.capnp";

interface Sink { put @0 (text :Text) -> (); }

struct Setup(T) {
  text @0 :Text $Rust.option;
  data @1 :Data $Rust.option;
  list @2 :List(UInt8) = [1] $Rust.option;
  structs @3 :List(Setup(T)) $Rust.option;
  setup @4 :Setup(T) $Rust.option;
  log @5 :Sink $Rust.option;
  any @6 :AnyPointer $Rust.option;
  capability @7 :Capability $Rust.option;
  parameter @8 :T $Rust.option;
  union {
    none @9 :Void;
    some @10 :Sink $Rust.option;
    other @11 :AnyPointer $Rust.option;
  }
}

interface Machine { start @0 (setup :Setup(Sink)) -> (setup :Setup(Sink)); }
