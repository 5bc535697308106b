//! A peer that is not a machine but the test, which writes messages by hand and
//! reads what comes back.

use super::actor::Actor;
use super::content;
use super::line::line;
use super::net::{End, INTERFACE, METHOD, Net, limits, received, transmit};
use crate::cap::client::Client;
use crate::cap::payload::Payload;
use crate::error::Error;
use crate::limits::Limits;
use crate::wire::rpc_capnp::message;
use crate::wire::{
    self, Attached, Bootstrap, Content, Context, Descriptor, Disembargo, Finish, Hint, Message,
    PromisedAnswer, Release, Resolve, ResultsTo, Return, ReturnKind, Target,
};

/// A net with one machine in it.
pub(super) struct Raw {
    pub(super) net: Net,
    pub(super) end: End,
}

/// A machine that holds the bootstrap capability of its raw peer, as import 0.
#[track_caller]
pub(super) fn caller(net: Net) -> (Raw, Client) {
    let mut raw = Raw::new(net, None);
    let server = raw.give_bootstrap(0);
    (raw, server)
}

/// A machine that offers an object, which its raw peer has as export 0.
#[track_caller]
pub(super) fn callee() -> (Raw, Actor) {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    (raw, server)
}

impl Raw {
    /// A machine that offers `bootstrap`. Objects are made with `raw.net`.
    pub(super) fn new(net: Net, bootstrap: Option<Client>) -> Self {
        Self::with_limits(net, limits(), bootstrap)
    }

    pub(super) fn with_limits(mut net: Net, limits: Limits, bootstrap: Option<Client>) -> Self {
        let end = net.raw_side(limits, bootstrap);
        Raw { net, end }
    }

    /// Sends a message to the machine, then lets the objects work.
    pub(super) fn send(&mut self, message: Message) {
        self.net.inject(self.end, transmit(message));
        self.net.run();
    }

