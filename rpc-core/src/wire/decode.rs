//! From a received frame to a [`Message`].

use std::sync::Arc;

use capnp::message::{Reader, ReaderOptions};

use super::attached::Arrived;
use super::message::Message as Frame;
use super::rpc_capnp::{
    call, cap_descriptor, disembargo, exception, message, message_target, payload, promised_answer,
    resolve, return_,
};
use super::{
    Accept, Attached, Bootstrap, Call, Content, Context, Descriptor, Descriptors, Disembargo,
    Finish, Hint, Join, Message, Path, PromisedAnswer, Provide, Release, Resolve, ResultsTo,
    Return, ReturnKind, Target, Token, plain,
};
use crate::error::{Error, ErrorKind};

/// Maximum number of details of a received exception; the rest is left out.
const MAX_DETAILS: u32 = 64;

/// Reads a message.
///
/// `most_named` is how many capabilities the message may name.
///
/// # Errors
/// The frame is not a message of this protocol, or names too many capabilities: the
/// connection should end with an Abort that says why.
pub(crate) fn decode_within(mut frame: Frame, most_named: usize) -> Result<Message, Error> {
    if let Some(shape) = frame.only_segment().and_then(plain::read) {
        // Nobody names the file descriptors that may have come with it.
        drop(frame.take_fds());
        return Ok(shape.with_frame(frame));
    }
    by_accessors(frame, most_named)
}

/// Reads a message of one segment that lies in a buffer; `None` if
/// [`decode_within`](decode_within) has to read it from a frame.
pub(crate) fn decode_segment(segment: &[u8]) -> Option<Message> {
    Some(match plain::read(segment)? {
        // Nothing of the buffer is needed.
        Shape::Whole(message) => message,
        shape => shape.with_frame(Frame::from_segment(segment)?),
    })
}

/// As [`decode_within`], whatever the frame is.
pub(super) fn by_accessors(mut frame: Frame, most_named: usize) -> Result<Message, Error> {
    let mut arrived = Arrived::new(frame.take_fds());
    let shape = {
        let mut options = ReaderOptions::new();
        // The size was checked when the frame was read; this bounds pointers
        // that lead to the same words again and again.
        options.traversal_limit_in_words(Some(frame.size_in_words().saturating_mul(2).max(1024)));
        let reader = Reader::new(&frame, options);
        read(reader.get_root()?, Depth::Outer, &mut arrived, most_named)?
    };
    Ok(shape.with_frame(frame))
}

/// Reads a message that may name any number of capabilities.
#[cfg(any(test, fuzzing, feature = "bench"))]
pub(crate) fn decode(frame: Frame) -> Result<Message, Error> {
    decode_within(frame, usize::MAX)
}

/// Whether the message is read by itself or inside an `unimplemented`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Outer,
    Echoed,
}

/// A message whose content still lies in the frame that is being read.
pub(super) enum Shape {
    Whole(Message),
    /// A bootstrap request that names an object.
    Object(u32),
    Call(Call<Descriptors>),
    Results(u32, bool, bool, Descriptors),
    Unknown,
}

impl Shape {
    /// Results with nothing in them, for which no frame is kept.
    pub(super) fn empty_results(answer: u32, release_params: bool, no_finish_needed: bool) -> Self {
        let outcome = ReturnKind::Results(Content { frame: None, caps: Descriptors::default() });
        Shape::Whole(Message::Return(Return { answer, release_params, no_finish_needed, outcome }))
    }

    pub(super) fn with_frame(self, frame: Frame) -> Message {
        match self {
            Shape::Whole(message) => message,
            // There is no table of capabilities in such a message.
            Shape::Object(question) => {
                Message::Bootstrap(Bootstrap { question, object: Some(Arc::new(frame)) })
            }
            Shape::Call(call) => {
                let Call { question, target, interface, method, params, results_to, hint } = call;
                let params = Content { frame: Some(Arc::new(frame)), caps: params };
                Message::Call(Call {
                    question,
                    target,
                    interface,
                    method,
                    params,
                    results_to,
                    hint,
                })
            }
            Shape::Results(answer, release_params, no_finish_needed, caps) => {
                let outcome = ReturnKind::Results(Content { frame: Some(Arc::new(frame)), caps });
                Message::Return(Return { answer, release_params, no_finish_needed, outcome })
            }
            Shape::Unknown => Message::Unknown(Box::new(frame)),
        }
    }
}

