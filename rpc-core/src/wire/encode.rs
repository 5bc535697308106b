//! From a [`Message`] to a frame that can be written.

use std::sync::Arc;

use capnp::message::{Builder, HeapAllocator};

use super::message::Message as Frame;
use super::rpc_capnp::{
    call, cap_descriptor, exception, message, message_target, payload, promised_answer,
};
use super::{
    Attached, Bootstrap, Call, Content, Context, Descriptor, Descriptors, Hint, Message,
    PromisedAnswer, ResultsTo, Return, ReturnKind, Target, flat,
};
use crate::error::{Error, ErrorKind};
use crate::log::tell;

/// Size of the allocation for a message without content, in words, which holds any of
/// them.
const SMALL_WORDS: u32 = 16;

/// Words that may be copied of an unknown message beyond twice its size.
const ECHO_WORDS: usize = 64;

/// Makes the frame for a message.
///
/// Short content is copied; other content is completed in place, in the message that it was
/// built in.
///
/// # Errors
/// The content was built for another kind of message, was received, or is shared.
pub(crate) fn encode(message: Message) -> Result<Frame, Error> {
    let mut frames = Vec::new();
    encode_into(message, &mut frames)?;
    // One was added.
    frames.pop().ok_or_else(|| Error::failed("a message was not encoded"))
}

/// As [`encode`], and adds the frame to others.
pub(crate) fn encode_into(message: Message, frames: &mut Vec<Frame>) -> Result<(), Error> {
    let Some(frame) = flat::write(&message, frames) else {
        frames.push(by_accessors(message)?);
        return Ok(());
    };
    if let Message::Call(Call { params: content, .. })
    | Message::Return(Return { outcome: ReturnKind::Results(content), .. }) = message
        && !content.caps.fds.is_empty()
    {
        frame.set_fds(content.caps.fds.into_fds());
    }
    Ok(())
}

/// As [`encode`], whatever the message is.
pub(super) fn by_accessors(message: Message) -> Result<Frame, Error> {
    match message {
        Message::Call(call) => {
            let Content { frame, caps } = call.params;
            let mut builder = open(frame)?;
            let mut root = builder.get_root::<message::Builder<'_>>()?.init_or_get_call()?;
            root.set_question_id(call.question);
            root.set_interface_id(call.interface);
            root.set_method_id(call.method);
            root.set_no_promise_pipelining(call.hint == Hint::NoPipelining);
            root.set_only_promise_pipeline(call.hint == Hint::OnlyPipeline);
            write_target(root.reborrow().init_target(), &call.target);
            let mut results_to = root.reborrow().get_send_results_to();
            match call.results_to {
                ResultsTo::Yourself => results_to.set_yourself(()),
                ResultsTo::Caller | ResultsTo::Unknown => results_to.set_caller(()),
            }
            write_cap_table(root.get_params()?, &caps);
            Ok(framed(builder, caps.fds))
        }
        Message::Return(ret) => {
            let (mut builder, mut root);
            let mut fds = Attached::default();
            match ret.outcome {
                ReturnKind::Results(content) => {
                    let Content { frame, caps } = content;
                    builder = open(frame)?;
                    root = builder.get_root::<message::Builder<'_>>()?.init_or_get_return()?;
                    if let super::rpc_capnp::return_::Results(results) = root.reborrow().which()? {
                        write_cap_table(results?, &caps);
                    }
                    fds = caps.fds;
                }
                outcome => {
                    builder = small();
                    root = builder.init_root::<message::Builder<'_>>().init_return();
                    match outcome {
                        ReturnKind::Exception(error) => {
                            write_exception(root.reborrow().init_exception(), &error);
                        }
                        ReturnKind::Canceled | ReturnKind::Unknown | ReturnKind::Results(_) => {
                            root.set_canceled(());
                        }
                        ReturnKind::ResultsSentElsewhere => root.set_results_sent_elsewhere(()),
                        ReturnKind::TakeFromOtherQuestion(id) => {
                            root.set_take_from_other_question(id);
                        }
                    }
                }
            }
            root.set_answer_id(ret.answer);
            root.set_release_param_caps(ret.release_params);
            root.set_no_finish_needed(ret.no_finish_needed);
            Ok(framed(builder, fds))
        }
        Message::Bootstrap(Bootstrap { question, object: Some(object) }) => {
            let mut builder = open(Some(object))?;
            match builder.get_root::<message::Builder<'_>>()?.which()? {
                message::Bootstrap(bootstrap) => bootstrap?.set_question_id(question),
                _ => return Err(Error::failed("an object id was built for another message")),
            }
            Ok(framed(builder, Attached::default()))
        }
        other => encode_small(other),
    }
}

