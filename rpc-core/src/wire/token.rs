//! What a network puts into the messages that introduce one vat to another. This library
//! passes it on without looking at it.

use std::fmt;
use std::sync::Arc;

use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions, SegmentArray};
use capnp::{Word, any_pointer};

use crate::error::{Error, Result};

/// Maximum size of a token, in words. What is larger is not taken for one.
pub(crate) const MAX_WORDS: usize = 512;

/// How many pointers behind each other lead through a token, at most. Whoever reads a message
/// follows 64, as all implementations do unless they are told otherwise; and a contact in the
/// parameters of a call lies behind six: those to the message, the call, the parameters, the table
/// of capabilities, the capability in it, and the vine.
const MAX_DEPTH: i32 = 64 - 6;

/// A value of a network's own that travels in a message between vats: what
/// `ThirdPartyToContact`, `ThirdPartyToAwait` and `ThirdPartyCompletion` of `rpc.capnp` stand
/// for. It is a Cap'n Proto value without capabilities, of at most 4 KiB and at most 58 pointers
/// deep.
///
/// ```
/// use capnp_threads_core::network::Token;
///
/// let token = Token::of_bytes(b"secret")?;
/// assert_eq!(token.bytes().as_deref(), Some(&b"secret"[..]));
/// # Ok::<(), capnp_threads_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The only segment of a message whose root is the value.
    words: Arc<[Word]>,
}

impl Token {
    /// A token that holds these bytes, as a `Data`.
    ///
    /// # Errors
    /// The bytes are too many.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > 8 * MAX_WORDS {
            return Err(too_large(bytes.len().div_ceil(8)));
        }
        Self::build(|mut root| root.set_as::<capnp::data::Owned>(bytes))
    }

    /// The bytes of a token that was made with [`of_bytes`](Self::of_bytes); `None` for
    /// another kind of token.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.read(|root| root.get_as::<capnp::data::Reader<'_>>().map(<[u8]>::to_vec)).ok()
    }

    /// A token that holds whatever `fill` writes.
    ///
    /// # Errors
    /// `fill` failed, or has written too much, or too deep.
    pub fn build(fill: impl FnOnce(any_pointer::Builder<'_>) -> capnp::Result<()>) -> Result<Self> {
        let mut message = Builder::new_default();
        fill(message.init_root())?;
        Self::of(message.get_root_as_reader()?)
    }

    /// Reads the token, which may come from a peer.
    ///
    /// # Errors
    /// What `look` returns.
    pub fn read<R>(
        &self,
        look: impl FnOnce(any_pointer::Reader<'_>) -> capnp::Result<R>,
    ) -> Result<R> {
        let segments = [Word::words_to_bytes(&self.words)];
        let reader = Reader::new(SegmentArray::new(&segments), ReaderOptions::new());
        Ok(look(reader.get_root()?)?)
    }

    /// A copy of a value in a message.
    ///
    /// # Errors
    /// The value is too large or too deep, or cannot be copied, as a capability cannot.
    pub(super) fn of(value: any_pointer::Reader<'_>) -> Result<Self> {
        let words = usize::try_from(value.target_size()?.word_count).unwrap_or(usize::MAX);
        if words > MAX_WORDS {
            return Err(too_large(words));
        }
        let room = u32::try_from(words + 1).unwrap_or(u32::MAX);
        let mut message = Builder::new(HeapAllocator::new().first_segment_words(room));
        message.set_root::<any_pointer::Owned>(value)?;
        let segments = message.get_segments_for_output();
        let [segment] = &*segments else {
            return Err(Error::failed("a token is not in one piece"));
        };
        let mut words = vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); segment.len() / 8];
        Word::words_to_bytes_mut(&mut words).copy_from_slice(segment);
        let token = Token { words: words.into() };
        token.check()?;
        Ok(token)
    }

    /// Whether the token can be copied again, in any message, by reading twice as many words as
    /// it has, as whoever is sent it may allow. A list of very many elements without size takes
    /// more than that.
    fn check(&self) -> Result<()> {
        let segments = [Word::words_to_bytes(&self.words)];
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(2 * self.words.len())).nesting_limit(MAX_DEPTH);
        let reader = Reader::new(SegmentArray::new(&segments), options);
        let value: any_pointer::Reader<'_> = reader.get_root()?;
        value.target_size()?;
        Builder::new_default().set_root::<any_pointer::Owned>(value)?;
        Ok(())
    }

    /// Size of the token in a message, in bytes.
    pub(crate) fn size(&self) -> usize {
        8 * self.words.len()
    }

    /// Writes the token into a message.
    pub(super) fn write(&self, mut out: any_pointer::Builder<'_>) {
        // It was copied from a message before, so it can be copied.
        let written = self.read(|value| out.set_as::<any_pointer::Owned>(value));
        debug_assert!(written.is_ok());
    }
}

fn too_large(words: usize) -> Error {
    Error::failed(format!("a token of {words} words; at most {MAX_WORDS} are allowed"))
}

/// A token may be a secret, so only its size is shown.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.size())
    }
}
