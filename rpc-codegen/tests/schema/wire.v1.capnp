@0xc80d6f2b7e19a354;
# A file whose name has a dot in it.

struct Frame { next @0 :Frame; }
interface Line { send @0 (frame :Frame) -> (); }
