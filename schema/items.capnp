@0xf4d03655f690cda6;
# Values that come one after the other: pulled by who wants them, or pushed by who has
# them.

struct Item(T) {
  value @0 :T;
}

interface Items(T) {
  # What an iterator yields. One that is dropped before its end is given up.

  next @0 (most :UInt32) -> (items :List(Item(T)), end :Bool);
  # The next items, as many as there are until one has to be waited for that is not the
  # first, or fewer; never more than `most`. With `end` they are the last ones. An error is
  # one of the iterator, and ends it.
}

interface ItemSink(T) {
  # Where items are put.

  push @0 (item :Item(T)) -> stream;
  # Takes the next item.

  end @1 ();
  # Says that there are no more. A sink that is dropped without this was cut off.
}
