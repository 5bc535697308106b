//! The messages of the protocol as plain values, and their encoding.
//!
//! The machine deals in [`Message`]s only. An id in a message is what the wire
//! carries: the number as its sender knows it.

mod attached;
mod decode;
mod encode;
mod flat;
mod join;
pub mod message;
pub(crate) mod plain;
pub mod print;
#[cfg(all(test, unix))]
mod tests;
mod token;

#[rustfmt::skip]
#[path = "generated/rpc_capnp.rs"]
#[allow(missing_docs, clippy::exhaustive_enums, reason = "as the schema has it")]
pub mod rpc_capnp;

#[rustfmt::skip]
#[path = "generated/rpc_twoparty_capnp.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::exhaustive_enums, reason = "as the schema has it")]
pub(crate) mod rpc_twoparty_capnp;

pub(crate) use attached::{Attached, MAX_FDS};
#[cfg(any(test, fuzzing, feature = "bench"))]
pub(crate) use decode::decode;
pub(crate) use decode::{decode_segment, decode_within};
pub(crate) use encode::{encode, encode_into};
pub(crate) use flat::{OF_BOOTSTRAP, OF_CALL, OF_RETURN, can_copy};
pub(crate) use join::{JoinKey, JoinPart, Nonce};
pub use token::Token;

use std::sync::Arc;

use self::message::Message as Frame;
use crate::error::Error;
use crate::fd::SharedFd;

/// One message, in either direction.
#[derive(Debug)]
pub(crate) enum Message {
    /// The peer did not know a message of this side; `None` if this side cannot have
    /// sent it.
    Unimplemented(Option<Box<Message>>),
    Abort(Error),
    Bootstrap(Bootstrap),
    Call(Call),
    Return(Return),
    Finish(Finish),
    Resolve(Resolve),
    Release(Release),
    Disembargo(Disembargo),
    Provide(Provide),
    Accept(Accept),
    Join(Join),
    /// A message that this implementation does not know and has to echo. When sent, it
    /// is wrapped into an `unimplemented`.
    Unknown(Box<Frame>),
}

#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) question: u32,
    /// The name of the requested capability, if it is not the bootstrap capability.
    pub(crate) object: Option<Arc<Frame>>,
}

/// A call, with its content or, while it is being read, a stand-in for the content.
#[derive(Debug)]
pub(crate) struct Call<C = Content> {
    pub(crate) question: u32,
    pub(crate) target: Target,
    pub(crate) interface: u64,
    pub(crate) method: u16,
    pub(crate) params: C,
    pub(crate) results_to: ResultsTo,
    pub(crate) hint: Hint,
}

#[derive(Debug)]
pub(crate) struct Return {
    pub(crate) answer: u32,
    pub(crate) release_params: bool,
    pub(crate) no_finish_needed: bool,
    pub(crate) outcome: ReturnKind,
}

#[derive(Debug)]
pub(crate) enum ReturnKind {
    Results(Content),
    Exception(Error),
    Canceled,
    ResultsSentElsewhere,
    TakeFromOtherQuestion(u32),
    /// Level 3, or newer than this implementation.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) question: u32,
    pub(crate) release_results: bool,
    /// Whether the sender may have finished a call that it still wants to be delivered.
    pub(crate) early_cancellation_workaround: bool,
}

#[derive(Debug)]
pub(crate) struct Resolve {
    pub(crate) promise: u32,
    pub(crate) resolution: Result<Descriptor, Error>,
    /// The file descriptor of the one capability that it may name.
    pub(crate) fds: Attached,
}

#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) id: u32,
    pub(crate) count: u32,
}

#[derive(Debug)]
pub(crate) struct Disembargo {
    pub(crate) target: Target,
    pub(crate) context: Context,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    SenderLoopback(u32),
    ReceiverLoopback(u32),
    /// Lifts the embargo of an Accept.
    Accept(AcceptEmbargo),
    /// Newer than this implementation.
    Unknown,
}

/// What an Accept and the Disembargo that it waits for have in common.
pub(crate) type AcceptEmbargo = Box<[u8]>;

/// Keeps a capability of the receiver for a third vat.
#[derive(Debug)]
pub(crate) struct Provide {
    pub(crate) question: u32,
    pub(crate) target: Target,
    /// Who is going to come for it; `None` if that could not be read.
    pub(crate) recipient: Option<Token>,
}

/// Asks for a capability that a third vat has provided.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) question: u32,
    /// What shows that it is for the sender; `None` if that could not be read.
    pub(crate) provision: Option<Token>,
    pub(crate) embargo: Option<AcceptEmbargo>,
}

/// Asks whether a capability of the receiver is the same object as others.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) question: u32,
    pub(crate) target: Target,
    /// What is asked; `None` if that could not be read.
    pub(crate) key: Option<Token>,
}

/// The destination of a call's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultsTo {
    Caller,
    Yourself,
    /// Level 3, or newer than this implementation.
    Unknown,
}

/// What a caller says that it will not do with the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hint {
    /// No hint.
    #[default]
    None,
    /// `noPromisePipelining`: the caller will not pipeline calls on the results.
    NoPipelining,
    /// `onlyPromisePipeline`: the caller will not look at the results, and wants no
    /// Return.
    OnlyPipeline,
}

/// The target of a call or a disembargo, as its receiver names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    ImportedCap(u32),
    PromisedAnswer(PromisedAnswer),
    Unknown,
}

/// A capability in results that the receiver has yet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PromisedAnswer {
    pub(crate) question: u32,
    /// The path to the capability; `None` if it has a step that is not known here.
    pub(crate) path: Option<Path>,
}

