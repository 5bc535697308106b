@0xe27a91c4d50b3f68;
# `-> stream` beside the struct that it stands for, named as a type.

using Stream = import "/capnp/stream.capnp";

interface Pump {
  push @0 (chunk :Data) -> stream;
  pull @1 () -> Stream.StreamResult;
  both @2 (result :Stream.StreamResult) -> (result :Stream.StreamResult);
  named @3 Chunk -> stream;
  generic @4 [T] (item :T) -> stream;
  params @5 Stream.StreamResult -> (list :List(Stream.StreamResult));
  struct Chunk { data @0 :Data; stream @1 :Void; }
}

interface Sub extends(Pump) { push2 @0 (chunk :Data) -> stream; }
