//! How much a connection may hold.

/// Limits of one connection. Every one has a default that is safe against a
/// hostile peer and roomy for an honest one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Calls of this side that may be outstanding, not counting those that were
    /// cancelled. Application threads that want to make one more wait. Calls that
    /// are forwarded for a peer are made anyway, and each worker may have one more,
    /// so that a method can call back. Default: 128.
    pub questions: u32,

    /// Capabilities of this side that may be exported at once. A call or result
    /// that would need more fails with `overloaded`. Default: 8192.
    pub exports: u32,

    /// Calls of the peer that it has not finished. One more ends the connection
    /// with Abort. Default: 65536.
    pub answers: u32,

    /// Embargoes at once. A promise that would need one more fails with
    /// `overloaded`. Default: 8192.
    pub embargoes: u32,

    /// Words of eight bytes in one message. A larger one of our own fails the
    /// call that needs it; a larger one of the peer's ends the connection with
    /// Abort, before memory is set aside for it. Default: 8 Mi words (64 MiB),
    /// which is what other implementations accept.
    pub message_words: u64,

    /// Segments in one message of the peer's; more end the connection with
    /// Abort. Default: 512.
    pub message_segments: u32,

    /// File descriptors that travel with one message of this side, if the
    /// transport carries any. Further capabilities travel without theirs.
    /// Default: 16.
    pub message_fds_sent: u32,

    /// File descriptors that are accepted with one message of the peer's; 0 for a
    /// peer that has no business sending any. The others are closed, and their
    /// capabilities arrive without. Default: 16.
    pub message_fds_received: u32,

    /// File descriptors that came from the peer's socket and that somebody here
    /// still has; copies made with `try_clone` do not count. Beyond that they are
    /// closed on arrival, and their capabilities arrive without. Default: 128.
    pub open_fds: u32,

    /// Bytes queued to be sent. While there are more, application threads that
    /// want to make a call wait; answers and what the protocol itself sends are
    /// queued anyway. Default: 16 MiB.
    pub queued_bytes: u64,

    /// Bytes queued to be sent at which a connection is ended with Abort: its
    /// peer asks, but does not read the answers. Default: 256 MiB.
    pub backlog_bytes: u64,

    /// Bytes of the peer's calls that wait because of the flow limit
    /// ([`ConnConfig::flow_limit`](crate::ConnConfig::flow_limit)). More end the
    /// connection with Abort. Default: 64 MiB.
    pub held_back_bytes: u64,

    /// Messages that were received and wait for the coordinator. While there are
    /// more, nothing is read. Default: 256.
    pub received_messages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            questions: 128,
            exports: 8192,
            answers: 1 << 16,
            embargoes: 8192,
            message_words: 8 << 20,
            message_segments: 512,
            message_fds_sent: 16,
            message_fds_received: 16,
            open_fds: 128,
            queued_bytes: 16 << 20,
            backlog_bytes: 256 << 20,
            held_back_bytes: 64 << 20,
            received_messages: 256,
        }
    }
}
