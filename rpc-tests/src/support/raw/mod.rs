//! A peer that says whatever a test wants it to say, right or wrong.
//!
//! It knows the protocol's messages and their framing, and nothing of what they
//! mean.

mod messages;
mod said;

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use capnp_threads_core::capnp::message::ReaderOptions;
use capnp_threads_core::capnp::serialize;
use capnp_threads_core::transport::Transport;
use capnp_threads_core::{ConnConfig, Connection, Vat};
use capnp_threads_transport::unix;
use rpc_schema::rpc_capnp::message;

pub use self::messages::{
    Loopback, accept, call, call_foo_with_contact, call_with_contact, finish, frame, framed,
    pointer_to_first, provide, tagged, with_pointer, words, write_cap, write_payload, write_target,
    write_token,
};
pub use self::said::{Cap, Outcome, Said, Target, said};

/// The type id of `TestMoreStuff`.
pub const MORE_STUFF: u64 = 0xddc7_0bf9_7841_33cf;
/// The ordinal of `callFoo`.
pub const CALL_FOO: u16 = 0;
/// The ordinal of `neverReturn`.
pub const NEVER_RETURN: u16 = 2;
/// The ordinal of `hold`.
pub const HOLD: u16 = 3;
/// The ordinal of `getHeld`.
pub const GET_HELD: u16 = 5;
/// The ordinal of `echo`.
pub const ECHO: u16 = 6;
/// The ordinal of `getHandle`.
pub const GET_HANDLE: u16 = 9;

/// The other end of a connection, in the hands of a test.
#[derive(Debug)]
pub struct RawPeer {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl RawPeer {
    /// Connects a raw peer to a vat.
    pub fn connect(vat: &Vat, config: ConnConfig) -> (RawPeer, Connection) {
        let (peer, transport) = RawPeer::alone();
        (peer, vat.connect(transport, config).unwrap())
    }

    /// A raw peer, and the other end, which is not connected to a vat yet.
    pub fn alone() -> (RawPeer, Transport) {
        let (here, there) = UnixStream::pair().unwrap();
        (RawPeer::over(here), unix::from_stream(there).unwrap())
    }

    /// One that talks over a stream.
    pub fn over(stream: UnixStream) -> RawPeer {
        let reader = BufReader::new(stream.try_clone().unwrap());
        RawPeer { reader, writer: stream }
    }

    /// Another handle to write with, for a thread of its own.
    pub fn writer(&self) -> UnixStream {
        self.writer.try_clone().unwrap()
    }

    // ---- Writing

    /// Writes bytes as they are. A vat that has ended the connection gets none.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes);
    }

    /// Ends the writing direction.
    pub fn end(&mut self) {
        // If the vat has gone already there is nothing to end.
        let _ = self.writer.shutdown(Shutdown::Write);
    }

    /// Writes a message.
    pub fn send(&mut self, build: impl FnOnce(message::Builder<'_>)) {
        self.bytes(&frame(build));
    }

    /// Asks for the bootstrap object.
    pub fn bootstrap(&mut self, question: u32) {
        self.send(|message| message.init_bootstrap().set_question_id(question));
    }

    /// A call whose parameters have each of `caps` behind one pointer of the
    /// first pointers of the content.
    pub fn call(&mut self, question: u32, target: &Target, method: u16, caps: &[Cap]) {
        self.bytes(&call(question, target, MORE_STUFF, method, caps));
    }

    /// Writes a Finish.
    pub fn finish(&mut self, question: u32, release: bool) {
        self.bytes(&finish(question, release));
    }

    /// Writes a Release of so many references.
    pub fn release(&mut self, id: u32, count: u32) {
        self.send(|message| {
            let mut release = message.init_release();
            release.set_id(id);
            release.set_reference_count(count);
        });
    }

    /// Says what a promise turned out to be.
    pub fn resolve(&mut self, promise: u32, to: &Cap) {
        self.send(|message| {
            let mut resolve = message.init_resolve();
            resolve.set_promise_id(promise);
            write_cap(resolve.init_cap(), to);
        });
    }

    /// Writes a Disembargo.
    pub fn disembargo(&mut self, target: &Target, loopback: Loopback) {
        self.send(|message| {
            let mut disembargo = message.init_disembargo();
            write_target(disembargo.reborrow().init_target(), target);
            let mut context = disembargo.get_context();
            match loopback {
                Loopback::Sender(id) => context.set_sender_loopback(id),
                Loopback::Receiver(id) => context.set_receiver_loopback(id),
            }
        });
    }

    /// Returns results with one capability for each of `caps`.
    pub fn results(&mut self, answer: u32, caps: &[Cap]) {
        self.send(|message| {
            let mut ret = message.init_return();
            ret.set_answer_id(answer);
            ret.set_release_param_caps(false);
            write_payload(ret.init_results(), caps);
        });
    }

    /// Returns an exception.
    pub fn exception(&mut self, answer: u32, reason: &str) {
        self.send(|message| {
            let mut ret = message.init_return();
            ret.set_answer_id(answer);
            ret.set_release_param_caps(false);
            ret.init_exception().set_reason(reason);
        });
    }

    // ---- Reading

    /// The next message, or `None` at the end of the stream.
    pub fn receive(&mut self) -> Option<Said> {
        read_from(&mut self.reader)
    }

    /// Reads what is left, until the vat ends the connection.
    pub fn drain(&mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    /// Reads messages up to one for which `wanted` returns something.
    pub fn receive_until<R>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Said) -> Option<R>,
    ) -> R {
        let _doing = super::watchdog::doing(what);
        let mut seen = Vec::new();
        while let Some(said) = self.receive() {
            if let Some(found) = wanted(&said) {
                return found;
            }
            if seen.len() < 20 {
                seen.push(said);
            }
        }
        panic!("the vat ended the connection without {what}; it said {seen:?}");
    }

    /// Waits for the answer to a question.
    pub fn outcome(&mut self, question: u32) -> Outcome {
        self.receive_until(&format!("an answer to question {question}"), |said| match said {
            Said::Return { answer, outcome } if *answer == question => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Asks for the bootstrap object and returns its id.
    pub fn bootstrapped(&mut self, question: u32) -> u32 {
        self.bootstrap(question);
        let Outcome::Results(caps) = self.outcome(question) else { panic!("no bootstrap") };
        self.finish(question, false);
        match caps.as_slice() {
            [Cap::SenderHosted(id) | Cap::SenderPromise(id)] => *id,
            other => panic!("a bootstrap of {other:?}"),
        }
    }

    /// Waits until the vat has handled everything that was sent before.
    pub fn sync(&mut self, question: u32) {
        self.bootstrap(question);
        self.outcome(question);
        self.finish(question, true);
    }

    /// Reads up to the Abort that the vat must have sent, and what follows: the
    /// end. Ends this side, too.
    pub fn aborted(&mut self) -> String {
        let reason = self.receive_until("an Abort", |said| match said {
            Said::Abort(reason) => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(self.receive(), None, "an Abort is the last message");
        self.end();
        reason
    }
}

/// The next message of a stream, or `None` at its end.
pub fn read_from(stream: impl Read) -> Option<Said> {
    serialize::try_read_message(stream, wide_open()).ok().flatten().map(|message| said(&message))
}

fn wide_open() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    options
}
