//! The content of one call, or of its results: a message and the capabilities
//! that it refers to.
//!
//! Content is built in place, inside the `Call` or `Return` message that will carry it,
//! so that sending it copies nothing: what is still missing around it (ids, target,
//! descriptors) is filled in when it leaves. Content for this process simply never
//! leaves.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use capnp::any_pointer;
use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions, ReaderSegments};
use capnp::traits::{Imbue, ImbueMut};

use crate::cap::client::Client;
use crate::cap::indices::{self, CapTable};
use crate::error::{Error, Result};
use crate::wire::message::Message;
use crate::wire::{self, rpc_capnp};

/// Size of the first segment of a message that is built, in words: room for a small
/// call with its frame, in one allocation.
const FIRST_SEGMENT_WORDS: u32 = 32;

/// The invariant behind every look-up in a [`PayloadBuilder`]: the structs were made
/// when the builder was, and nothing removes them.
const IN_PLACE: &str = "a payload builder keeps the frame it was made with";

/// The outcome of a call: its results or its error.
pub(crate) type Outcome = Result<Payload>;

/// The capability at the end of `path` in an outcome.
pub(crate) fn cap_of(outcome: &Outcome, path: &[u16]) -> Client {
    match outcome {
        Ok(payload) => payload.cap_at(path).unwrap_or_else(Client::broken),
        Err(error) => Client::broken(error.clone()),
    }
}

/// The message in which content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// `Message.call.params.content`
    Call,
    /// `Message.return.results.content`
    Return,
    /// `Message.bootstrap.deprecatedObjectId`
    Bootstrap,
}

impl Carrier {
    /// The message if nothing is in it.
    fn empty_segment(self) -> &'static [u8] {
        match self {
            Carrier::Call => wire::OF_CALL.segment(),
            Carrier::Return => wire::OF_RETURN.segment(),
            Carrier::Bootstrap => wire::OF_BOOTSTRAP.segment(),
        }
    }
}

/// Frozen content, which can be shared. Cloning is cheap.
///
/// It implements [`ReaderSegments`], so that a thread that needs a capnp reader can
/// open one on it: see [`open`](Self::open) and [`content`](Self::content).
#[derive(Clone)]
pub struct Payload {
    /// `None` if nothing is in it.
    message: Option<Arc<Message>>,
    carrier: Carrier,
    caps: Caps,
}

/// Capabilities by index. Content without capabilities, which is most content,
/// allocates nothing for them.
#[derive(Clone, Default)]
pub(crate) struct Caps(Option<Arc<[Client]>>);

impl From<Vec<Client>> for Caps {
    fn from(caps: Vec<Client>) -> Self {
        Caps((!caps.is_empty()).then(|| caps.into()))
    }
}

impl Deref for Caps {
    type Target = [Client];

    fn deref(&self) -> &[Client] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Payload {
    /// Content in a message that was received.
    pub(crate) fn received(
        message: Option<Arc<Message>>,
        carrier: Carrier,
        caps: Vec<Client>,
    ) -> Self {
        Payload { message, carrier, caps: caps.into() }
    }

    /// Results that consist of one capability, such as the answer to a bootstrap
    /// request.
    pub(crate) fn of_capability(client: Client) -> Self {
        let mut builder = PayloadBuilder::for_results();
        let mut table = CapTable::new();
        let mut content = builder.content();
        content.imbue_mut(&mut table);
        content.set_as_capability(indices::index_hook(0));
        builder.finish(if client.is_null() { Vec::new() } else { vec![client] })
    }

    /// Results that consist of bytes.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut builder = PayloadBuilder::for_results();
        // Bytes can be written wherever there is memory.
        let written = builder.content().set_as::<capnp::data::Owned>(bytes);
        debug_assert!(written.is_ok());
        builder.finish(Vec::new())
    }

    /// The capabilities that the content refers to by index; a null client
    /// stands where there is none.
    pub fn caps(&self) -> &[Client] {
        &self.caps
    }

    /// The same content with other capabilities behind the same indices.
    #[must_use]
    pub(crate) fn with_caps(&self, caps: Vec<Client>) -> Self {
        Payload { message: self.message.clone(), carrier: self.carrier, caps: caps.into() }
    }

