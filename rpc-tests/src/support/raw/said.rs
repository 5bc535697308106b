//! What messages say, as far as tests look at it.
//!
//! Variants and fields are called as in `schema/rpc.capnp`, which documents them.
#![allow(missing_docs)]

use capnp_threads_core::capnp::message::Reader;
use capnp_threads_core::capnp::serialize::OwnedSegments;
use rpc_schema::rpc_capnp::{
    cap_descriptor, disembargo, exception, message, message_target, payload, promised_answer,
    resolve, return_,
};

/// What a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Import(u32),
    Answer(u32, Vec<u16>),
    /// A union tag that nobody knows.
    Unknown,
}

/// How a descriptor names a capability.
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

/// What a Return says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Results(Vec<Cap>),
    Exception(String),
    Canceled,
    SentElsewhere,
    TakeFrom(u32),
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
                disembargo::context::Accept(_) => Said::Other,
            }
        }
        _ => Said::Other,
    }
}

fn caps(payload: payload::Reader<'_>) -> Vec<Cap> {
    payload.get_cap_table().unwrap().iter().map(read_cap).collect()
}