fn read(
    root: message::Reader<'_>,
    depth: Depth,
    arrived: &mut Arrived,
    most_named: usize,
) -> Result<Shape, Error> {
    let Ok(which) = root.which() else { return Ok(Shape::Unknown) };
    Ok(match which {
        message::Unimplemented(echoed) => Shape::Whole(Message::Unimplemented(match depth {
            Depth::Echoed => None,
            Depth::Outer => match read(echoed?, Depth::Echoed, arrived, most_named)? {
                Shape::Whole(message) => Some(Box::new(message)),
                // The content of such a message is not needed.
                Shape::Object(_) | Shape::Call(..) | Shape::Results(..) | Shape::Unknown => None,
            },
        })),
        message::Abort(exception) => Shape::Whole(Message::Abort(read_exception(exception?)?)),
        message::Bootstrap(bootstrap) => {
            let bootstrap = bootstrap?;
            let question = bootstrap.get_question_id();
            if bootstrap.has_deprecated_object_id() && depth == Depth::Outer {
                Shape::Object(question)
            } else {
                Shape::Whole(Message::Bootstrap(Bootstrap { question, object: None }))
            }
        }
        message::Call(call) => read_call(call?, arrived, most_named)?,
        message::Return(ret) => read_return(ret?, arrived, most_named)?,
        message::Finish(finish) => {
            let finish = finish?;
            Shape::Whole(Message::Finish(Finish {
                question: finish.get_question_id(),
                release_results: finish.get_release_result_caps(),
                early_cancellation_workaround: finish.get_require_early_cancellation_workaround(),
            }))
        }
        message::Resolve(resolve) => {
            let resolve = resolve?;
            let mut fd = None;
            let resolution = match resolve.which() {
                Ok(resolve::Cap(cap)) => {
                    let cap = cap?;
                    fd = arrived.claim(cap.get_attached_fd());
                    Ok(read_descriptor(cap)?)
                }
                Ok(resolve::Exception(exception)) => Err(read_exception(exception?)?),
                Err(_) => return Ok(Shape::Unknown),
            };
            Shape::Whole(Message::Resolve(Resolve {
                promise: resolve.get_promise_id(),
                resolution,
                fds: Attached::to_only(fd),
            }))
        }
        message::Release(release) => {
            let release = release?;
            Shape::Whole(Message::Release(Release {
                id: release.get_id(),
                count: release.get_reference_count(),
            }))
        }
        message::Disembargo(disembargo) => {
            let disembargo = disembargo?;
            let context = match disembargo.get_context().which() {
                Ok(disembargo::context::SenderLoopback(id)) => Context::SenderLoopback(id),
                Ok(disembargo::context::ReceiverLoopback(id)) => Context::ReceiverLoopback(id),
                Ok(disembargo::context::Accept(id)) => Context::Accept(id?.into()),
                Err(_) => Context::Unknown,
            };
            if context == Context::Unknown {
                return Ok(Shape::Unknown);
            }
            let target = read_target(disembargo.get_target()?)?;
            Shape::Whole(Message::Disembargo(Disembargo { target, context }))
        }
        message::Provide(provide) => {
            let provide = provide?;
            Shape::Whole(Message::Provide(Provide {
                question: provide.get_question_id(),
                target: read_target(provide.get_target()?)?,
                recipient: Token::of(provide.get_recipient()).ok(),
            }))
        }
        message::Accept(accept) => {
            let accept = accept?;
            let embargo = if accept.has_embargo() { Some(accept.get_embargo()?) } else { None };
            Shape::Whole(Message::Accept(Accept {
                question: accept.get_question_id(),
                provision: Token::of(accept.get_provision()).ok(),
                embargo: embargo.map(Into::into),
            }))
        }
        message::Join(join) => {
            let join = join?;
            Shape::Whole(Message::Join(Join {
                question: join.get_question_id(),
                target: read_target(join.get_target()?)?,
                key: Token::of(join.get_key_part()).ok(),
            }))
        }
        message::ObsoleteSave(_) | message::ObsoleteDelete(_) | message::ThirdPartyAnswer(_) => {
            Shape::Unknown
        }
    })
}

fn read_call(
    call: call::Reader<'_>,
    arrived: &mut Arrived,
    most_named: usize,
) -> Result<Shape, Error> {
    let results_to = match call.get_send_results_to().which() {
        Ok(call::send_results_to::Caller(())) => ResultsTo::Caller,
        Ok(call::send_results_to::Yourself(())) => ResultsTo::Yourself,
        Ok(call::send_results_to::ThirdParty(_)) | Err(_) => ResultsTo::Unknown,
    };
    let hint = match (call.get_no_promise_pipelining(), call.get_only_promise_pipeline()) {
        (true, false) => Hint::NoPipelining,
        // The hint makes no sense for a call whose results stay with this side.
        (false, true) if results_to != ResultsTo::Yourself => Hint::OnlyPipeline,
        // A caller that gives both hints gets neither: they are only hints.
        _ => Hint::None,
    };
    Ok(Shape::Call(Call {
        question: call.get_question_id(),
        target: read_target(call.get_target()?)?,
        interface: call.get_interface_id(),
        method: call.get_method_id(),
        params: read_cap_table(call.get_params()?, arrived, most_named)?,
        results_to,
        hint,
    }))
}