    /// A reader of this content. Keep it while anything read from it is in use. Each
    /// reader may traverse eight times the message's size, and at least 8 Mi words.
    pub fn open(&self) -> Reader<Payload> {
        self.clone().into_reader()
    }

    /// As [`open`](Self::open), for content that nobody else needs.
    pub(crate) fn into_reader(self) -> Reader<Payload> {
        // The size was limited when the message was read. What remains to be limited is
        // amplification: pointers that lead to the same words many times.
        self.into_reader_within(8 << 20)
    }

    /// As [`open`](Self::open), for content that is copied: a small message must not
    /// turn into a large one.
    fn open_within(&self, least: usize) -> Reader<Payload> {
        self.clone().into_reader_within(least)
    }

    fn into_reader_within(self, least: usize) -> Reader<Payload> {
        let mut options = ReaderOptions::new();
        let words = self.size_in_words().saturating_mul(8).max(least);
        options.traversal_limit_in_words(Some(words));
        Reader::new(self, options)
    }

    /// The root of the content in a reader that [`open`](Self::open) made. Capabilities
    /// cannot be read until it is imbued with a table, see
    /// [`table_of`](crate::hook::table_of).
    ///
    /// # Errors
    /// The message is malformed.
    pub fn content(reader: &Reader<Payload>) -> Result<any_pointer::Reader<'_>> {
        let carrier = reader.get_segments().carrier;
        let root = reader.get_root::<rpc_capnp::message::Reader<'_>>()?;
        match (carrier, root.which()?) {
            (Carrier::Call, rpc_capnp::message::Call(call)) => {
                Ok(call?.get_params()?.get_content())
            }
            (Carrier::Return, rpc_capnp::message::Return(ret)) => match ret?.which()? {
                rpc_capnp::return_::Results(results) => Ok(results?.get_content()),
                _ => Err(Error::failed("a Return message without results was kept as results")),
            },
            (Carrier::Bootstrap, rpc_capnp::message::Bootstrap(bootstrap)) => {
                Ok(bootstrap?.get_deprecated_object_id())
            }
            _ => Err(Error::failed("a message of another kind was kept as content")),
        }
    }

    /// The size of the message that the content lies in, in words.
    pub fn size_in_words(&self) -> usize {
        match &self.message {
            Some(message) => message.size_in_words(),
            None => self.carrier.empty_segment().len() / 8,
        }
    }

    /// Follows pointer fields from the content's root to a capability.
    ///
    /// A null pointer on the way gives the null client.
    ///
    /// # Errors
    /// A pointer on the path does not lead to a struct, or the last one does not lead
    /// to a capability.
    pub(crate) fn cap_at(&self, path: &[u16]) -> Result<Client> {
        Ok(match self.cap_index_at(path)? {
            Some(index) => self.caps().get(index).cloned().unwrap_or_else(Client::null),
            None => Client::null(),
        })
    }

    /// As [`cap_at`](Self::cap_at), but returns the capability's index; `None` for a
    /// null pointer.
    pub(crate) fn cap_index_at(&self, path: &[u16]) -> Result<Option<usize>> {
        let Some(message) = &self.message else { return Ok(None) };
        let is_call = self.carrier == Carrier::Call;
        if let Some(index) = wire::plain::cap_index(message, is_call, path, self.caps.len()) {
            return Ok(index);
        }
        self.cap_index_by_accessors(path)
    }

    /// As [`cap_index_at`](Self::cap_index_at), whatever the message is.
    pub(crate) fn cap_index_by_accessors(&self, path: &[u16]) -> Result<Option<usize>> {
        let reader = self.open();
        let mut content = Payload::content(&reader)?;
        let table = indices::index_table(self.caps().len());
        content.imbue(&table);
        let mut pointer = content.get_as::<indices::Pointer<'_>>()?.0;
        for field in path {
            pointer = pointer.get_struct(None)?.get_pointer_field(usize::from(*field));
        }
        if pointer.is_null() {
            return Ok(None);
        }
        Ok(Some(indices::index_of(&*pointer.get_capability()?)))
    }

    /// Content that refers to nothing and contains nothing.
    pub fn empty() -> &'static Payload {
        static EMPTY: Payload =
            Payload { message: None, carrier: Carrier::Return, caps: Caps(None) };
        &EMPTY
    }

    /// The same content in a message that can be completed: this message if it was built here
    /// for the same carrier and is short or not shared, a copy otherwise.
    ///
    /// # Errors
    /// The content is malformed and cannot be copied.
    pub(crate) fn prepared(self, carrier: Carrier) -> Result<Payload> {
        let mut payload = self;
        let Some(message) = &mut payload.message else {
            return Ok(Payload { carrier, ..payload });
        };
        if payload.carrier == carrier
            && (wire::can_copy(message)
                || Arc::get_mut(message).is_some_and(|message| message.is_built()))
        {
            return Ok(payload);
        }
        payload.copied(carrier).map(|copy| copy.0)
    }

    /// The same content in a message for `carrier` that is this side's own as far as it has to
    /// be, for content that leaves and stays; and for each of the capabilities its index in
    /// this content.
    ///
    /// # Errors
    /// The content is malformed.
    pub(crate) fn leaving(&self, carrier: Carrier) -> Result<(Payload, Vec<usize>)> {
        if self.carrier == carrier && self.message.as_deref().is_none_or(wire::can_copy) {
            return Ok((self.clone(), (0..self.caps.len()).collect()));
        }
        self.copied(carrier)
    }

    /// A copy in a fresh message for `carrier`, and for each of the copy's capabilities
    /// its index in this content.
    ///
    /// # Errors
    /// The content is malformed.
    pub(crate) fn copied(&self, carrier: Carrier) -> Result<(Payload, Vec<usize>)> {
        let reader = self.open_within(8 << 10);
        let mut content = Payload::content(&reader)?;
        let source = indices::index_table(self.caps().len());
        content.imbue(&source);

        let mut copy = PayloadBuilder::with_capacity(carrier, self.size_in_words());
        let mut table = CapTable::new();
        let mut target = copy.content();
        target.imbue_mut(&mut table);
        target.set_as(content)?;
        let origin: Vec<usize> = table
            .iter()
            .map(|hook| hook.as_ref().map_or(usize::MAX, |hook| indices::index_of(&**hook)))
            .collect();
        let caps = origin
            .iter()
            .map(|index| self.caps().get(*index).cloned().unwrap_or_else(Client::null))
            .collect();
        Ok((copy.finish_for(caps, self), origin))
    }

    /// Parameters of two pointers: a capability, and the content of this payload.
    ///
    /// # Errors
    /// The content is malformed.
    pub(crate) fn behind(&self, cap: Client) -> Result<Payload> {
        let reader = self.open_within(8 << 10);
        let mut content = Payload::content(&reader)?;
        let own = self.caps().len();
        let source = indices::index_table(own);
        content.imbue(&source);

        let mut copy = PayloadBuilder::with_capacity(Carrier::Call, self.size_in_words() + 4);
        let mut table = CapTable::new();
        let mut target = copy.content();
        target.imbue_mut(&mut table);
        let mut pair = target.init_as::<indices::TwoPointers<'_>>();
        pair.first().set_as_capability(indices::index_hook(own));
        pair.second().set_as(content)?;
        let caps = table
            .iter()
            .map(|hook| match hook.as_ref().map(|hook| indices::index_of(&**hook)) {
                Some(index) if index == own => cap.clone(),
                Some(index) => self.caps().get(index).cloned().unwrap_or_default(),
                None => Client::null(),
            })
            .collect();
        Ok(copy.finish_for(caps, self))
    }

    /// The message that the content lies in, and the capabilities that it refers to.
    pub(crate) fn into_parts(self) -> (Option<Arc<Message>>, Caps) {
        (self.message, self.caps)
    }
}

