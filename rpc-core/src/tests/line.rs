//! Messages in one short line, as the tests compare them.
//!
//! Ids stand as they are on the wire. `call 2 on 0 (7)` is a call with question
//! id 2 to export 0 whose parameters have the label 7; `on #1.0` is field 0 of
//! the answer to question 1.

use std::fmt::Write;

use super::content;
use crate::cap::payload::{Carrier, Payload};
use crate::wire::{
    Attached, Content, Context, Descriptor, Descriptors, Hint, JoinKey, Message, PromisedAnswer,
    ResultsTo, Return, ReturnKind, Target,
};

/// Describes a message that was decoded.
pub(super) fn line(message: &Message) -> String {
    match message {
        Message::Unimplemented(None) => "unimplemented".to_owned(),
        Message::Unimplemented(Some(echoed)) => format!("unimplemented ({})", line(echoed)),
        Message::Abort(error) => format!("abort {error}"),
        Message::Bootstrap(bootstrap) => format!("bootstrap {}", bootstrap.question),
        Message::Call(call) => {
            let mut text = format!("call {} on {}", call.question, target(&call.target));
            write!(text, " {}", contents(&call.params, Carrier::Call)).unwrap();
            match call.results_to {
                ResultsTo::Caller => {}
                ResultsTo::Yourself => text.push_str(" yourself"),
                ResultsTo::Unknown => text.push_str(" to somebody"),
            }
            match call.hint {
                Hint::None => {}
                Hint::NoPipelining => text.push_str(" noPromisePipelining"),
                Hint::OnlyPipeline => text.push_str(" onlyPromisePipeline"),
            }
            text
        }
        Message::Return(ret) => returned(ret),
        Message::Finish(finish) => {
            let release = if finish.release_results { " releaseResultCaps" } else { "" };
            format!("finish {}{release}", finish.question)
        }
        Message::Resolve(resolve) => match &resolve.resolution {
            Ok(cap) => format!("resolve {} {}", resolve.promise, with_fd(cap, 0, &resolve.fds)),
            Err(error) => format!("resolve {} {error}", resolve.promise),
        },
        Message::Release(release) => format!("release {} x{}", release.id, release.count),
        Message::Disembargo(disembargo) => {
            let context = match disembargo.context {
                Context::SenderLoopback(id) => format!("senderLoopback {id}"),
                Context::ReceiverLoopback(id) => format!("receiverLoopback {id}"),
                Context::Accept(_) => "accept".to_owned(),
                Context::Unknown => "unknown".to_owned(),
            };
            format!("disembargo {context} on {}", target(&disembargo.target))
        }
        Message::Provide(provide) => {
            format!("provide {} on {}", provide.question, target(&provide.target))
        }
        Message::Accept(accept) => {
            let embargo = if accept.embargo.is_some() { " embargo" } else { "" };
            format!("accept {}{embargo}", accept.question)
        }
        Message::Join(join) => {
            let key = join.key.as_ref().map(JoinKey::read);
            let key = match key {
                Some(Ok(JoinKey::Nonce(_))) => "nonce".to_owned(),
                Some(Ok(JoinKey::Part(part))) => format!("part {} of {}", part.number, part.count),
                Some(Err(_)) | None => "unreadable".to_owned(),
            };
            format!("join {} on {} {key}", join.question, target(&join.target))
        }
        Message::Unknown(_) => "unknown".to_owned(),
    }
}

fn returned(ret: &Return) -> String {
    let outcome = match &ret.outcome {
        ReturnKind::Results(results) => format!("results {}", contents(results, Carrier::Return)),
        ReturnKind::Exception(error) => error.to_string(),
        ReturnKind::Canceled => "canceled".to_owned(),
        ReturnKind::ResultsSentElsewhere => "resultsSentElsewhere".to_owned(),
        ReturnKind::TakeFromOtherQuestion(id) => format!("takeFromOtherQuestion {id}"),
        ReturnKind::Unknown => "unknown".to_owned(),
    };
    let release = if ret.release_params { " releaseParamCaps" } else { "" };
    let finish = if ret.no_finish_needed { " noFinishNeeded" } else { "" };
    format!("return {} {outcome}{release}{finish}", ret.answer)
}

fn contents(content: &Content, carrier: Carrier) -> String {
    let frame = content.frame.as_ref().map(|frame| {
        let (mut words, mut lengths) = (Vec::new(), Vec::new());
        super::net::copy(frame, &mut words, &mut lengths);
        crate::wire::message::Message::from_segments(words, &lengths).unwrap().into()
    });
    let label = content::label(&Payload::received(frame, carrier, Vec::new()));
    let mut text = format!("({label})");
    let Descriptors { descriptors, fds } = &content.caps;
    if !descriptors.is_empty() {
        let caps = descriptors.iter().enumerate();
        let caps: Vec<_> = caps.map(|(index, cap)| with_fd(cap, index, fds)).collect();
        write!(text, " [{}]", caps.join(", ")).unwrap();
    }
    text
}

/// A capability, and whether a file descriptor is with it.
fn with_fd(cap: &Descriptor, index: usize, fds: &Attached) -> String {
    let fd = fds.indices().any(|(_, owner)| owner == index);
    format!("{}{}", descriptor(cap), if fd { " fd" } else { "" })
}

fn descriptor(descriptor: &Descriptor) -> String {
    match descriptor {
        Descriptor::None => "none".to_owned(),
        Descriptor::SenderHosted(id) => format!("senderHosted {id}"),
        Descriptor::SenderPromise(id) => format!("senderPromise {id}"),
        Descriptor::ReceiverHosted(id) => format!("receiverHosted {id}"),
        Descriptor::ReceiverAnswer(answer) => format!("receiverAnswer {}", field(answer)),
        Descriptor::ThirdPartyHosted(id, _) => format!("thirdPartyHosted {id}"),
        Descriptor::Unknown(tag) => format!("unknown {tag}"),
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::ImportedCap(id) => id.to_string(),
        Target::PromisedAnswer(answer) => field(answer),
        Target::Unknown => "unknown".to_owned(),
    }
}

fn field(answer: &PromisedAnswer) -> String {
    let mut text = format!("#{}", answer.question);
    match &answer.path {
        Some(path) => path.iter().for_each(|step| write!(text, ".{step}").unwrap()),
        None => text.push_str(".unknown"),
    }
    text
}