impl PromisedAnswer {
    pub(crate) fn new(question: u32, path: &Path) -> Self {
        PromisedAnswer { question, path: Some(path.clone()) }
    }
}

/// The capabilities that content refers to by index.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    pub(crate) descriptors: Vec<Descriptor>,
    pub(crate) fds: Attached,
}

#[cfg(any(test, fuzzing))]
impl From<Vec<Descriptor>> for Descriptors {
    fn from(descriptors: Vec<Descriptor>) -> Self {
        Descriptors { descriptors, fds: Attached::default() }
    }
}

impl Descriptors {
    pub(crate) fn with_capacity(len: usize) -> Self {
        Descriptors { descriptors: Vec::with_capacity(len), fds: Attached::default() }
    }

    /// Adds a capability and the file descriptor that travels with it.
    pub(crate) fn push(&mut self, descriptor: Descriptor, fd: Option<SharedFd>) {
        if let Some(fd) = fd {
            self.fds.add(self.descriptors.len(), fd);
        }
        self.descriptors.push(descriptor);
    }
}

/// Pointer fields from the results' root to a capability.
pub(crate) type Path = Box<[u16]>;

/// How a capability is named between the two vats, seen from the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Descriptor {
    None,
    SenderHosted(u32),
    SenderPromise(u32),
    ReceiverHosted(u32),
    ReceiverAnswer(PromisedAnswer),
    /// The vine, an export of the sender that stands in for the third party's capability,
    /// and how to get that capability; `None` if that could not be read.
    ThirdPartyHosted(u32, Option<Token>),
    Unknown(u16),
}

impl Descriptor {
    /// The words that it takes in a message, or a few more.
    pub(crate) fn words(&self) -> usize {
        /// An entry of the table, and a part of what the table takes itself.
        const ENTRY: usize = 3;
        let behind_it = match self {
            Descriptor::ReceiverAnswer(answer) => {
                3 + answer.path.as_deref().map_or(0, <[u16]>::len)
            }
            Descriptor::ThirdPartyHosted(_, contact) => {
                2 + contact.as_ref().map_or(0, Token::size) / 8
            }
            _ => 0,
        };
        ENTRY + behind_it
    }
}

/// The message that a call or results will travel in, or came in, and the names of the
/// capabilities that its content refers to.
///
/// An outgoing frame was built for its message, and everything but the content is
/// filled in when the message is encoded. For an incoming one, the capabilities that
/// the table names have not been looked up yet.
pub(crate) struct Content {
    /// `None` if nothing is in it. Not shared when it is on its way out, unless it is short.
    pub(crate) frame: Option<Arc<Frame>>,
    pub(crate) caps: Descriptors,
}

impl Content {
    fn size_in_words(&self) -> usize {
        let descriptor = size_of::<Descriptor>() / 8 + 1;
        let tokens = self.caps.descriptors.iter().map(|descriptor| match descriptor {
            Descriptor::ThirdPartyHosted(_, Some(token)) => token.size() / 8,
            _ => 0,
        });
        self.frame.as_ref().map_or(0, |frame| frame.memory_in_words())
            + descriptor * self.caps.descriptors.capacity()
            + tokens.sum::<usize>()
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.frame.as_ref().map_or(0, |frame| frame.size_in_words());
        write!(f, "{words} words {:?}", self.caps.descriptors)
    }
}

impl Message {
    /// The error that this message reports to the peer.
    pub(crate) fn error_mut(&mut self) -> Option<&mut Error> {
        match self {
            Message::Return(Return { outcome: ReturnKind::Exception(error), .. })
            | Message::Resolve(Resolve { resolution: Err(error), .. })
            | Message::Abort(error) => Some(error),
            _ => None,
        }
    }

    /// Takes out the file descriptors that came with the message.
    pub(crate) fn take_fds(&mut self) -> Attached {
        match self {
            Message::Call(Call { params: content, .. })
            | Message::Return(Return { outcome: ReturnKind::Results(content), .. }) => {
                std::mem::take(&mut content.caps.fds)
            }
            Message::Resolve(resolve) => std::mem::take(&mut resolve.fds),
            Message::Unimplemented(Some(echoed)) => echoed.take_fds(),
            _ => Attached::default(),
        }
    }

    /// An estimate of the memory that the message takes in a queue, in bytes; more than
    /// its size on the wire.
    pub(crate) fn size_estimate(&self) -> usize {
        /// The message in a queue that may be half full, and its frame.
        const OVERHEAD: usize = 2 * size_of::<Message>() + size_of::<Frame>() + 32;
        let words = match self {
            Message::Call(Call { params: content, .. })
            | Message::Return(Return { outcome: ReturnKind::Results(content), .. }) => {
                content.size_in_words()
            }
            Message::Return(Return { outcome: ReturnKind::Exception(error), .. })
            | Message::Resolve(Resolve { resolution: Err(error), .. })
            | Message::Abort(error) => error.size() / 8,
            Message::Bootstrap(Bootstrap { object: Some(object), .. }) => object.memory_in_words(),
            Message::Unknown(frame) => frame.memory_in_words(),
            Message::Provide(Provide { recipient: Some(token), .. })
            | Message::Accept(Accept { provision: Some(token), .. })
            | Message::Join(Join { key: Some(token), .. })
            | Message::Resolve(Resolve {
                resolution: Ok(Descriptor::ThirdPartyHosted(_, Some(token))),
                ..
            }) => token.size() / 8,
            _ => 0,
        };
        8 * words + OVERHEAD
    }
}
