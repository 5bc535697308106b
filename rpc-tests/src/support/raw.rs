//! A peer that says whatever a test wants it to say, right or wrong.
//!
//! It knows the protocol's messages and their framing, and nothing of what they
//! mean.

use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use capnp_threads_core::capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions};
use capnp_threads_core::capnp::serialize::{self, OwnedSegments};
use capnp_threads_core::capnp::{any_pointer, traits::ImbueMut};
use capnp_threads_core::hook::CapTable;
use capnp_threads_core::{Client, ConnConfig, Connection, Error, FromClient, Vat};
use capnp_threads_transport::unix;
use rpc_schema::rpc_capnp::{
    cap_descriptor, exception, message, message_target, payload, promised_answer,
};
use rpc_schema::test_capnp::{test_call_order, test_more_stuff};

/// The type id of `TestMoreStuff` and of what else is called by hand.
pub const MORE_STUFF: u64 = 0xddc7_0bf9_7841_33cf;
pub const CALL_FOO: u16 = 0;
pub const NEVER_RETURN: u16 = 2;
pub const HOLD: u16 = 3;
pub const GET_HELD: u16 = 5;
pub const ECHO: u16 = 6;
pub const GET_HANDLE: u16 = 9;

/// The other end of a connection, in the hands of a test.
pub struct RawPeer {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// What a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Import(u32),
    Answer(u32, Vec<u16>),
    /// A union tag that nobody knows.
    Unknown,
}

/// How a capability is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cap {
    None,
    SenderHosted(u32),
    SenderPromise(u32),
    ReceiverHosted(u32),
    ReceiverAnswer(u32, Vec<u16>),
    ThirdParty(u32),
    Unknown(u16),
}

/// What the vat said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Unimplemented,
    Abort(String),
    Bootstrap(u32),
    Call { question: u32, target: Target, interface: u64, method: u16, caps: Vec<Cap> },
    Return { answer: u32, outcome: Outcome },
    Finish { question: u32, release: bool },
    Resolve { promise: u32, to: Result<Cap, String> },
    Release { id: u32, count: u32 },
    SenderLoopback { target: Target, id: u32 },
    ReceiverLoopback { target: Target, id: u32 },
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Results(Vec<Cap>),
    Exception(String),
    Canceled,
    SentElsewhere,
    TakeFrom(u32),
}