fn read_return(
    ret: return_::Reader<'_>,
    arrived: &mut Arrived,
    most_named: usize,
) -> Result<Shape, Error> {
    let answer = ret.get_answer_id();
    let release_params = ret.get_release_param_caps();
    let no_finish_needed = ret.get_no_finish_needed();
    let outcome = match ret.which() {
        Ok(return_::Results(results)) => {
            let results = results?;
            let caps = read_cap_table(results, arrived, most_named)?;
            if caps.descriptors.is_empty() && results.get_content().is_null() {
                return Ok(Shape::empty_results(answer, release_params, no_finish_needed));
            }
            return Ok(Shape::Results(answer, release_params, no_finish_needed, caps));
        }
        Ok(return_::Exception(exception)) => ReturnKind::Exception(read_exception(exception?)?),
        Ok(return_::Canceled(())) => ReturnKind::Canceled,
        Ok(return_::ResultsSentElsewhere(())) => ReturnKind::ResultsSentElsewhere,
        Ok(return_::TakeFromOtherQuestion(id)) => ReturnKind::TakeFromOtherQuestion(id),
        Ok(return_::AwaitFromThirdParty(_)) | Err(_) => ReturnKind::Unknown,
    };
    Ok(Shape::Whole(Message::Return(Return { answer, release_params, no_finish_needed, outcome })))
}

fn read_cap_table(
    payload: payload::Reader<'_>,
    arrived: &mut Arrived,
    most_named: usize,
) -> Result<Descriptors, Error> {
    if !payload.has_cap_table() {
        return Ok(Descriptors::default());
    }
    let table = payload.get_cap_table()?;
    if table.len() as usize > most_named {
        return Err(Error::overloaded(format!(
            "a message names {} capabilities; at most {most_named} fit into the memory that \
             is set aside (Limits::budget_bytes)",
            table.len()
        )));
    }
    let mut fds = Attached::default();
    let descriptors = table.iter().enumerate().map(|(cap, descriptor)| {
        if let Some(fd) = arrived.claim(descriptor.get_attached_fd()) {
            fds.add(cap, fd);
        }
        read_descriptor(descriptor)
    });
    let descriptors = descriptors.collect::<Result<_, _>>()?;
    Ok(Descriptors { descriptors, fds })
}

fn read_descriptor(descriptor: cap_descriptor::Reader<'_>) -> Result<Descriptor, Error> {
    Ok(match descriptor.which() {
        Ok(cap_descriptor::None(())) => Descriptor::None,
        Ok(cap_descriptor::SenderHosted(id)) => Descriptor::SenderHosted(id),
        Ok(cap_descriptor::SenderPromise(id)) => Descriptor::SenderPromise(id),
        Ok(cap_descriptor::ReceiverHosted(id)) => Descriptor::ReceiverHosted(id),
        Ok(cap_descriptor::ReceiverAnswer(answer)) => {
            Descriptor::ReceiverAnswer(read_promised_answer(answer?)?)
        }
        Ok(cap_descriptor::ThirdPartyHosted(third)) => {
            let third = third?;
            Descriptor::ThirdPartyHosted(third.get_vine_id(), Token::of(third.get_id()).ok())
        }
        Err(capnp::NotInSchema(tag)) => Descriptor::Unknown(tag),
    })
}

fn read_target(target: message_target::Reader<'_>) -> Result<Target, Error> {
    Ok(match target.which() {
        Ok(message_target::ImportedCap(id)) => Target::ImportedCap(id),
        Ok(message_target::PromisedAnswer(answer)) => {
            Target::PromisedAnswer(read_promised_answer(answer?)?)
        }
        Err(_) => Target::Unknown,
    })
}

fn read_promised_answer(answer: promised_answer::Reader<'_>) -> Result<PromisedAnswer, Error> {
    let transform = answer.get_transform()?;
    let mut path = Vec::with_capacity(transform.len() as usize);
    let mut understood = true;
    for op in transform {
        match op.which() {
            Ok(promised_answer::op::Noop(())) => {}
            Ok(promised_answer::op::GetPointerField(field)) => path.push(field),
            Err(_) => understood = false,
        }
    }
    let path: Option<Path> = understood.then(|| path.into());
    Ok(PromisedAnswer { question: answer.get_question_id(), path })
}

/// Reads as much as possible: a reason that is not UTF-8 is still a reason.
fn read_exception(exception: exception::Reader<'_>) -> Result<Error, Error> {
    let kind = match exception.get_type() {
        Ok(exception::Type::Overloaded) => ErrorKind::Overloaded,
        Ok(exception::Type::Disconnected) => ErrorKind::Disconnected,
        Ok(exception::Type::Unimplemented) => ErrorKind::Unimplemented,
        // As the schema asks of types from the future.
        Ok(exception::Type::Failed) | Err(_) => ErrorKind::Failed,
    };
    let text =
        |text: capnp::text::Reader<'_>| String::from_utf8_lossy(text.as_bytes()).into_owned();
    let mut details = Vec::new();
    if exception.has_details() {
        for detail in exception.get_details()?.iter().take(MAX_DETAILS as usize) {
            details.push((detail.get_detail_id(), detail.get_data()?.to_vec()));
        }
    }
    Ok(Error::received(kind, text(exception.get_reason()?), text(exception.get_trace()?), details))
}
