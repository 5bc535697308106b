//! Calls that have not been sent yet.

use std::fmt;
use std::marker::PhantomData;

use capnp::traits::{ImbueMut, Owned, SetterInput};

use super::content::Response;
use super::interface::Interface;
use super::pipeline::{FromTypelessPipeline, Pipelined};
use super::promise::Promise;
use crate::cap::client::Client;
use crate::cap::hook::{self, CapTable};
use crate::cap::incoming_call::IncomingCall;
use crate::cap::payload::PayloadBuilder;
use crate::cap::pending::Pending;
use crate::error::Result;

/// The invariant behind every look-up of content that is being built: it was
/// built by this library's caller through builders that keep it well-formed.
const WELL_FORMED: &str = "content that is being built is well-formed";

/// Content under construction, with the capabilities that it refers to.
pub(super) struct Draft {
    builder: PayloadBuilder,
    table: CapTable,
    written: bool,
}

impl Draft {
    pub(super) fn new(builder: PayloadBuilder) -> Self {
        Draft { builder, table: CapTable::new(), written: false }
    }

    /// A draft that continues with what another thread left.
    pub(super) fn resumed(builder: PayloadBuilder, caps: &[Client]) -> Self {
        Draft { builder, table: hook::table_of(caps), written: true }
    }

    pub(super) fn get<T: Owned>(&mut self) -> T::Builder<'_> {
        self.written = true;
        let mut content = self.builder.content();
        content.imbue_mut(&mut self.table);
        content.get_as().unwrap_or_else(|error| unreachable!("{WELL_FORMED}: {error}"))
    }

    /// Replaces the content by a copy. `fresh` makes an empty message: capnp
    /// cannot clear content that holds capabilities, so written drafts are
    /// dropped whole.
    pub(super) fn set<T: Owned>(
        &mut self,
        from: T::Reader<'_>,
        fresh: fn() -> PayloadBuilder,
    ) -> Result<()> {
        if self.written {
            *self = Draft::new(fresh());
        }
        self.written = true;
        let mut content = self.builder.content();
        content.imbue_mut(&mut self.table);
        Ok(set_as::<T>(&mut content, from)?)
    }

    /// A frozen copy of what is there; the draft goes on.
    pub(super) fn snapshot(&mut self) -> Result<crate::cap::payload::Payload> {
        let mut copy = PayloadBuilder::for_results();
        let mut table = CapTable::new();
        let mut content = self.builder.content();
        content.imbue_mut(&mut self.table);
        let mut target = copy.content();
        target.imbue_mut(&mut table);
        target.set_as(content.into_reader())?;
        Ok(copy.finish(hook::clients_of(table)))
    }

    pub(super) fn finish(self) -> crate::cap::payload::Payload {
        self.builder.finish(hook::clients_of(self.table))
    }

    pub(super) fn into_parts(self) -> (PayloadBuilder, Vec<Client>) {
        (self.builder, hook::clients_of(self.table))
    }
}

/// Keeps the type that is meant apart from the one that could be inferred.
fn set_as<T: Owned>(
    content: &mut capnp::any_pointer::Builder<'_>,
    from: impl SetterInput<T>,
) -> capnp::Result<()> {
    content.set_as::<T>(from)
}

/// A call that has not been sent: its parameters are being filled in.
///
/// `P` and `R` are the method's parameter and result structs. Dropping a request
/// makes no call.
#[must_use = "a request does nothing until it is sent"]
pub struct Request<P, R> {
    client: Client,
    interface_id: u64,
    method_id: u16,
    /// Where the method's name is found.
    interface: Option<&'static Interface>,
    params: Draft,
    pipelining: Pipelining,
    method: PhantomData<fn(P) -> R>,
}

/// Whether the results may be called before they are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipelining {
    Possible,
    /// There will be nothing in them to call.
    Pointless,
}

impl<P, R> Request<P, R> {
    /// A call of the method with this number in the interface with this id.
    /// Generated clients have a method for every method of their interface,
    /// which is easier.
    pub fn new(client: &Client, interface_id: u64, method_id: u16) -> Self {
        Request {
            client: client.clone(),
            interface_id,
            method_id,
            interface: None,
            params: Draft::new(PayloadBuilder::for_params()),
            pipelining: Pipelining::Possible,
            method: PhantomData,
        }
    }

    /// As [`new`](Self::new), of an interface of which more is known.
    pub(crate) fn described(client: &Client, interface: &'static Interface, method: u16) -> Self {
        Request { interface: Some(interface), ..Request::new(client, interface.id(), method) }
    }

