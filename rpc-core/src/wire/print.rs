//! Messages of the protocol in one readable line each, for logs and for the wire tap of
//! `capnp-threads-transport`.
//!
//! The words are those of `rpc.capnp`. An id is named by the table of this side to
//! which it refers, which depends on the message's [`Direction`]:
//!
//! ```text
//! call #3 to import 0 0x88eb12a0e0af92b2/0 params 12 words caps [senderHosted 4]
//! return #3 results 7 words
//! release export 4 count 1
//! ```

use std::fmt::{self, Write};

use capnp::message::{Reader, ReaderOptions};
use capnp::{any_pointer, text};

use crate::wire::message::Message;
use crate::wire::rpc_capnp::{
    call, cap_descriptor, disembargo, exception, message, message_target, payload, promised_answer,
    resolve, return_,
};

#[cfg(test)]
mod tests;

/// The side that sent a message, which decides whose ids it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Direction {
    /// This side sent it: a question is one of this side, and the target of a call is
    /// an import.
    Sent,
    /// This side received it: a question is one that this side answers, and the target
    /// of a call is an export.
    Received,
}

/// Limits on what [`describe`] prints.
///
/// ```
/// use capnp_threads_core::capnp::message::Builder;
/// use capnp_threads_core::describe::{DescribeOptions, Direction, describe};
/// use capnp_threads_core::message::Message;
/// use rpc_schema::rpc_capnp::message;
///
/// let mut builder = Builder::new_default();
/// builder.init_root::<message::Builder<'_>>().init_release().set_id(3);
/// let mut options = DescribeOptions::default();
/// options.max_length = 80;
/// let line = describe(&Message::from(builder), Direction::Sent, &options);
/// assert_eq!(line, "release import 3 count 0");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DescribeOptions {
    /// Maximum size of the description, in bytes; the rest is cut off. A mark of three bytes
    /// tells so, if there is room for it.
    pub max_length: usize,
    /// Maximum number of characters of an exception's reason.
    pub max_reason: usize,
    /// Maximum number of capability descriptors of one message, and of steps of one
    /// path.
    pub max_items: usize,
}

impl Default for DescribeOptions {
    /// 1000 bytes, with reasons of 200 characters and 16 descriptors.
    fn default() -> Self {
        DescribeOptions { max_length: 1000, max_reason: 200, max_items: 16 }
    }
}

/// Describes a message in one line, whatever it contains.
///
/// Malformed messages are described as far as they can be read. Text of the peer
/// is escaped, so that it can neither start a new line nor steer a terminal. The
/// time it takes is bounded by the size of the message, which is gone through to
/// find the size of its content.
pub fn describe(message: &Message, direction: Direction, options: &DescribeOptions) -> String {
    let mut reader_options = ReaderOptions::new();
    let words = message.size_in_words().saturating_mul(8).max(8 << 10);
    reader_options.traversal_limit_in_words(Some(words));
    let reader = Reader::new(message, reader_options);

    let mut out = Description { text: String::new(), full: false, options };
    let root = reader.get_root::<message::Reader<'_>>().map_err(Stop::from);
    let outcome = match root.and_then(|root| out.message(root, direction, 0)) {
        Err(Stop::Malformed(error)) => out.malformed(message, &error),
        outcome => outcome,
    };
    let fds = message.fds().len();
    let outcome = match outcome {
        Ok(()) if fds > 0 => write!(out, " fds {fds}").map_err(Stop::from),
        outcome => outcome,
    };
    match outcome {
        // The only possible error here is that the text was cut off.
        Ok(()) | Err(_) => out.text,
    }
}

/// Maximum depth of messages that are wrapped as unimplemented in each other.
const MAX_DEPTH: usize = 3;

/// Why describing ends early.
enum Stop {
    Full,
    Malformed(capnp::Error),
}

impl From<fmt::Error> for Stop {
    fn from(_: fmt::Error) -> Self {
        Stop::Full
    }
}

impl From<capnp::Error> for Stop {
    fn from(error: capnp::Error) -> Self {
        Stop::Malformed(error)
    }
}

type Printed = Result<(), Stop>;

struct Description<'a> {
    text: String,
    /// The text was cut off.
    full: bool,
    options: &'a DescribeOptions,
}

/// Where something was cut off.
const CUT_OFF: &str = "…";