fn encode_small(message: Message) -> Result<Frame, Error> {
    let mut builder = small();
    let mut root = builder.init_root::<message::Builder<'_>>();
    let mut fds = Attached::default();
    match message {
        Message::Abort(error) => write_exception(root.init_abort(), &error),
        Message::Bootstrap(bootstrap) => root.init_bootstrap().set_question_id(bootstrap.question),
        Message::Finish(finish) => {
            let mut root = root.init_finish();
            root.set_question_id(finish.question);
            root.set_release_result_caps(finish.release_results);
            let workaround = finish.early_cancellation_workaround;
            root.set_require_early_cancellation_workaround(workaround);
        }
        Message::Resolve(resolve) => {
            let mut root = root.init_resolve();
            root.set_promise_id(resolve.promise);
            match &resolve.resolution {
                Ok(descriptor) => {
                    let mut cap = root.init_cap();
                    write_descriptor(cap.reborrow(), descriptor);
                    for (index, _) in resolve.fds.indices() {
                        cap.set_attached_fd(index);
                    }
                }
                Err(error) => write_exception(root.init_exception(), error),
            }
            fds = resolve.fds;
        }
        Message::Release(release) => {
            let mut root = root.init_release();
            root.set_id(release.id);
            root.set_reference_count(release.count);
        }
        Message::Disembargo(disembargo) => {
            let mut root = root.init_disembargo();
            write_target(root.reborrow().init_target(), &disembargo.target);
            let mut context = root.get_context();
            match disembargo.context {
                Context::SenderLoopback(id) => context.set_sender_loopback(id),
                Context::ReceiverLoopback(id) => context.set_receiver_loopback(id),
                Context::Accept(id) => context.set_accept(&id),
                Context::Unknown => {}
            }
        }
        Message::Provide(provide) => {
            let mut root = root.init_provide();
            root.set_question_id(provide.question);
            write_target(root.reborrow().init_target(), &provide.target);
            if let Some(token) = provide.recipient {
                token.write(root.init_recipient());
            }
        }
        Message::Accept(accept) => {
            let mut root = root.init_accept();
            root.set_question_id(accept.question);
            if let Some(embargo) = accept.embargo {
                root.set_embargo(&embargo);
            }
            if let Some(token) = accept.provision {
                token.write(root.init_provision());
            }
        }
        Message::Join(join) => {
            let mut root = root.init_join();
            root.set_question_id(join.question);
            write_target(root.reborrow().init_target(), &join.target);
            if let Some(token) = join.key {
                token.write(root.init_key_part());
            }
        }
        Message::Unknown(frame) => {
            // Pointers that lead to the same words again and again would make the
            // copy much larger than what was received.
            let mut options = capnp::message::ReaderOptions::new();
            options.traversal_limit_in_words(Some(2 * frame.size_in_words() + ECHO_WORDS));
            let reader = capnp::message::Reader::new(&*frame, options);
            let original = reader.get_root::<message::Reader<'_>>()?;
            if let Err(error) = root.set_unimplemented(original) {
                // The message held something that cannot be copied, such as capability
                // pointers, or too much to copy. It matters only that the message was
                // not understood.
                tell!(DEBUG, %error, "echoing an unknown message without its content");
                builder = small();
                builder.init_root::<message::Builder<'_>>().init_unimplemented();
            }
        }
        Message::Unimplemented(_) => {
            root.init_unimplemented();
        }
        Message::Call(_) | Message::Return(_) => {
            return Err(Error::failed("messages with content are encoded elsewhere"));
        }
    }
    Ok(framed(builder, fds))
}

/// A complete message, with the file descriptors that travel with it.
fn framed(builder: Builder<HeapAllocator>, fds: Attached) -> Frame {
    let mut frame = Frame::from(builder);
    if !fds.is_empty() {
        frame.set_fds(fds.into_fds());
    }
    frame
}

fn small() -> Builder<HeapAllocator> {
    Builder::new(HeapAllocator::new().first_segment_words(SMALL_WORDS))
}

