//! What a message says, by the schemas: for `tap`, which prints it, and `trace`, which
//! draws it.

use std::collections::HashMap;

use capnp::message::{Reader, ReaderOptions};
use capnp::traits::Imbue;
use capnp_threads_core::Client;
use capnp_threads_core::describe::{DescribeOptions, Direction, describe};
use capnp_threads_core::hook;
use capnp_threads_core::message::Message;
use capnp_threads_core::rpc_capnp::{
    call, cap_descriptor, disembargo, message, message_target, payload, promised_answer, return_,
};

use crate::dynamic::{self, Out};
use crate::failure::Result;
use crate::recording::Side;
use crate::schema::{Method, Named, Schema};

/// The longest content that is shown, in bytes of JSON.
const MAX_CONTENT: usize = 4000;

/// The longest line about a message.
const MAX_LINE: usize = 1000;

/// Calls that are remembered until they are finished; those of a peer that finishes none
/// are shown without the names of their results.
const MAX_CALLS: usize = 1 << 16;

/// Capabilities whose interface is remembered.
const MAX_CAPABILITIES: usize = 1 << 16;

/// What one message says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The whole message in one line, in terms of the client's tables, as logs have it.
    pub(crate) line: String,
    /// What kind of message it is.
    pub(crate) kind: &'static str,
    /// The question or answer, in the numbers of the side that asked.
    pub(crate) question: Option<u32>,
    /// What a call or a disembargo is addressed to.
    pub(crate) target: Option<Target>,
    /// The interface and the method of a call, or of the call that a return is for.
    pub(crate) method: Option<String>,
    /// The parameters or results as JSON; or why a call failed.
    pub(crate) content: Option<String>,
    /// The call failed.
    pub(crate) failed: bool,
    /// An embargo: its id, and whether this message is its end.
    pub(crate) embargo: Option<(u32, bool)>,
}

/// What a message is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A capability of the receiver, by its number there, and its interface if that is known.
    Capability(u32, Option<String>),
    /// A place in the results of a question of the sender.
    Answer(u32),
}

/// One connection, as far as what is said later depends on what was said before.
#[derive(Default)]
pub(crate) struct Talk {
    /// The methods of calls that are not finished; by who called, and the question.
    calls: HashMap<(Side, u32), Asked>,
    /// The interfaces of capabilities; by who has them, and their number.
    interfaces: HashMap<(Side, u32), String>,
}

/// What was asked.
#[derive(Clone)]
struct Asked {
    name: String,
    results: Option<Named>,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

impl Talk {
    /// Tells what a message says. A malformed one is told as far as it can be read.
    pub(crate) fn hear(&mut self, schema: Option<&Schema>, from: Side, said: &Message) -> Said {
        let direction = match from {
            Side::Client => Direction::Sent,
            Side::Server => Direction::Received,
        };
        let mut options = DescribeOptions::default();
        options.max_length = MAX_LINE;
        let line = describe(said, direction, &options);
        let mut told = Said { line, kind: "malformed", ..Said::default() };
        // What is wrong with it is in the line.
        let _ = self.take_apart(schema, from, said, &mut told);
        told
    }

