@0xd8a51b6f0c3e7f92;
# Everything in schemas that is hard on a generator of Rust.

using Other = import "other.capnp";
using Moved = import "moved.capnp";

# ---- names

# Methods share their structs where it does not matter, because what is
# generated for a struct is long.
struct Number { n @0 :UInt32; }
interface Keywords {
  async @0 (dyn :UInt32) -> (try :UInt32, self :Text);
  dyn @1 Number -> Number;
  try @2 Number -> Number;
  await @3 Number -> Number;
  gen @4 Number -> Number;
  clone @5 Number -> (clone :Keywords);
  self @6 Number -> Number;
  super @7 Number -> Number;
  type @8 (match :Text) -> Number;
  drop @9 Number -> Number;
  dispatch @10 Number -> Number;
  fromServer @11 Number -> Number;
  castTo @12 Number -> Number;
  crate @13 (params :UInt32, results :UInt32, server :UInt32, call :UInt32) -> Number;
  box @14 Number -> Number;
}

struct Words {
  union {
    self @0 :UInt32;
    reader @1 :Text;
    builder @2 :Text;
    which @3 :Void;
    owned @4 :Keywords;
    type :group { fn @5 :UInt32; impl @6 :Keywords; }
    async :group { await @7 :UInt32; }
  }
  dyn @8 :Text;
  gen @9 :List(Async);

  struct Async { try @0 :UInt8; }
  struct Core { text @0 :Text; flag @1 :Bool; }
  struct Bool { bool @0 :Bool; }
  struct U8 { value @0 :UInt8; }
  enum Str { str @0; self @1; }
  enum Self { crate @0; self @1; super @2; }
  enum Pipeline { first @0; }
}

struct Clashes {
  # A struct and a group, an enum and a union's field, of one name.

  struct Call { depth @0 :UInt32; }
  enum Kind { good @0; bad @1; }
  const kinds :UInt32 = 7;
  union {
    call :group { made @0 :Call; kind @1 :Kind; }
    kind @2 :Kind;
  }
}

interface Foo {
  # Structs that are called like those of methods.

  foo @0 (x :UInt32) -> (y :UInt32);
  bar @1 FooParams -> FooResults;
  struct FooParams { mine @0 :Text; }
  struct FooResults { yours @0 :Text; }
  enum BarParams { a @0; b @1; }
  enum Client { c @0; }
  baz @2 (params :BarParams, client :Client) -> (params :BarParams);
}

# ---- capabilities wherever they can be

struct Holder {
  one @0 :Foo;
  list @1 :List(Foo);
  lists @2 :List(List(Foo));
  any @3 :AnyPointer;
  capability @4 :Capability;
  capabilities @5 :List(Capability);
  boxed @6 :Box(Foo);
  boxedList @7 :Box(List(Capability));
  boxedAny @8 :Box(AnyPointer);
  inner :group { cap @9 :Foo; deeper :group { cap @10 :Foo; } }
  union { nothing @11 :Void; something @12 :Foo; several @13 :List(Foo); }
  imported @14 :Other.Base;
  holders @15 :List(Holder);
}

struct Box(T) { value @0 :T; }

interface Carrier {
  carry @0 (holder :Holder, cap :Capability, caps :List(Capability), any :AnyPointer)
      -> (holder :Holder, cap :Capability, caps :List(Capability), any :AnyPointer);
  boxes @1 (text :Box(Text), data :Box(Data), cap :Box(Foo), list :Box(List(UInt32)),
            lists :Box(List(List(Text))), enums :Box(List(Other.Colour)),
            structs :Box(List(Other.Shared)), nested :Box(Box(Text)))
      -> (cap :Box(Foo), nested :Box(Box(Foo)));
  give @2 () -> (holder :Holder, foo :Foo, any :AnyPointer, cap :Capability);
}

# ---- generics

interface Map(Key, Value) {
  get @0 (key :Key) -> (value :Value, map :Map(Key, Value));
  swap @1 () -> (swapped :Map(Value, Key));
  entry @2 Entry(Key, Value) -> Entry(Value, Key);
  keyOnly @3 Box(Key) -> Box(Box(Key));
  plain @4 Other.Shared -> Number;
  struct Entry(Key2, Value2) { key @0 :Key2; value @1 :Value2; }
  struct Inner { key @0 :Key; entry @1 :Entry(Value, Text); }
  inner @5 Inner -> Inner;
  nested @6 () -> (walker :Walker, text :Walker.Step(Text));
  interface Walker {
    next @0 () -> (key :Key, value :Value);
    struct Step(T) { t @0 :T; key @1 :Key; }
  }
}

interface TextMap extends(Map(Text, Data)) { size @0 Number -> Number; }
interface TextTo(Value) extends(Map(Text, Value)) { first @0 Number -> Box(Value); }
interface TextToBox(Item) extends(TextTo(Box(Item)), Other.Cell(Item)) { last @0 Number -> Box(Item); }
interface Leaf extends(TextToBox(Foo)) {}

interface Generic {
  id @0 [T] (value :T) -> (value :T);
  pair @1 [A, B] (a :A, b :Box(B)) -> (b :B, a :Box(A));
  named @2 [T] Box(T) -> Box(Box(T));
  push @3 [T] (item :T) -> stream;
}

interface GenericBoth(T) {
  both @0 [U] (t :T, u :U) -> (u :U, t :T);
}

struct Scope(T) {
  value @0 :T;
  interface Inside {
    put @0 (value :T) -> (scope :Scope(T));
    interface Deeper(U) { both @0 (t :T, u :U) -> (inside :Inside); }
  }
  struct Shadow(T) { inner @0 :T; group :group { deep @1 :T; } }
  union { none @1 :Void; some @2 :T; cap @3 :Inside; }
}

struct OnlyCaps(A, B) {
  # A union whose members mention the parameters in nothing but interfaces.
  union { none @0 :Void; map @1 :Map(A, B); cell @2 :Other.Cell(B); }
}

struct Reserved(Client, Reader, Self) { client @0 :Client; reader @1 :Reader; self @2 :Self; }

# ---- inheritance

interface Left extends(Other.Base) { left @0 Number -> Number; clash @1 Number -> Number; }
interface Right extends(Other.Base) { right @0 Number -> Number; clash @1 Number -> Number; }
interface Diamond extends(Left, Right) { same @0 Number -> Number; diamond @1 Number -> (diamond :Diamond); }
interface Below extends(Diamond) {}

# ---- methods

interface Streams {
  push @0 (chunk :Data) -> stream;
  done @1 Number -> Number;
}

interface Defaults {
  call @0 (a :Text, b :UInt32 = 123, c :Text = "foo", d :Other.Shared = (text = "deep"),
           e :List(UInt16) = [1, 2, 3], f :Foo = null, g :Float64 = 1.5, h :Bool = true,
           i :Other.Colour = green)
      -> (d :Text, e :Text = "bar");
}

struct Constants {
  const number :Int32 = -5;
  const text :Text = "hello";
  const list :List(Text) = ["a", "b"];
  const shared :Other.Shared = (text = "constant");
  const float :Float64 = 2.5;
}

annotation note(struct, field, interface, method) :Text;

struct Noted $note("about a struct") {
  field @0 :UInt32 $note("about a field");
}

interface FromAfar extends(Moved.Renamed) {
  afar @0 Moved.Renamed.Named -> (moved :Moved.Moved);
}

interface Empty {}
