@0xc2140110abd863ff;
# How a caller's trace goes on in another vat, if both want that.
#
# The trace is not a field of each message, but belongs to a capability: whoever joins an
# object gets it anew, and calls on what comes back belong to the caller's trace.

using import "greeter.capnp".Greeter;

interface Traced {
  # A greeter that can be called within traces.

  join @0 (traceparent :Text, tracestate :Text) -> (greeter :Greeter);
  # Returns the greeter for the calls of one trace, which is named as in the header fields
  # of the W3C's "Trace Context".
}
