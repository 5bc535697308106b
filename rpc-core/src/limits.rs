//! How much a connection may hold.

use crate::error::{Error, Result};

/// Limits of one connection. Every limit has a default that is safe against a hostile
/// peer and ample for an honest one.
///
/// ```
/// use capnp_threads_core::{ConnConfig, Limits};
///
/// let mut limits = Limits::default();
/// limits.message_words = 128 << 10;
/// limits.budget_bytes = 16 << 20;
/// let config = ConnConfig::new().limits(limits);
/// # let _ = config;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum number of outstanding calls of this side, without those that were
    /// cancelled. At the limit, application threads wait before they make another call,
    /// unless a [deadline](crate::ConnConfig::call_timeout) ends the wait. Calls that are
    /// forwarded for a peer are made anyway, and each worker may have one more, so that a
    /// method can call back. Default: 128.
    pub questions: u32,

    /// Maximum number of capabilities that this side exports at once. A call or result
    /// that would need more fails with `overloaded`. Default: 8192.
    pub exports: u32,

    /// Maximum number of the peer's calls that it has not finished. One more ends the
    /// connection with Abort. Default: 65536.
    pub answers: u32,

    /// Maximum number of messages at once in which the peer asks whether a capability is the
    /// [same](crate::Client::same_object) as others. One more fails with `overloaded`.
    /// Default: 1024.
    pub joins: u32,

    /// Maximum number of embargoes at once. A promise that would need one more fails
    /// with `overloaded`. Default: 8192.
    pub embargoes: u32,

    /// Maximum number of capabilities that the peer provides here for third vats, which it
    /// [introduces](crate::network::Introductions). What it provides beyond that is not kept:
    /// those who come for it call through the peer. At the peer, this side provides no more
    /// than that either, and stays in the path of what it gives away beyond. Default: 8192.
    pub provisions: u32,

    /// Maximum number of capabilities that the peer has come for and that nobody has provided
    /// yet, or that wait for earlier calls. One more fails with `overloaded`, and the peer
    /// calls through the vat that has introduced it. How long they may wait is
    /// [`introduction_timeout`](crate::network::RpcSystemBuilder::introduction_timeout).
    /// Default: 1024.
    pub accepts: u32,

    /// Maximum number of vats to which this side connects because the peer has
    /// [introduced](crate::network::Introductions) them, each from the attempt to the end of the
    /// connection. Capabilities of further ones are called through the peer. Default: 256.
    pub introduced: u32,

    /// Maximum size of one message, in words of eight bytes. If a message of this side
    /// would be larger, the call that needs it fails; a larger message of the peer ends
    /// the connection with Abort, before memory is allocated for it. Default: 8 Mi
    /// words (64 MiB), which is what other implementations accept.
    pub message_words: u64,

    /// Maximum number of segments in one message of the peer. More end the connection
    /// with Abort. Default: 512.
    pub message_segments: u32,

    /// Maximum number of file descriptors that travel with one message of this side, if
    /// the transport carries any. Further capabilities travel without theirs. Default:
    /// 16.
    pub message_fds_sent: u32,

    /// Maximum number of file descriptors that are accepted with one message of the
    /// peer; 0 for a peer that has no reason to send any. The others are closed, and
    /// their capabilities arrive without them. Default: 16.
    pub message_fds_received: u32,

    /// Maximum number of file descriptors that came from the peer's socket and are
    /// still held on this side; copies made with `try_clone` do not count. Further ones
    /// are closed on arrival, and their capabilities arrive without them. Default: 128.
    pub open_fds: u32,

    /// Number of bytes queued to be sent beyond which application threads wait before
    /// they make a call. Answers and what the protocol itself sends are queued anyway.
    /// Default: 16 MiB.
    pub queued_bytes: u64,

    /// Number of bytes queued to be sent at which a connection is ended with Abort,
    /// because its peer sends calls but does not read the answers. Default: 256 MiB.
    pub backlog_bytes: u64,

    /// Maximum size of the peer's calls that wait because of the flow limit
    /// ([`ConnConfig::flow_limit`](crate::ConnConfig::flow_limit)), in bytes. More end
    /// the connection with Abort. Default: 64 MiB.
    pub held_back_bytes: u64,

    /// What the peer may make this side hold in all, in bytes: its unfinished calls and
    /// their parameters, results that it may still pipeline on, its capabilities, and
    /// what else it can leave to wait here. Parameters and results for which there is no
    /// room fail their call with `overloaded`; if there is no room even for that, the
    /// connection ends with Abort. Default: 256 MiB.
    pub budget_bytes: u64,

    /// Maximum number of received messages that wait for the coordinator. At the limit,
    /// nothing more is read, nor if they take more than an eighth of `budget_bytes`.
    /// Default: 256.
    pub received_messages: u32,
}

impl Limits {
    /// Whether a connection can work with them.
    ///
    /// # Errors
    /// `failed`, with the name of a limit that lets nothing through.
    pub(crate) fn check(&self) -> Result<()> {
        let least = [
            ("questions", u64::from(self.questions), "every call would wait for ever"),
            ("queued_bytes", self.queued_bytes, "every call would wait for ever"),
            ("message_words", self.message_words, "no message could be sent"),
            ("message_segments", u64::from(self.message_segments), "no message could arrive"),
            ("received_messages", u64::from(self.received_messages), "nothing would be read"),
        ];
        match least.iter().find(|(_, value, _)| *value == 0) {
            Some((name, _, why)) => {
                Err(Error::failed(format!("Limits::{name} is 0, and {why}; make it 1 or more")))
            }
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            questions: 128,
            exports: 8192,
            answers: 1 << 16,
            joins: 1024,
            embargoes: 8192,
            provisions: 8192,
            accepts: 1024,
            introduced: 256,
            message_words: 8 << 20,
            message_segments: 512,
            message_fds_sent: 16,
            message_fds_received: 16,
            open_fds: 128,
            queued_bytes: 16 << 20,
            backlog_bytes: 256 << 20,
            held_back_bytes: 64 << 20,
            budget_bytes: 256 << 20,
            received_messages: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_let_nothing_through_are_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        type Change = fn(&mut Limits);
        let wrong: [(&str, Change); 5] = [
            ("questions", |limits| limits.questions = 0),
            ("queued_bytes", |limits| limits.queued_bytes = 0),
            ("message_words", |limits| limits.message_words = 0),
            ("message_segments", |limits| limits.message_segments = 0),
            ("received_messages", |limits| limits.received_messages = 0),
        ];
        for (name, change) in wrong {
            let mut limits = Limits::default();
            change(&mut limits);
            let told = limits.check().err().map(|error| error.reason().to_owned());
            let begins = format!("Limits::{name} is 0");
            assert!(told.is_some_and(|told| told.starts_with(&begins)), "{name}");
        }
    }
}
