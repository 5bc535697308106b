@0x8f5d14e1c273738d;
# Bytes that flow one way. The ids are those of the C++ implementation's
# byte-stream.capnp, so that its streams and these can be connected.

interface ByteStream {
  write @0 (bytes :Data) -> stream;
  # Takes the next bytes.

  end @1 ();
  # Says that there are no more. A stream that is dropped without this was cut off.

  getSubstream @2 (callback :SubstreamCallback, limit :UInt64 = 0xffffffffffffffff)
      -> (substream :ByteStream);
  # A shorter way to the same place, for whoever passes a stream on. Need not be
  # supported.

  startTls @3 (expectedServerHostname :Text) -> stream;
  # Goes on encrypted. Need not be supported.

  interface SubstreamCallback {
    ended @0 (byteCount :UInt64);
    # The substream was ended after so many bytes. The stream itself goes on.

    reachedLimit @1 () -> (next :ByteStream);
    # The substream has taken as many bytes as its limit allows. What comes now goes on.
  }
}
