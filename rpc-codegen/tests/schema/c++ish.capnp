@0xd96b0e8f1c5a7342;
# A file whose name has characters that no name in Rust has.

using Wire = import "wire.v1.capnp";
using Second = import "2fa.capnp";

struct Pair { left @0 :Wire.Frame; right @1 :Second.Token; }
interface Swap extends(Wire.Line, Second.Second) { swap @0 (pair :Pair) -> (pair :Pair); }