impl RawPeer {
    /// Connects a raw peer to a vat.
    pub fn connect(vat: &Vat, config: ConnConfig) -> (RawPeer, Connection) {
        let (here, there) = UnixStream::pair().unwrap();
        let connection = vat.connect(unix::from_stream(there).unwrap(), config).unwrap();
        (RawPeer { reader: BufReader::new(here.try_clone().unwrap()), writer: here }, connection)
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

    pub fn bootstrap(&mut self, question: u32) {
        self.send(|message| message.init_bootstrap().set_question_id(question));
    }

    /// A call whose parameters have each of `caps` behind one pointer of the
    /// first pointers of the content.
    pub fn call(&mut self, question: u32, target: &Target, method: u16, caps: &[Cap]) {
        self.bytes(&call(question, target, MORE_STUFF, method, caps));
    }

    pub fn finish(&mut self, question: u32, release: bool) {
        self.bytes(&finish(question, release));
    }

    pub fn release(&mut self, id: u32, count: u32) {
        self.send(|message| {
            let mut release = message.init_release();
            release.set_id(id);
            release.set_reference_count(count);
        });
    }

    pub fn resolve(&mut self, promise: u32, to: &Cap) {
        self.send(|message| {
            let mut resolve = message.init_resolve();
            resolve.set_promise_id(promise);
            write_cap(resolve.init_cap(), to);
        });
    }

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
        serialize::try_read_message(&mut self.reader, wide_open())
            .ok()
            .flatten()
            .map(|message| said(&message))
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

/// Which embargo a Disembargo is for.
#[derive(Clone, Copy, Debug)]
pub enum Loopback {
    Sender(u32),
    Receiver(u32),
}

fn wide_open() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    options
}

/// A message with its framing.
pub fn frame(build: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut builder = Builder::new_default();
    build(builder.init_root());
    framed(&builder)
}

pub fn framed(builder: &Builder<HeapAllocator>) -> Vec<u8> {
    serialize::write_message_to_words(builder)
}

/// A message of these words, in one segment, with its framing.
pub fn words(words: &[u64]) -> Vec<u8> {
    let length = u64::try_from(words.len()).unwrap();
    [length << 32].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// A message whose union has a tag of one's own choice.
pub fn tagged(tag: u16) -> Vec<u8> {
    // Behind the framing and the pointer to the root comes the root's data.
    let mut bytes = frame(|message| {
        message.init_release().set_id(7);
    });
    bytes[16..18].copy_from_slice(&tag.to_le_bytes());
    bytes
}

/// Replaces the pointer to capability 0, which must be the only one in the
/// message's content, by any word.
pub fn with_pointer(mut bytes: Vec<u8>, pointer: u64) -> Vec<u8> {
    let capability = 3_u64.to_le_bytes();
    // Behind it there are descriptors at most.
    let place = bytes.chunks_exact(8).rposition(|word| word == capability).unwrap();
    bytes[8 * place..][..8].copy_from_slice(&pointer.to_le_bytes());
    bytes
}

/// A Finish.
pub fn finish(question: u32, release: bool) -> Vec<u8> {
    frame(|message| {
        let mut finish = message.init_finish();
        finish.set_question_id(question);
        finish.set_release_result_caps(release);
        finish.set_require_early_cancellation_workaround(false);
    })
}

/// A call; see [`RawPeer::call`].
pub fn call(question: u32, target: &Target, interface: u64, method: u16, caps: &[Cap]) -> Vec<u8> {
    frame(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(interface);
        call.set_method_id(method);
        write_target(call.reborrow().init_target(), target);
        write_payload(call.init_params(), caps);
    })
}

/// Content that refers to these capabilities, the first of them in a field.
pub fn write_payload(mut out: payload::Builder<'_>, caps: &[Cap]) {
    let mut table = out.reborrow().init_cap_table(caps.len().try_into().unwrap());
    for (index, cap) in (0..).zip(caps) {
        write_cap(table.reborrow().get(index), cap);
    }
    if !caps.is_empty() {
        pointer_to_first(out.get_content());
    }
}

/// Makes content a struct whose first pointer is the capability with index 0.
pub fn pointer_to_first(mut content: any_pointer::Builder<'_>) {
    let mut table = CapTable::new();
    let mut imbued = content.reborrow();
    imbued.imbue_mut(&mut table);
    let stand_in = Client::broken(Error::failed("only the index of this matters"));
    let mut params = imbued.init_as::<test_more_stuff::echo_params::Builder<'_>>();
    params.set_cap(test_call_order::Client::from_client(stand_in));
}

pub fn write_target(mut out: message_target::Builder<'_>, target: &Target) {
    match target {
        Target::Import(id) => out.set_imported_cap(*id),
        Target::Answer(question, path) => {
            write_answer(out.init_promised_answer(), *question, path);
        }
        Target::Unknown => out.set_imported_cap(0),
    }
}

fn write_answer(mut out: promised_answer::Builder<'_>, question: u32, path: &[u16]) {
    out.set_question_id(question);
    let mut ops = out.init_transform(path.len().try_into().unwrap());
    for (index, field) in (0..).zip(path) {
        ops.reborrow().get(index).set_get_pointer_field(*field);
    }
}

pub fn write_cap(mut out: cap_descriptor::Builder<'_>, cap: &Cap) {
    match cap {
        Cap::None | Cap::Unknown(_) => out.set_none(()),
        Cap::SenderHosted(id) => out.set_sender_hosted(*id),
        Cap::SenderPromise(id) => out.set_sender_promise(*id),
        Cap::ReceiverHosted(id) => out.set_receiver_hosted(*id),
        Cap::ReceiverAnswer(question, path) => {
            write_answer(out.init_receiver_answer(), *question, path);
        }
        Cap::ThirdParty(vine) => out.init_third_party_hosted().set_vine_id(*vine),
    }
}

fn reason(exception: capnp_threads_core::capnp::Result<exception::Reader<'_>>) -> String {
    exception.unwrap().get_reason().unwrap().to_string().unwrap()
}

fn read_answer(answer: promised_answer::Reader<'_>) -> (u32, Vec<u16>) {
    let path = answer.get_transform().unwrap().iter().filter_map(|op| match op.which() {
        Ok(promised_answer::op::GetPointerField(field)) => Some(field),
        _ => None,
    });
    (answer.get_question_id(), path.collect())
}

fn read_target(target: message_target::Reader<'_>) -> Target {
    match target.which() {
        Ok(message_target::ImportedCap(id)) => Target::Import(id),
        Ok(message_target::PromisedAnswer(answer)) => {
            let (question, path) = read_answer(answer.unwrap());
            Target::Answer(question, path)
        }
        Err(_) => Target::Unknown,
    }
}

fn read_cap(cap: cap_descriptor::Reader<'_>) -> Cap {
    match cap.which() {
        Ok(cap_descriptor::None(())) => Cap::None,
        Ok(cap_descriptor::SenderHosted(id)) => Cap::SenderHosted(id),
        Ok(cap_descriptor::SenderPromise(id)) => Cap::SenderPromise(id),
        Ok(cap_descriptor::ReceiverHosted(id)) => Cap::ReceiverHosted(id),
        Ok(cap_descriptor::ReceiverAnswer(answer)) => {
            let (question, path) = read_answer(answer.unwrap());
            Cap::ReceiverAnswer(question, path)
        }
        Ok(cap_descriptor::ThirdPartyHosted(third)) => {
            Cap::ThirdParty(third.unwrap().get_vine_id())
        }
        Err(tag) => Cap::Unknown(tag.0),
    }
}

/// What a message of the vat says. It must be well-formed.
pub fn said(message: &Reader<OwnedSegments>) -> Said {
    use rpc_schema::rpc_capnp::{disembargo, resolve, return_};
    let root = message.get_root::<message::Reader<'_>>().unwrap();
    match root.which().unwrap() {
        message::Unimplemented(_) => Said::Unimplemented,
        message::Abort(exception) => Said::Abort(reason(exception)),
        message::Bootstrap(bootstrap) => Said::Bootstrap(bootstrap.unwrap().get_question_id()),
        message::Call(call) => {
            let call = call.unwrap();
            Said::Call {
                question: call.get_question_id(),
                target: read_target(call.get_target().unwrap()),
                interface: call.get_interface_id(),
                method: call.get_method_id(),
                caps: caps(call.get_params().unwrap()),
            }
        }
        message::Return(ret) => {
            let ret = ret.unwrap();
            let outcome = match ret.which().unwrap() {
                return_::Results(results) => Outcome::Results(caps(results.unwrap())),
                return_::Exception(exception) => Outcome::Exception(reason(exception)),
                return_::Canceled(()) => Outcome::Canceled,
                return_::ResultsSentElsewhere(()) => Outcome::SentElsewhere,
                return_::TakeFromOtherQuestion(id) => Outcome::TakeFrom(id),
                return_::AwaitFromThirdParty(_) => panic!("level 3"),
            };
            Said::Return { answer: ret.get_answer_id(), outcome }
        }
        message::Finish(finish) => {
            let finish = finish.unwrap();
            Said::Finish {
                question: finish.get_question_id(),
                release: finish.get_release_result_caps(),
            }
        }
        message::Resolve(resolve) => {
            let resolve = resolve.unwrap();
            let to = match resolve.which().unwrap() {
                resolve::Cap(cap) => Ok(read_cap(cap.unwrap())),
                resolve::Exception(exception) => Err(reason(exception)),
            };
            Said::Resolve { promise: resolve.get_promise_id(), to }
        }
        message::Release(release) => {
            let release = release.unwrap();
            Said::Release { id: release.get_id(), count: release.get_reference_count() }
        }
        message::Disembargo(disembargo) => {
            let disembargo = disembargo.unwrap();
            let target = read_target(disembargo.get_target().unwrap());
            match disembargo.get_context().which().unwrap() {
                disembargo::context::SenderLoopback(id) => Said::SenderLoopback { target, id },
                disembargo::context::ReceiverLoopback(id) => Said::ReceiverLoopback { target, id },
                disembargo::context::Accept(_) => panic!("level 3"),
            }
        }
        _ => Said::Other,
    }
}

fn caps(payload: payload::Reader<'_>) -> Vec<Cap> {
    payload.get_cap_table().unwrap().iter().map(read_cap).collect()
}
