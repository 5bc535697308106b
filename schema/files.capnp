@0xd3a4f0c2b18e6a57;
# A file that is sent in pieces: what the examples upload and download speak.

using import "/capnp-threads/byte-stream.capnp".ByteStream;

interface File {
  size @0 () -> (bytes :UInt64);
  # How long it is now.

  read @1 (from :UInt64, to :ByteStream);
  # Writes what comes from this place on to a stream, and ends the stream. Returns when that
  # was taken.

  append @2 () -> (at :UInt64, to :ByteStream);
  # A stream that goes on where the file ends, which is at this place.
}