impl ReaderSegments for Payload {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        match &self.message {
            Some(message) => message.get_segment(index),
            None => (index == 0).then(|| self.carrier.empty_segment()),
        }
    }

    fn len(&self) -> usize {
        self.message.as_deref().map_or(1, ReaderSegments::len)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("message", &self.message)
            .field("caps", &self.caps())
            .finish_non_exhaustive()
    }
}

/// Content that is being built.
///
/// ```
/// use capnp_threads_core::Client;
/// use capnp_threads_core::capnp::text;
/// use capnp_threads_core::untyped::PayloadBuilder;
///
/// /// Calls a method of which nothing but its numbers is known, with a text.
/// fn call(object: &Client) -> capnp_threads_core::Result<()> {
///     let mut params = PayloadBuilder::for_params();
///     params.content().set_as::<text::Owned>("some text")?;
///     object.call(0xc879_3007_1e95_c8b3, 0, params.finish(Vec::new())).wait()?;
///     Ok(())
/// }
/// # assert!(call(&Client::null()).is_err());
/// ```
pub struct PayloadBuilder {
    /// Made when something is put into it.
    builder: Option<Builder<HeapAllocator>>,
    carrier: Carrier,
    /// The size of the content, as far as it is known, in words.
    words: usize,
}

impl PayloadBuilder {
    /// An empty parameter list.
    pub fn for_params() -> Self {
        Self::with_capacity(Carrier::Call, 0)
    }

