@0xbf5147cbbecf40c1;
# Every kind of field, for tests that compare JSON.

struct Values {
  nothing @0 :Void;
  flag @1 :Bool;
  otherFlag @2 :Bool = true;
  i8 @3 :Int8;
  i16 @4 :Int16 = -7;
  i32 @5 :Int32;
  i64 @6 :Int64 = 5000000000;
  u8 @7 :UInt8 = 200;
  u16 @8 :UInt16;
  u32 @9 :UInt32 = 4000000000;
  u64 @10 :UInt64;
  f32 @11 :Float32 = 1.5;
  f64 @12 :Float64;
  text @13 :Text;
  data @14 :Data;
  color @15 :Color = green;
  nested @16 :Values;

  union {
    unset @17 :Void;
    name @18 :Text = "nobody";
    code @19 :UInt16;
    point :group {
      x @20 :Float64;
      y @21 :Float64 = -1;
    }
    pair @22 :Pair(Text, List(Color)) = (first = "one");
    bytes @44 :Data = 0x"01 ff";
  }

  place :group {
    street @23 :Text;
    number @24 :Int32 = 12;
    kind :union {
      house @25 :Void;
      flat @26 :Int8;
    }
  }

  nothings @27 :List(Void);
  flags @28 :List(Bool);
  i8s @29 :List(Int8);
  i16s @30 :List(Int16);
  i32s @31 :List(Int32);
  i64s @32 :List(Int64);
  u8s @33 :List(UInt8);
  u16s @34 :List(UInt16);
  u32s @35 :List(UInt32);
  u64s @36 :List(UInt64);
  f32s @37 :List(Float32);
  f64s @38 :List(Float64);
  texts @39 :List(Text);
  datas @40 :List(Data);
  colors @41 :List(Color);
  nesteds @42 :List(Values);
  lists @43 :List(List(Int16));

  pairs @45 :List(Pair(Pair(Text, Data), Values));
  object @46 :Object;
  anything @47 :AnyPointer;
}

enum Color {
  red @0;
  green @1;
  deepBlue @2;
}

struct Pair(First, Second) {
  first @0 :First;
  second @1 :Second;
}

interface Object {
  method @0 ();
}
