@0x8f3e0d3b6f4c1a27;
# Elements that are called as what Rust programs find without a path, or as what
# generated code calls its own.

using Rust = import "/rust.capnp";

enum From { here @0; there @1; }
enum Option { some @0; none @1; }
enum Result { ok @0; err @1; error @2; }
enum Clone { debug @0; hash @1; }

interface Mover {
  move @0 (from :From, option :Option, result :Result, clone :Clone) -> (from :From);
}

struct Span {
  # A union whose members become variants that are called as traits and types.

  unit @0 :Unit;
  note @1 :Text $Rust.option;
  union {
    from @2 :UInt64;
    upTo @3 :UInt64;
    option @4 :UInt16;
    some @5 :Text;
    none @6 :Void;
    ok @7 :List(Unit);
    err @8 :Unit;
    into :group { tryFrom @9 :Text; box @10 :Span; }
    string @11 :Span;
    vec @12 :AnyPointer;
    result @13 :Mover;
    send @14 :Bool;
    sync @15 :Float32;
    string2 @16 :Data;
    reader2 @17 :Capability;
  }
  enum Unit { metre @0; second @1; from @2; self @3; }
  enum Some { some @0; }
  struct None { none @0 :Some; }
  const default :Unit = second;
  const ok2 :List(Unit) = [metre, from];
}

struct Derived {
  # A union whose members, and an enum beside it, are called as traits that are derived.

  union {
    clone @0 :Void;
    copy @1 :Void;
    debug @2 :Void;
    eq @3 :Kind;
    partialEq @4 :Void;
    ord @5 :Void;
    partialOrd @6 :Void;
    hash @7 :Void;
  }
  enum Kind { clone @0; default @1; }
}

struct Slot(A0, A1, NODE) {
  # Type parameters that are called as those of the generator.

  union {
    nothing @0 :Void;
    text @1 :Text;
    source @2 :Source(A0);
    value @3 :A1;
    node @4 :NODE;
    both :group { first @5 :A0; second @6 :Source(A1); }
  }
}
interface Source(T) { pull @0 () -> (item :T); }
interface Shelf { slot @0 () -> (slot :Slot(Text, Data, Shelf)); }

struct Lower(f32, u8, str, t, PullParams) {
  float @0 :f32;
  byte @1 :u8;
  text @2 :str;
  t @3 :t;
  params @4 :PullParams;
  number @5 :Float32;
  interface Inside { pull @0 [t, t2] (t :t, t2 :t2, str :str) -> (params :PullParams, u8 :u8); }
}

annotation reader @0xb8c6f1e4a3d20795 (*) :Text;
struct Reader $reader("a struct") { reader @0 :Text; }
const reader2 :Text = "constant";
