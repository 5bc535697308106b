//! Typed content: what a call carries and what it returns.

use std::cell::OnceCell;
use std::fmt;
use std::marker::PhantomData;

use capnp::message::Reader;
use capnp::traits::{Imbue, Owned};

use crate::cap::hook::{self, CapTable};
use crate::cap::payload::Payload;
use crate::error::Result;

/// What a call returned.
pub type Response<R> = Content<R>;

/// Content that can be read on this thread. [`detach`](Self::detach) makes it readable
/// on another one:
///
/// ```
/// # use capnp_threads_core::{Result, Vat};
/// # use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {
/// #     fn echo(&self, _: echo::EchoParams, _: echo::EchoResults) -> Result<()> { Ok(()) }
/// # }
/// # fn main() -> Result<()> {
/// # let echo: echo::Client = Vat::new().export(Echo);
/// let response = echo.echo_request().call()?.detach();
/// std::thread::spawn(move || {
///     let response = response.attach();
///     assert!(response.get().is_ok_and(|results| !results.has_data()));
/// });
/// # Ok(())
/// # }
/// ```
///
/// Without `detach` the compiler refuses:
///
/// ```compile_fail,E0277
/// # use capnp_threads_core::{Result, Vat};
/// # use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {}
/// # fn main() -> Result<()> {
/// # let echo: echo::Client = Vat::new().export(Echo);
/// let response = echo.echo_request().call()?;
/// std::thread::spawn(move || drop(response));
/// # Ok(())
/// # }
/// ```
pub struct Content<T> {
    /// The first field, so that the compiler's error names it when content is moved to
    /// another thread.
    _thread: CallDetachToMoveThisToAnotherThread,
    reader: Reader<Payload>,
    /// Made at the first reading, because many responses are dropped unread.
    table: OnceCell<CapTable>,
    content: PhantomData<fn() -> T>,
}

/// A type that stays on its thread, because the capnp crate's readers do. Its name is the
/// advice in the compiler's error.
struct CallDetachToMoveThisToAnotherThread(PhantomData<*const ()>);

impl<T> Content<T> {
    pub(crate) fn of(payload: Payload) -> Self {
        Content {
            _thread: CallDetachToMoveThisToAnotherThread(PhantomData),
            reader: payload.into_reader(),
            table: OnceCell::new(),
            content: PhantomData,
        }
    }

    fn payload(&self) -> &Payload {
        self.reader.get_segments()
    }

    /// Releases the capabilities in this content; reading one is an error from now on.
    pub(crate) fn release_capabilities(&mut self) {
        self.reader = self.payload().with_caps(Vec::new()).into_reader();
        self.table = OnceCell::new();
    }

    /// The content as a value that another thread can read.
    pub fn detach(self) -> Detached<T> {
        Detached { payload: self.reader.into_segments(), content: PhantomData }
    }
}

impl<T: Owned> Content<T> {
    /// The content. Reading copies nothing.
    ///
    /// The total amount that can be read is limited to a multiple of the message's
    /// size, because a peer can make a small message look huge. So keep the reader
    /// instead of asking for it again in a loop.
    ///
    /// # Errors
    /// The message is malformed.
    pub fn get(&self) -> Result<T::Reader<'_>> {
        let mut content = Payload::content(&self.reader)?;
        content.imbue(self.table.get_or_init(|| hook::table_of(self.payload().caps())));
        Ok(content.get_as()?)
    }
}

impl<T> fmt::Debug for Content<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("payload", self.payload()).finish()
    }
}

/// Content that any thread may hold and, after [`attach`](Self::attach), read.
/// Cloning is cheap and shares the message.
///
/// ```
/// # use capnp_threads_core::{Detached, Result, Vat};
/// # use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {
/// #     fn echo(&self, _: echo::EchoParams, _: echo::EchoResults) -> Result<()> { Ok(()) }
/// # }
/// # fn main() -> Result<()> {
/// # let echo: echo::Client = Vat::new().export(Echo);
/// let kept: Detached<echo::echo_results::Owned> = echo.echo_request().call()?.detach();
/// let copy = kept.clone();
/// let reading = std::thread::spawn(move || copy.attach().get().is_ok_and(|results| !results.has_data()));
/// assert!(reading.join().unwrap());
/// assert!(!kept.attach().get()?.has_data());
/// # Ok(())
/// # }
/// ```
pub struct Detached<T> {
    payload: Payload,
    content: PhantomData<fn() -> T>,
}

impl<T> Detached<T> {
    /// Makes the content readable on this thread.
    pub fn attach(self) -> Content<T> {
        Content::of(self.payload)
    }

    /// The content without its type.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// Gives content a type, which the caller has to know. If the content is of another
    /// type, reading gives default values or errors, as the wire format defines.
    pub fn from_payload(payload: Payload) -> Self {
        Detached { payload, content: PhantomData }
    }
}

impl<T> Clone for Detached<T> {
    fn clone(&self) -> Self {
        Detached { payload: self.payload.clone(), content: PhantomData }
    }
}

impl<T> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("payload", &self.payload).finish()
    }
}