/// The message that content lies in, to be completed.
fn open(frame: Option<Arc<Frame>>) -> Result<Builder<HeapAllocator>, Error> {
    frame
        .and_then(Arc::into_inner)
        .and_then(|frame| frame.into_builder().ok())
        .ok_or_else(|| Error::failed("content was sent without being prepared"))
}

impl<'a> message::Builder<'a> {
    fn init_or_get_call(self) -> capnp::Result<call::Builder<'a>> {
        match self.which()? {
            message::Call(call) => call,
            _ => Err(capnp::Error::failed("content was built for another message".into())),
        }
    }

    fn init_or_get_return(self) -> capnp::Result<super::rpc_capnp::return_::Builder<'a>> {
        match self.which()? {
            message::Return(ret) => ret,
            _ => Err(capnp::Error::failed("content was built for another message".into())),
        }
    }
}

pub(super) fn write_cap_table(payload: payload::Builder<'_>, caps: &Descriptors) {
    if caps.descriptors.is_empty() {
        return;
    }
    let len = u32::try_from(caps.descriptors.len()).unwrap_or(u32::MAX);
    let mut table = payload.init_cap_table(len);
    for (index, descriptor) in (0..len).zip(&caps.descriptors) {
        write_descriptor(table.reborrow().get(index), descriptor);
    }
    for (fd, cap) in caps.fds.indices() {
        if let Ok(cap) = u32::try_from(cap) {
            table.reborrow().get(cap).set_attached_fd(fd);
        }
    }
}

fn write_descriptor(mut out: cap_descriptor::Builder<'_>, descriptor: &Descriptor) {
    match descriptor {
        Descriptor::None | Descriptor::Unknown(_) => out.set_none(()),
        Descriptor::SenderHosted(id) => out.set_sender_hosted(*id),
        Descriptor::SenderPromise(id) => out.set_sender_promise(*id),
        Descriptor::ReceiverHosted(id) => out.set_receiver_hosted(*id),
        Descriptor::ReceiverAnswer(answer) => {
            write_promised_answer(out.init_receiver_answer(), answer);
        }
        Descriptor::ThirdPartyHosted(vine, contact) => {
            let mut third = out.init_third_party_hosted();
            third.set_vine_id(*vine);
            if let Some(token) = contact {
                token.write(third.init_id());
            }
        }
    }
}

fn write_target(mut out: message_target::Builder<'_>, target: &Target) {
    match target {
        Target::ImportedCap(id) => out.set_imported_cap(*id),
        Target::PromisedAnswer(answer) => {
            write_promised_answer(out.init_promised_answer(), answer);
        }
        Target::Unknown => {}
    }
}

fn write_promised_answer(mut out: promised_answer::Builder<'_>, answer: &PromisedAnswer) {
    out.set_question_id(answer.question);
    let path = answer.path.as_deref().unwrap_or_default();
    if path.is_empty() {
        return;
    }
    let len = u32::try_from(path.len()).unwrap_or(u32::MAX);
    let mut ops = out.init_transform(len);
    for (index, field) in (0..len).zip(path) {
        ops.reborrow().get(index).set_get_pointer_field(*field);
    }
}

fn write_exception(mut out: exception::Builder<'_>, error: &Error) {
    out.set_reason(error.reason());
    out.set_type(match error.kind() {
        ErrorKind::Failed => exception::Type::Failed,
        ErrorKind::Overloaded => exception::Type::Overloaded,
        ErrorKind::Disconnected => exception::Type::Disconnected,
        ErrorKind::Unimplemented => exception::Type::Unimplemented,
    });
    // Older peers, which do not know the type, derive it from these two fields.
    out.set_obsolete_is_callers_fault(false);
    out.set_obsolete_durability(match error.kind() {
        ErrorKind::Failed | ErrorKind::Unimplemented => 0,
        ErrorKind::Overloaded | ErrorKind::Disconnected => 2,
    });
    if !error.trace().is_empty() {
        out.set_trace(error.trace());
    }
    let details = error.details();
    let len = u32::try_from(details.len()).unwrap_or(u32::MAX);
    if len > 0 {
        let mut list = out.init_details(len);
        for (index, (id, data)) in (0..len).zip(details) {
            let mut detail = list.reborrow().get(index);
            detail.set_detail_id(id);
            detail.set_data(data);
        }
    }
}