    /// An empty object id, which names no object.
    pub(crate) fn for_object_id() -> Self {
        Self::with_capacity(Carrier::Bootstrap, 0)
    }

    /// Empty results.
    pub fn for_results() -> Self {
        Self::with_capacity(Carrier::Return, 0)
    }

    fn with_capacity(carrier: Carrier, words: usize) -> Self {
        PayloadBuilder { builder: None, carrier, words }
    }

    /// The root of the content. To put capabilities in, imbue the root with a table,
    /// and pass what the table holds to [`finish`](Self::finish).
    pub fn content(&mut self) -> any_pointer::Builder<'_> {
        let carrier = self.carrier;
        let builder = self.builder.get_or_insert_with(|| opened(carrier, self.words));
        content_of(builder, carrier).unwrap_or_else(|error| unreachable!("{IN_PLACE}: {error}"))
    }

    /// The message so far; `None` if nothing was put into it.
    fn into_message(self) -> Option<Message> {
        self.builder.map(Message::from)
    }

    /// Freezes the content. `caps` are the capabilities by index; a null client
    /// stands where there is none.
    pub fn finish(self, caps: Vec<Client>) -> Payload {
        let carrier = self.carrier;
        Payload { message: self.into_message().map(Arc::new), carrier, caps: caps.into() }
    }

    /// As [`finish`](Self::finish), for a copy of other content. Whoever is charged for
    /// the original is charged for the copy, too.
    fn finish_for(self, caps: Vec<Client>, original: &Payload) -> Payload {
        let carrier = self.carrier;
        let mut message = self.into_message();
        let charge = original.message.as_deref().and_then(Message::charge);
        if let (Some(message), Some(charge)) = (&mut message, charge) {
            message.set_charge(charge.again());
        }
        Payload { message: message.map(Arc::new), carrier, caps: caps.into() }
    }
}

/// A message for content of this size, opened as `wire::flat` expects it.
fn opened(carrier: Carrier, words: usize) -> Builder<HeapAllocator> {
    let words = u32::try_from(words).unwrap_or(u32::MAX).saturating_add(FIRST_SEGMENT_WORDS);
    let mut builder = Builder::new(HeapAllocator::new().first_segment_words(words));
    let root = builder.init_root::<rpc_capnp::message::Builder<'_>>();
    match carrier {
        Carrier::Call => {
            root.init_call().init_params();
        }
        Carrier::Return => {
            root.init_return().init_results();
        }
        Carrier::Bootstrap => {
            root.init_bootstrap();
        }
    }
    builder
}

/// Where the content is in a message that was opened for it.
fn content_of(
    builder: &mut Builder<HeapAllocator>,
    carrier: Carrier,
) -> capnp::Result<any_pointer::Builder<'_>> {
    use rpc_capnp::{message, return_};
    let root = builder.get_root::<message::Builder<'_>>()?;
    Ok(match (carrier, root.which()?) {
        (Carrier::Call, message::Call(call)) => call?.get_params()?.get_content(),
        (Carrier::Return, message::Return(ret)) => match ret?.which()? {
            return_::Results(results) => results?.get_content(),
            _ => return Err(capnp::Error::failed(IN_PLACE.into())),
        },
        (Carrier::Bootstrap, message::Bootstrap(bootstrap)) => {
            bootstrap?.get_deprecated_object_id()
        }
        _ => return Err(capnp::Error::failed(IN_PLACE.into())),
    })
}
