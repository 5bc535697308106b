@0xa7f04c1de8b2536d;
# A file whose code lies deeper in the crate.

using Rust = import "/rust.capnp";
$Rust.parentModule("deep::down");

interface Moved {
  where @0 () -> (text :Text);
}

interface Renamed $Rust.name("Chosen") {
  # Everything in here has another name in Rust.

  pick @0 (given :Named) -> (taken :Named, many :List(Level));
  struct Named $Rust.name("NamedHere") {
    old @0 :Text $Rust.name("new");
    level @1 :Level;
    maybe @2 :Text $Rust.option;
    union {
      first @3 :UInt32 $Rust.name("theFirst");
      second :group $Rust.name("theSecond") { x @4 :UInt32; }
    }
  }
  enum Level $Rust.name("Height") { low @0 $Rust.name("bottom"); high @1; }
}