    fn take_apart(
        &mut self,
        schema: Option<&Schema>,
        from: Side,
        said: &Message,
        told: &mut Said,
    ) -> Result<()> {
        let mut options = ReaderOptions::new();
        let words = said.size_in_words().saturating_mul(8).max(8 << 10);
        options.traversal_limit_in_words(Some(words));
        let reader = Reader::new(said, options);
        match reader.get_root::<message::Reader<'_>>()?.which()? {
            message::Bootstrap(bootstrap) => {
                let question = bootstrap?.get_question_id();
                told.kind = "bootstrap";
                told.question = Some(question);
                let name = "bootstrap".to_owned();
                self.ask(from, question, Asked { name, results: None });
            }
            message::Call(call) => self.call(schema, from, call?, told)?,
            message::Return(ret) => self.ret(schema, from, ret?, told)?,
            message::Finish(finish) => {
                let question = finish?.get_question_id();
                told.kind = "finish";
                told.question = Some(question);
                told.method = self.calls.remove(&(from, question)).map(|asked| asked.name);
            }
            message::Disembargo(disembargo) => {
                let disembargo = disembargo?;
                told.kind = "disembargo";
                told.target = self.target(from, disembargo.get_target()?)?;
                told.embargo = match disembargo.get_context().which()? {
                    disembargo::context::SenderLoopback(id) => Some((id, false)),
                    disembargo::context::ReceiverLoopback(id) => Some((id, true)),
                    disembargo::context::Accept(_) => None,
                };
            }
            message::Resolve(_) => told.kind = "resolve",
            message::Release(_) => told.kind = "release",
            message::Abort(_) => {
                told.kind = "abort";
                told.failed = true;
            }
            message::Unimplemented(_) => told.kind = "unimplemented",
            _ => told.kind = "other",
        }
        Ok(())
    }

    fn ask(&mut self, from: Side, question: u32, asked: Asked) {
        if self.calls.len() < MAX_CALLS {
            self.calls.insert((from, question), asked);
        }
    }

    fn call(
        &mut self,
        schema: Option<&Schema>,
        from: Side,
        call: call::Reader<'_>,
        told: &mut Said,
    ) -> Result<()> {
        told.kind = "call";
        told.question = Some(call.get_question_id());
        told.target = self.target(from, call.get_target()?)?;
        let (interface, number) = (call.get_interface_id(), call.get_method_id());
        let method = schema.and_then(|schema| schema.method_by_number(interface, number));
        let name = match (schema, &method) {
            (Some(schema), Some(method)) => {
                format!("{}.{}", schema.name_in_file(interface), method.name)
            }
            _ => format!("{interface:#018x}/{number}"),
        };
        told.method = Some(name.clone());
        let Some(Method { params, results, .. }) = method else {
            self.ask(from, call.get_question_id(), Asked { name, results: None });
            return Ok(());
        };
        self.ask(from, call.get_question_id(), Asked { name, results: Some(results) });
        if let Some(schema) = schema {
            // The target's interface, as the caller knows it.
            if let Some(Target::Capability(number, known @ None)) = &mut told.target {
                let name = schema.name_in_file(interface);
                *known = Some(name.clone());
                self.learn(from.other(), *number, name);
            }
            told.content = Some(self.content(schema, from, &params, call.get_params()?));
        }
        Ok(())
    }

    fn ret(
        &mut self,
        schema: Option<&Schema>,
        from: Side,
        ret: return_::Reader<'_>,
        told: &mut Said,
    ) -> Result<()> {
        told.kind = "return";
        told.question = Some(ret.get_answer_id());
        let asked = self.calls.get(&(from.other(), ret.get_answer_id())).cloned();
        told.method = asked.as_ref().map(|asked| asked.name.clone());
        if ret.get_no_finish_needed() {
            self.calls.remove(&(from.other(), ret.get_answer_id()));
        }
        match ret.which()? {
            return_::Results(results) => {
                if let (Some(schema), Some(Asked { results: Some(of), .. })) = (schema, asked) {
                    told.content = Some(self.content(schema, from, &of, results?));
                }
            }
            return_::Exception(exception) => {
                told.failed = true;
                let reason = exception?.get_reason()?.to_string().map_err(capnp::Error::from)?;
                told.content = Some(reason.chars().take(MAX_CONTENT).collect());
            }
            return_::Canceled(()) => told.failed = true,
            _ => {}
        }
        Ok(())
    }

    fn target(&self, from: Side, target: message_target::Reader<'_>) -> Result<Option<Target>> {
        Ok(match target.which()? {
            message_target::ImportedCap(number) => {
                let name = self.interfaces.get(&(from.other(), number)).cloned();
                Some(Target::Capability(number, name))
            }
            message_target::PromisedAnswer(answer) => {
                Some(Target::Answer(answer?.get_question_id()))
            }
        })
    }