    /// Gives up the pipeline of the call, which makes it easier for the callee: calls
    /// that are pipelined on it fail. See [`Client::call_without_pipeline`], also for
    /// peers that are not up to this.
    #[must_use = "a request does nothing until it is sent"]
    pub fn without_pipeline(mut self) -> Self {
        self.pipelining = Pipelining::Pointless;
        self
    }

    fn start(self) -> Pending {
        let params = self.params.finish();
        match self.pipelining {
            Pipelining::Possible => self.client.call(self.interface_id, self.method_id, params),
            Pipelining::Pointless => {
                self.client.call_without_pipeline(self.interface_id, self.method_id, params)
            }
        }
    }

    /// Sends the call so that its outcome answers `call`.
    pub(super) fn send_as_tail_of(self, call: IncomingCall) {
        let params = self.params.finish();
        call.tail_call(&self.client, self.interface_id, self.method_id, params);
    }

    /// Sends the call and returns at once, but for one case: where a connection
    /// has as many calls under way as it may, this waits for room.
    ///
    /// Whatever goes wrong from here on, a lost connection included, is found in
    /// the promise. Calls through one client arrive in the order in which they
    /// were sent.
    pub fn send(self) -> Promise<R> {
        Promise::new(self.start())
    }
}

impl<P, R: Pipelined> Request<P, R> {
    /// Sends the call for nothing but the capabilities that its results are going to
    /// hold. The callee is told so, and never sends the results, nor whether it
    /// failed: calls to the capabilities tell.
    ///
    /// The call goes on until everything that was made of the pipeline is dropped.
    /// Until then it is one of the calls under way, for which this may have to wait
    /// as [`send`](Self::send) does.
    pub fn send_pipeline_only(self) -> R::Pipeline {
        let Request { client, interface_id, method_id, params, .. } = self;
        FromTypelessPipeline::new(client.call_pipeline_only(
            interface_id,
            method_id,
            params.finish(),
        ))
    }
}

impl<P: Owned, R> Request<P, R> {
    /// The parameters, to fill them in. Asking again continues where the last
    /// builder left off.
    pub fn get(&mut self) -> P::Builder<'_> {
        self.params.get::<P>()
    }

    /// Replaces the parameters by a copy.
    ///
    /// # Errors
    /// What is copied is malformed.
    pub fn set(&mut self, from: P::Reader<'_>) -> Result<()> {
        self.params.set::<P>(from, PayloadBuilder::for_params)
    }
}

impl<P, R: Owned> Request<P, R> {
    /// Sends the call and blocks until it returned.
    ///
    /// # Errors
    /// Whatever the call fails with.
    pub fn call(self) -> Result<Response<R>> {
        self.send().wait()
    }
}

impl<P, R> fmt::Debug for Request<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("Request");
        output.field("client", &self.client);
        if let Some(interface) = self.interface {
            let method = interface.method(self.interface_id, self.method_id);
            output.field("method", &format_args!("{method}"));
        } else {
            output.field("interface_id", &format_args!("{:#x}", self.interface_id));
            output.field("method_id", &self.method_id);
        }
        output.finish_non_exhaustive()
    }
}

/// A call of a method that is declared `-> stream`, not sent yet.
#[must_use = "a request does nothing until it is sent"]
pub struct StreamingRequest<P>(Request<P, capnp::any_pointer::Owned>);

impl<P> StreamingRequest<P> {
    /// See [`Request::new`].
    pub fn new(client: &Client, interface_id: u64, method_id: u16) -> Self {
        StreamingRequest(Request::new(client, interface_id, method_id))
    }

    pub(crate) fn described(client: &Client, interface: &'static Interface, method: u16) -> Self {
        StreamingRequest(Request::described(client, interface, method))
    }

    /// Sends the call, and returns when the stream's window has room for another
    /// one: usually at once, and not when the call has returned. See
    /// [`ConnConfig::flow_control`](crate::ConnConfig::flow_control).
    ///
    /// # Errors
    /// What an earlier call of the stream failed with. To learn whether the last
    /// ones arrived make a call that is not streaming, or
    /// [finish](Client::finish_stream) the stream.
    pub fn send(self) -> Result<()> {
        let Request { client, interface_id, method_id, params, .. } = self.0;
        client.call_streaming(interface_id, method_id, params.finish())
    }
}

impl<P: Owned> StreamingRequest<P> {
    /// See [`Request::get`].
    pub fn get(&mut self) -> P::Builder<'_> {
        self.0.get()
    }

    /// See [`Request::set`].
    ///
    /// # Errors
    /// What is copied is malformed.
    pub fn set(&mut self, from: P::Reader<'_>) -> Result<()> {
        self.0.set(from)
    }
}

impl<P> fmt::Debug for StreamingRequest<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamingRequest").field(&self.0).finish()
    }
}