/// The last boundary of a character that is not behind `end`.
fn boundary(text: &str, end: usize) -> usize {
    // Offset 0 is always one.
    (0..=end.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

impl Write for Description<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.full {
            return Err(fmt::Error);
        }
        let room = self.options.max_length.saturating_sub(self.text.len());
        if text.len() <= room {
            self.text.push_str(text);
            return Ok(());
        }
        self.text.push_str(&text[..boundary(text, room)]);
        let mark = if self.options.max_length < CUT_OFF.len() { "" } else { CUT_OFF };
        self.text.truncate(boundary(&self.text, self.options.max_length - mark.len()));
        self.text.push_str(mark);
        self.full = true;
        Err(fmt::Error)
    }
}

impl Description<'_> {
    fn message(
        &mut self,
        message: message::Reader<'_>,
        direction: Direction,
        depth: usize,
    ) -> Printed {
        // The names of the tables to which the message's ids refer.
        let (question, sender_export, receiver_export) = match direction {
            Direction::Sent => ("question", "export", "import"),
            Direction::Received => ("answer", "import", "export"),
        };
        let names = Names { question, receiver_export };
        match message.which() {
            Ok(message::Unimplemented(inner)) => {
                write!(self, "unimplemented (")?;
                if depth == MAX_DEPTH {
                    write!(self, "…")?;
                } else {
                    // The message comes back to its sender.
                    let original = match direction {
                        Direction::Sent => Direction::Received,
                        Direction::Received => Direction::Sent,
                    };
                    self.message(inner?, original, depth + 1)?;
                }
                write!(self, ")")?;
            }
            Ok(message::Abort(exception)) => {
                write!(self, "abort ")?;
                self.exception(exception?)?;
            }
            Ok(message::Bootstrap(bootstrap)) => {
                let bootstrap = bootstrap?;
                write!(self, "bootstrap #{}", bootstrap.get_question_id())?;
                if bootstrap.has_deprecated_object_id() {
                    write!(self, " deprecatedObjectId")?;
                }
            }
            Ok(message::Call(call)) => self.call(call?, names)?,
            Ok(message::Return(ret)) => self.ret(ret?)?,
            Ok(message::Finish(finish)) => {
                let finish = finish?;
                write!(self, "finish #{}", finish.get_question_id())?;
                self.flag(finish.get_release_result_caps(), "releaseResultCaps")?;
                self.flag(
                    finish.get_require_early_cancellation_workaround(),
                    "requireEarlyCancellationWorkaround",
                )?;
            }
            Ok(message::Resolve(resolve)) => {
                let resolve = resolve?;
                write!(self, "resolve {sender_export} {} to ", resolve.get_promise_id())?;
                match resolve.which() {
                    Ok(resolve::Cap(cap)) => self.descriptor(cap?)?,
                    Ok(resolve::Exception(exception)) => {
                        write!(self, "exception ")?;
                        self.exception(exception?)?;
                    }
                    Err(unknown) => self.unknown(unknown)?,
                }
            }
            Ok(message::Release(release)) => {
                let release = release?;
                let (id, count) = (release.get_id(), release.get_reference_count());
                write!(self, "release {receiver_export} {id} count {count}")?;
            }
            Ok(message::Disembargo(disembargo)) => self.disembargo(disembargo?, names)?,
            Ok(message::ObsoleteSave(_)) => write!(self, "obsoleteSave")?,
            Ok(message::ObsoleteDelete(_)) => write!(self, "obsoleteDelete")?,
            Ok(message::Provide(provide)) => {
                let provide = provide?;
                write!(self, "provide #{} ", provide.get_question_id())?;
                self.target(provide.get_target()?, names)?;
                write!(self, " recipient ")?;
                self.size(&provide.get_recipient())?;
            }
            Ok(message::Accept(accept)) => {
                let accept = accept?;
                write!(self, "accept #{} provision ", accept.get_question_id())?;
                self.size(&accept.get_provision())?;
                if accept.has_embargo() {
                    write!(self, " embargo {} bytes", accept.get_embargo()?.len())?;
                }
            }
            Ok(message::ThirdPartyAnswer(answer)) => {
                let answer = answer?;
                write!(self, "thirdPartyAnswer #{} completion ", answer.get_answer_id())?;
                self.size(&answer.get_completion())?;
            }
            Ok(message::Join(join)) => {
                let join = join?;
                write!(self, "join #{} ", join.get_question_id())?;
                self.target(join.get_target()?, names)?;
                write!(self, " keyPart ")?;
                self.size(&join.get_key_part())?;
            }
            Err(capnp::NotInSchema(kind)) => write!(self, "message of unknown kind {kind}")?,
        }
        Ok(())
    }

    fn call(&mut self, call: call::Reader<'_>, names: Names) -> Printed {
        write!(self, "call #{} ", call.get_question_id())?;
        self.target(call.get_target()?, names)?;
        write!(self, " {:#018x}/{} params ", call.get_interface_id(), call.get_method_id())?;
        self.payload(call.get_params()?)?;
        match call.get_send_results_to().which() {
            Ok(call::send_results_to::Caller(())) => {}
            Ok(call::send_results_to::Yourself(())) => write!(self, " sendResultsTo yourself")?,
            Ok(call::send_results_to::ThirdParty(party)) => {
                write!(self, " sendResultsTo thirdParty ")?;
                self.size(&party)?;
            }
            Err(unknown) => {
                write!(self, " sendResultsTo ")?;
                self.unknown(unknown)?;
            }
        }
        self.flag(call.get_allow_third_party_tail_call(), "allowThirdPartyTailCall")?;
        self.flag(call.get_no_promise_pipelining(), "noPromisePipelining")?;
        self.flag(call.get_only_promise_pipeline(), "onlyPromisePipeline")
    }

    fn ret(&mut self, ret: return_::Reader<'_>) -> Printed {
        write!(self, "return #{} ", ret.get_answer_id())?;
        match ret.which() {
            Ok(return_::Results(results)) => {
                write!(self, "results ")?;
                self.payload(results?)?;
            }
            Ok(return_::Exception(exception)) => {
                write!(self, "exception ")?;
                self.exception(exception?)?;
            }
            Ok(return_::Canceled(())) => write!(self, "canceled")?,
            Ok(return_::ResultsSentElsewhere(())) => write!(self, "resultsSentElsewhere")?,
            Ok(return_::TakeFromOtherQuestion(id)) => write!(self, "takeFromOtherQuestion #{id}")?,
            Ok(return_::AwaitFromThirdParty(party)) => {
                write!(self, "awaitFromThirdParty ")?;
                self.size(&party)?;
            }
            Err(unknown) => self.unknown(unknown)?,
        }
        self.flag(ret.get_release_param_caps(), "releaseParamCaps")?;
        self.flag(ret.get_no_finish_needed(), "noFinishNeeded")
    }

    fn disembargo(&mut self, disembargo: disembargo::Reader<'_>, names: Names) -> Printed {
        write!(self, "disembargo ")?;
        self.target(disembargo.get_target()?, names)?;
        match disembargo.get_context().which() {
            Ok(disembargo::context::SenderLoopback(id)) => write!(self, " senderLoopback {id}")?,
            Ok(disembargo::context::ReceiverLoopback(id)) => {
                write!(self, " receiverLoopback {id}")?;
            }
            Ok(disembargo::context::Accept(embargo)) => {
                write!(self, " accept {} bytes", embargo?.len())?;
            }
            Err(unknown) => {
                write!(self, " ")?;
                self.unknown(unknown)?;
            }
        }
        Ok(())
    }

    fn target(&mut self, target: message_target::Reader<'_>, names: Names) -> Printed {
        match target.which() {
            Ok(message_target::ImportedCap(id)) => {
                write!(self, "to {} {id}", names.receiver_export)?;
            }
            Ok(message_target::PromisedAnswer(promised)) => {
                write!(self, "to {} ", names.question)?;
                self.promised(promised?)?;
            }
            Err(unknown) => {
                write!(self, "to ")?;
                self.unknown(unknown)?;
            }
        }
        Ok(())
    }

    /// A question's number and the fields that lead to the capability, all with
    /// points between.
    fn promised(&mut self, promised: promised_answer::Reader<'_>) -> Printed {
        write!(self, "#{}", promised.get_question_id())?;
        let transform = promised.get_transform()?;
        for (index, op) in (0..transform.len()).zip(transform) {
            if index as usize >= self.options.max_items {
                write!(self, ".…")?;
                break;
            }
            match op.which() {
                Ok(promised_answer::op::Noop(())) => write!(self, ".noop")?,
                Ok(promised_answer::op::GetPointerField(field)) => write!(self, ".{field}")?,
                Err(capnp::NotInSchema(kind)) => write!(self, ".unknown({kind})")?,
            }
        }
        Ok(())
    }

    fn payload(&mut self, payload: payload::Reader<'_>) -> Printed {
        self.size(&payload.get_content())?;
        let caps = payload.get_cap_table()?;
        if caps.is_empty() {
            return Ok(());
        }
        write!(self, " caps [")?;
        for (index, cap) in (0..caps.len()).zip(caps) {
            if index > 0 {
                write!(self, ", ")?;
            }
            if index as usize >= self.options.max_items {
                write!(self, "… {} more", caps.len() - index)?;
                break;
            }
            self.descriptor(cap)?;
        }
        write!(self, "]")?;
        Ok(())
    }

    fn descriptor(&mut self, cap: cap_descriptor::Reader<'_>) -> Printed {
        match cap.which() {
            Ok(cap_descriptor::None(())) => write!(self, "none")?,
            Ok(cap_descriptor::SenderHosted(id)) => write!(self, "senderHosted {id}")?,
            Ok(cap_descriptor::SenderPromise(id)) => write!(self, "senderPromise {id}")?,
            Ok(cap_descriptor::ReceiverHosted(id)) => write!(self, "receiverHosted {id}")?,
            Ok(cap_descriptor::ReceiverAnswer(promised)) => {
                write!(self, "receiverAnswer ")?;
                self.promised(promised?)?;
            }
            Ok(cap_descriptor::ThirdPartyHosted(third)) => {
                write!(self, "thirdPartyHosted vine {}", third?.get_vine_id())?;
            }
            Err(unknown) => self.unknown(unknown)?,
        }
        if cap.get_attached_fd() != u8::MAX {
            write!(self, " fd {}", cap.get_attached_fd())?;
        }
        Ok(())
    }

    fn exception(&mut self, exception: exception::Reader<'_>) -> Printed {
        match exception.get_type() {
            Ok(exception::Type::Failed) => write!(self, "failed ")?,
            Ok(exception::Type::Overloaded) => write!(self, "overloaded ")?,
            Ok(exception::Type::Disconnected) => write!(self, "disconnected ")?,
            Ok(exception::Type::Unimplemented) => write!(self, "unimplemented ")?,
            Err(capnp::NotInSchema(kind)) => write!(self, "of unknown type {kind} ")?,
        }
        self.quoted(exception.get_reason()?)?;
        if exception.has_trace() {
            write!(self, " trace {} bytes", exception.get_trace()?.len())?;
        }
        if exception.has_details() {
            write!(self, " details {}", exception.get_details()?.len())?;
        }
        Ok(())
    }

    fn quoted(&mut self, text: text::Reader<'_>) -> Printed {
        let max = self.options.max_reason;
        // No character takes more than four bytes.
        let enough = max.saturating_mul(4).min(text.len());
        let start = String::from_utf8_lossy(&text.as_bytes()[..enough]);
        let mut chars = start.chars();
        let kept: String = chars.by_ref().take(max).collect();
        let cut_off = enough < text.len() || chars.next().is_some();
        let rest = if cut_off { "…" } else { "" };
        write!(self, "\"{}{rest}\"", kept.escape_debug())?;
        Ok(())
    }

    /// The size of what a pointer leads to, wherever it lies in the message.
    fn size(&mut self, content: &any_pointer::Reader<'_>) -> Printed {
        match content.target_size() {
            Ok(size) => write!(self, "{} words", size.word_count)?,
            Err(error) => write!(self, "malformed ({})", one_line(&error))?,
        }
        Ok(())
    }

    fn flag(&mut self, set: bool, name: &str) -> Printed {
        if set {
            write!(self, " {name}")?;
        }
        Ok(())
    }

    fn unknown(&mut self, capnp::NotInSchema(kind): capnp::NotInSchema) -> Printed {
        write!(self, "unknown kind {kind}")?;
        Ok(())
    }

    fn malformed(&mut self, message: &Message, error: &capnp::Error) -> Printed {
        let space = if self.text.is_empty() || self.text.ends_with(' ') { "" } else { " " };
        let (words, segments) = (message.size_in_words(), message.segment_count());
        let error = one_line(error);
        write!(self, "{space}malformed, {words} words in {segments} segments ({error})")?;
        Ok(())
    }
}

fn one_line(error: &capnp::Error) -> String {
    error.to_string().escape_debug().collect()
}

/// The names of the receiver's tables, from this side's view.
#[derive(Clone, Copy)]
struct Names {
    question: &'static str,
    receiver_export: &'static str,
}
