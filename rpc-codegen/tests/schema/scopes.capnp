@0xd1c74f5a90be6283;
# What can be declared inside of something generic.

struct Box(T) {
  value @0 :T;
  kind @1 :Kind = big;
  kinds @2 :List(Kind);
  inner @3 :Inner;
  twice @4 :List(List(Kind));

  enum Kind { small @0; big @1; }
  struct Inner { kind @0 :Kind; value @1 :T; deep @2 :List(Deep); }
  struct Deep { kinds @0 :List(Kind); }
  const favourite :Kind = big;
  const names :List(Text) = ["a", "b"];
  const boxes :List(Box(Text)) = [(value = "one"), (kind = small)];
  const open :List(Box(T)) = [(kind = small)];
  annotation mark @0x9d2b8e07c5f1a463 (*) :List(Kind);
}

interface Shop(T) {
  enum Size { small @0; large @1; }
  struct Order { size @0 :Size; item @1 :T; }
  sell @0 (item :T, size :Size = large) -> (size :Size, order :Order);
  both @1 Order -> Order;
  interface Till { take @0 (order :Order) -> (size :Size); }
}

interface Bakery extends(Shop(Box(Text))) {}

struct Marked $Box(Data).mark([small]) {
  kind @0 :Box(Text).Kind $Box(Text).mark([big, small]);
}

enum Nothing {}
struct Void2 { nothing @0 :Nothing; nothings @1 :List(Nothing); }

struct Values {
  const nan :Float64 = nan;
  const far :Float32 = -inf;
  const low :Int64 = -9223372036854775808;
  const bytes :Data = 0x"00 22 5c ff 0a";
  const quoted :Text = "\"\\\n\t\x00ü";
  const any :AnyPointer = .Values.text;
  const text :Words = (text = "pointed at");
  struct Words {
    text @0 :Text = "default";
    data @1 :Data = 0x"01 02";
    float @2 :Float32 = nan;
    double @3 :Float64 = -0.5;
    yes @4 :Bool = true;
    tiny @5 :Int8 = -128;
    huge @6 :UInt64 = 0xffffffffffffffff;
    words @7 :List(Words) = [(text = "nested"), (tiny = 5)];
    word @8 :Words = (data = 0x"03");
    lists @9 :List(AnyList);
    any @10 :AnyStruct;
  }
}
