@0xf5b19c07e84d2a36;
# Annotations for a tool that is not concerned with Rust.

struct Table { name @0 :Text; keys @1 :List(Text); }
struct Column { width @0 :UInt16; }
struct Box(T) { value @0 :T; }
enum Level { low @0; high @1; }

annotation table @0xe04a7d9b2c6f1835 (*) :Table;
annotation column @0xc93e5b1f0a7d8264 (*) :Column;
annotation boxed @0xb7f2084d6e1c9a53 (*) :Box(Text);
annotation level @0xa1d86f3e9b5c0742 (*) :Level;
annotation levels @0x9e5d3c7b1f0a8264 (*) :List(Level);