    /// Sends a message that is written field by field.
    pub(super) fn send_built(&mut self, fill: impl FnOnce(message::Builder<'_>)) {
        let mut builder = capnp::message::Builder::new_default();
        fill(builder.init_root());
        let frame = received(&crate::wire::message::Message::from(builder));
        self.net.inject(self.end, wire::decode(frame).unwrap());
        self.net.run();
    }

    /// What the machine has sent since the last look.
    pub(super) fn sent(&mut self) -> Vec<String> {
        self.net.take_sent(self.end).iter().map(line).collect()
    }

    /// Requires that the machine has sent exactly this since the last look.
    #[track_caller]
    pub(super) fn expect(&mut self, lines: &[&str]) {
        assert_eq!(self.sent(), lines);
    }

    /// Requires that the machine has ended the connection and told why.
    #[track_caller]
    pub(super) fn expect_abort(&mut self, why: &str) {
        let sent = self.sent();
        let [.., last] = sent.as_slice() else { panic!("nothing was sent") };
        assert!(last.starts_with("abort") && last.contains(why), "{sent:?}");
        assert!(self.net.machine(self.end).failure().is_some());
    }

    /// Requires that the connection lives.
    #[track_caller]
    pub(super) fn expect_alive(&self) {
        let failure = self.net.machine(self.end).failure();
        assert!(failure.is_none(), "{failure:?}");
    }

    /// Asks for the bootstrap capability with question 0, as export 0, and
    /// finishes the question.
    #[track_caller]
    pub(super) fn take_bootstrap(&mut self) {
        self.send(bootstrap(0));
        self.expect(&["return 0 results (0) [senderHosted 0]"]);
        self.send(finish(0, false));
    }

    /// Has the machine ask for the bootstrap capability and answers with one of
    /// the test's, with import id `id`. What is returned is that import.
    #[track_caller]
    pub(super) fn give_bootstrap(&mut self, id: u32) -> Client {
        let client = self.net.bootstrap(self.end);
        self.expect(&["bootstrap 0"]);
        self.send(Message::Return(Return {
            answer: 0,
            release_params: false,
            no_finish_needed: false,
            outcome: ReturnKind::Results(bootstrap_content(Descriptor::SenderHosted(id))),
        }));
        self.expect(&["finish 0"]);
        client
    }

    /// The end of a test: what the test has as a peer is given back by
    /// disconnecting.
    #[track_caller]
    pub(super) fn finish(mut self) {
        self.net.cut(self.end);
        self.sent();
        self.net.finish();
    }
}

pub(super) fn bootstrap(question: u32) -> Message {
    Message::Bootstrap(Bootstrap { question, object: None })
}

/// What a call is for: an export of the machine's.
pub(super) fn on(export: u32) -> Target {
    Target::ImportedCap(export)
}

/// What a call is for: a field of the results that the machine owes.
pub(super) fn on_field(question: u32, path: &[u16]) -> Target {
    Target::PromisedAnswer(promised(question, path))
}

pub(super) fn promised(question: u32, path: &[u16]) -> PromisedAnswer {
    PromisedAnswer { question, path: Some(path.into()) }
}

pub(super) fn call(question: u32, target: Target, label: u64, caps: &[Descriptor]) -> Message {
    call_to(question, target, label, caps, ResultsTo::Caller)
}

pub(super) fn call_to(
    question: u32,
    target: Target,
    label: u64,
    caps: &[Descriptor],
    results_to: ResultsTo,
) -> Message {
    Message::Call(wire::Call {
        question,
        target,
        interface: INTERFACE,
        method: METHOD,
        params: content::message(content::params(label, &placeholders(caps)), caps.to_vec()),
        results_to,
        hint: Hint::None,
    })
}

/// A call with a hint.
pub(super) fn call_hinted(question: u32, target: Target, label: u64, hint: Hint) -> Message {
    match call(question, target, label, &[]) {
        Message::Call(call) => Message::Call(wire::Call { hint, ..call }),
        other => other,
    }
}

fn placeholders(caps: &[Descriptor]) -> Vec<Client> {
    let placeholder = Client::broken(Error::failed("never called"));
    vec![placeholder; caps.len()]
}

pub(super) fn ret(answer: u32, label: u64, caps: &[Descriptor]) -> Message {
    let results = content::results(label, &placeholders(caps));
    ret_payload(answer, results, caps)
}

pub(super) fn ret_payload(answer: u32, results: Payload, caps: &[Descriptor]) -> Message {
    ret_with(answer, ReturnKind::Results(content::message(results, caps.to_vec())))
}

pub(super) fn ret_with(answer: u32, outcome: ReturnKind) -> Message {
    Message::Return(Return { answer, release_params: false, no_finish_needed: false, outcome })
}

/// Results as a bootstrap's are: the capability itself.
fn bootstrap_content(descriptor: Descriptor) -> Content {
    let client = Client::broken(Error::failed("never called"));
    content::message(Payload::of_capability(client), vec![descriptor])
}

pub(super) fn finish(question: u32, release_results: bool) -> Message {
    Message::Finish(Finish { question, release_results, early_cancellation_workaround: false })
}

pub(super) fn release(id: u32, count: u32) -> Message {
    Message::Release(Release { id, count })
}

pub(super) fn resolve(promise: u32, cap: Descriptor) -> Message {
    Message::Resolve(Resolve { promise, resolution: Ok(cap), fds: Attached::default() })
}

pub(super) fn reject(promise: u32, error: Error) -> Message {
    Message::Resolve(Resolve { promise, resolution: Err(error), fds: Attached::default() })
}

/// A disembargo of the test's, to be returned by the machine.
pub(super) fn disembargo(target: Target, id: u32) -> Message {
    Message::Disembargo(Disembargo { target, context: Context::SenderLoopback(id) })
}

/// The machine's disembargo comes back.
pub(super) fn lift(target: Target, id: u32) -> Message {
    Message::Disembargo(Disembargo { target, context: Context::ReceiverLoopback(id) })
}