    fn learn(&mut self, owner: Side, number: u32, interface: String) {
        if self.interfaces.len() < MAX_CAPABILITIES {
            self.interfaces.insert((owner, number), interface);
        }
    }

    /// Content as JSON, with what was wrong with it at the end. Remembers the interfaces of
    /// the capabilities in it.
    fn content(
        &mut self,
        schema: &Schema,
        from: Side,
        of: &Named,
        payload: payload::Reader<'_>,
    ) -> String {
        let mut learned = Vec::new();
        let outcome = describe_content(schema, of, payload, &mut learned);
        for (place, interface) in learned {
            match place {
                Place::Sender(number) => self.learn(from, number, interface),
                Place::Receiver(number) => self.learn(from.other(), number, interface),
            }
        }
        outcome
    }
}

/// Whose table a capability is in, and where.
enum Place {
    Sender(u32),
    Receiver(u32),
}

fn describe_content(
    schema: &Schema,
    of: &Named,
    payload: payload::Reader<'_>,
    learned: &mut Vec<(Place, String)>,
) -> String {
    let descriptors: Vec<_> = match payload.get_cap_table() {
        Ok(table) => table.iter().collect(),
        Err(error) => return format!("malformed: {error}"),
    };
    // Capabilities that can be told from each other, one for each descriptor. They are not
    // told any more once they fail, which they do without the others.
    let (stand_ins, _fulfillers): (Vec<Client>, Vec<_>) =
        descriptors.iter().map(|_| capnp_threads_core::untyped::promise()).unzip();
    let table = hook::table_of(&stand_ins);
    let mut content = payload.get_content();
    content.imbue(&table);
    let found = std::cell::RefCell::new(learned);
    let capability = |client: &Client, interface: u64| {
        let index = stand_ins.iter().position(|other| other == client);
        let name = schema.name_in_file(interface);
        let what = index.and_then(|index| descriptors.get(index)).map(|descriptor| {
            if let Some(place) = place_of(*descriptor) {
                found.borrow_mut().push((place, name.clone()));
            }
            what_is(*descriptor)
        });
        let what = what.unwrap_or_else(|| "missing".to_owned());
        format!("{{\"$capability\": \"{name}: {what}\"}}")
    };
    let mut out = Out::new(schema, MAX_CONTENT, &capability);
    match dynamic::read(&mut out, of, &[], content) {
        Ok(()) => out.into_text(),
        Err(failure) => format!("{}… ({failure})", out.into_text()),
    }
}

fn place_of(descriptor: cap_descriptor::Reader<'_>) -> Option<Place> {
    match descriptor.which().ok()? {
        cap_descriptor::SenderHosted(number) | cap_descriptor::SenderPromise(number) => {
            Some(Place::Sender(number))
        }
        cap_descriptor::ReceiverHosted(number) => Some(Place::Receiver(number)),
        _ => None,
    }
}

fn what_is(descriptor: cap_descriptor::Reader<'_>) -> String {
    match descriptor.which() {
        Ok(cap_descriptor::None(())) => "none".to_owned(),
        Ok(cap_descriptor::SenderHosted(number)) => format!("the sender's {number}"),
        Ok(cap_descriptor::SenderPromise(number)) => format!("the sender's promise {number}"),
        Ok(cap_descriptor::ReceiverHosted(number)) => format!("the receiver's {number}"),
        Ok(cap_descriptor::ReceiverAnswer(answer)) => {
            let question = answer.map(promised_answer::Reader::get_question_id);
            question.map_or("malformed".to_owned(), |number| format!("in the answer to #{number}"))
        }
        Ok(cap_descriptor::ThirdPartyHosted(_)) => "a third vat's".to_owned(),
        Err(_) => "of an unknown kind".to_owned(),
    }
}
