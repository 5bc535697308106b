//! Calls that have not been sent yet.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use capnp::traits::{ImbueMut, Owned, SetterInput};

use super::content::Response;
use super::pipeline::{FromTypelessPipeline, Pipelined};
use super::promise::Promise;
use crate::cap::calling::{By, Call, Time};
use crate::cap::client::Client;
use crate::cap::hook::{self, CapTable};
use crate::cap::incoming_call::IncomingCall;
use crate::cap::interface::Interface;
use crate::cap::payload::PayloadBuilder;
use crate::cap::pending::Pending;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kinds::outbox::Outbox;
use crate::wire::Hint;

/// The invariant behind every look-up in content that is being built: the application
/// builds it through builders that keep it well-formed.
const WELL_FORMED: &str = "content that is being built is well-formed";

/// Content under construction, with the capabilities to which it refers.
pub(super) struct Draft {
    builder: PayloadBuilder,
    table: CapTable,
    written: bool,
}

impl Draft {
    pub(super) fn new(builder: PayloadBuilder) -> Self {
        Draft { builder, table: CapTable::new(), written: false }
    }

    /// A draft that continues what another thread began.
    pub(super) fn resumed(builder: PayloadBuilder, caps: &[Client]) -> Self {
        Draft { builder, table: hook::table_of(caps), written: true }
    }

    pub(super) fn get<T: Owned>(&mut self) -> T::Builder<'_> {
        self.written = true;
        let mut content = self.builder.content();
        content.imbue_mut(&mut self.table);
        content.get_as().unwrap_or_else(|error| unreachable!("{WELL_FORMED}: {error}"))
    }

    /// Replaces the content by a copy. `fresh` makes an empty message: the capnp crate
    /// cannot clear content that holds capabilities, so a draft that was written to is
    /// dropped as a whole.
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

    /// A frozen copy of the content so far. The draft can be continued.
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

/// Names the type where the compiler could infer another one.
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
    /// The interface in which the method's name is found.
    interface: Option<&'static Interface>,
    params: Draft,
    pipelining: Pipelining,
    method: PhantomData<fn(P) -> R>,
}

/// Whether calls may be pipelined on the results.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipelining {
    Possible,
    /// The results will hold no capability.
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

    /// As [`new`](Self::new), for an interface whose description is known.
    pub(crate) fn described(client: &Client, interface: &'static Interface, method: u16) -> Self {
        interface.make_known();
        Request { interface: Some(interface), ..Request::new(client, interface.id(), method) }
    }

    /// Leaves the call to an outbox, which makes it when it is its turn and drops the
    /// results. See [`Outbox::post`] for whether this waits.
    ///
    /// # Errors
    /// As [`Outbox::post`]; and the request is for another capability than the outbox.
    pub fn post(self, outbox: &Outbox) -> Result<()> {
        if &self.client != outbox.client() {
            return Err(Error::failed(
                "the request was made on another capability than the outbox; make it on the \
                 capability for which Outbox::new was called",
            ));
        }
        let (_, call) = self.into_call();
        outbox.post_call(call)
    }

    /// Gives up the pipeline of the call, which saves the callee work. Calls that are
    /// pipelined on the call fail. See [`Client::call_without_pipeline`], also about
    /// peers that do not support this.
    #[must_use = "a request does nothing until it is sent"]
    pub fn without_pipeline(mut self) -> Self {
        self.pipelining = Pipelining::Pointless;
        self
    }

    fn start(self, time: Time) -> Pending {
        let (client, call) = self.into_call();
        client.start(call, time)
    }

    fn into_call(self) -> (Client, Call) {
        let Request { client, interface_id, method_id, params, pipelining, .. } = self;
        let hint = match pipelining {
            Pipelining::Possible => Hint::None,
            Pipelining::Pointless => Hint::NoPipelining,
        };
        (client, Call { interface_id, method_id, params: params.finish(), hint })
    }

    /// Sends the call. Its outcome answers `call`.
    pub(super) fn send_as_tail_of(self, call: IncomingCall) {
        let params = self.params.finish();
        call.tail_call(&self.client, self.interface_id, self.method_id, params);
    }

    /// Sends the call and returns at once, except in one case: if the connection has as
    /// many calls under way as it may have, this waits for room.
    ///
    /// The promise reports everything that goes wrong from here on, including a lost
    /// connection. Calls through one client arrive in the order in which they were
    /// sent.
    pub fn send(self) -> Promise<R> {
        Promise::new(self.start(Time::Default))
    }

    /// Sends the call as [`send`](Self::send) does, with a time limit for the wait for
    /// room, the sending and the wait for the answer. The limit holds even if nobody waits
    /// for the call. When the time is over the call fails with an error that [is a
    /// timeout](crate::Error::is_timeout), and so do calls that are pipelined on it from
    /// then on; the callee is told that the call is cancelled.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use capnp_threads_core::{Result, Vat};
    /// # use rpc_schema::echo_capnp::echo;
    /// # struct Echo;
    /// # impl echo::Server for Echo {
    /// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
    /// # }
    /// # fn main() -> Result<()> {
    /// # let echo: echo::Client = Vat::new().export(Echo);
    /// echo.ping_request().send_timeout(Duration::from_secs(5)).on_resolve(|outcome| {
    ///     if let Err(error) = outcome {
    ///         println!("no ping in five seconds: {error}");
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_timeout(self, timeout: Duration) -> Promise<R> {
        Promise::new(self.start(Time::Until(Deadline::after(timeout))))
    }

    /// As [`send_timeout`](Self::send_timeout), until a point in time.
    pub fn send_deadline(self, deadline: Instant) -> Promise<R> {
        Promise::new(self.start(Time::Until(Deadline::at(deadline))))
    }

    /// Sends the call if it can be sent at once, and never waits. Otherwise nothing is
    /// lost: the request comes back, with its parameters.
    ///
    /// # Errors
    /// The request, because as many calls are under way, or as many bytes are queued, as
    /// [`Limits`](crate::Limits) allow.
    ///
    /// ```
    /// # use capnp_threads_core::{Result, Vat};
    /// # use rpc_schema::echo_capnp::echo;
    /// /// Pings, unless there is a crowd.
    /// fn ping(echo: &echo::Client) -> Result<bool> {
    ///     match echo.ping_request().try_send() {
    ///         Ok(promise) => promise.wait().map(|_| true),
    ///         Err(_request) => Ok(false),
    ///     }
    /// }
    /// # struct Echo;
    /// # impl echo::Server for Echo {
    /// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
    /// # }
    /// # fn main() -> Result<()> {
    /// #     assert!(ping(&Vat::new().export(Echo))?);
    /// #     Ok(())
    /// # }
    /// ```
    #[expect(clippy::result_large_err, reason = "it is the request, which is no error")]
    pub fn try_send(self) -> Result<Promise<R>, Self> {
        match self.client.try_place() {
            Some(place) => Ok(Promise::new(place.send(self.into_call().1, By::Timer))),
            None => Err(self),
        }
    }
}

impl<P, R: Pipelined> Request<P, R> {
    /// Sends a call of which only the capabilities in its results are wanted. The
    /// callee is told so. It sends neither the results nor an error: calls to the
    /// capabilities fail if the call fails.
    ///
    /// The call goes on until everything that was made of the pipeline is dropped.
    /// Until then it counts as a call under way. This may wait for room, as
    /// [`send`](Self::send) may.
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
    /// The parameters, to be filled in. A second call continues where the last builder
    /// left off.
    pub fn get(&mut self) -> P::Builder<'_> {
        self.params.get::<P>()
    }

    /// Replaces the parameters by a copy of `from`.
    ///
    /// # Errors
    /// What is copied is malformed.
    pub fn set(&mut self, from: P::Reader<'_>) -> Result<()> {
        self.params.set::<P>(from, PayloadBuilder::for_params)
    }
}

impl<P, R: Owned> Request<P, R> {
    /// Sends the call and blocks until it has returned. If the object is in this process
    /// and idle, this thread runs the method itself, as one of the workers of the object's
    /// vat.
    ///
    /// # Errors
    /// Whatever the call fails with.
    pub fn call(self) -> Result<Response<R>> {
        self.finish(Time::Default)
    }

    /// Sends the call and blocks until it has returned, but in all no longer than
    /// `timeout`: the time covers the wait for room, the sending and the wait for the
    /// answer. When it is over the call is cancelled, and the callee is told.
    ///
    /// # Errors
    /// Whatever the call fails with. If the time was over, the error [is a
    /// timeout](crate::Error::is_timeout); [`Error::timeout`](crate::Error::timeout)
    /// tells whether the call was sent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use capnp_threads_core::{Result, Vat};
    /// # use rpc_schema::echo_capnp::echo;
    /// # struct Echo;
    /// # impl echo::Server for Echo {
    /// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
    /// # }
    /// # fn main() -> Result<()> {
    /// # let echo: echo::Client = Vat::new().export(Echo);
    /// echo.ping_request().call_timeout(Duration::from_secs(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_timeout(self, timeout: Duration) -> Result<Response<R>> {
        self.finish(Time::Until(Deadline::after(timeout)))
    }

    /// As [`call_timeout`](Self::call_timeout), until a point in time: for several calls
    /// that share one deadline.
    ///
    /// # Errors
    /// As [`call_timeout`](Self::call_timeout).
    pub fn call_deadline(self, deadline: Instant) -> Result<Response<R>> {
        self.finish(Time::Until(Deadline::at(deadline)))
    }

    fn finish(self, time: Time) -> Result<Response<R>> {
        let (client, call) = self.into_call();
        Ok(Response::of(client.finish(call, time)?))
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

/// A call of a method that is declared `-> stream`, before it is sent.
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

    /// Sends the call, and returns when the stream's window has room for another one:
    /// usually at once, without waiting for the call to return. See
    /// [`ConnConfig::flow_control`](crate::ConnConfig::flow_control).
    ///
    /// # Errors
    /// The error of an earlier call of the stream. To learn whether the last calls
    /// arrived, make a call that is not streaming, or [finish](Client::finish_stream)
    /// the stream.
    pub fn send(self) -> Result<()> {
        self.stream(Time::Default)
    }

    /// Sends the call as [`send`](Self::send) does, with a time limit for the wait for
    /// room, the sending and the wait for the answer. If the call was sent and is not
    /// answered in time, the stream fails with an error that [is a
    /// timeout](crate::Error::is_timeout), here or at a later call.
    ///
    /// # Errors
    /// As [`send`](Self::send). If there was no room in time, the error's
    /// [`timeout`](crate::Error::timeout) says that the call was never sent, and the stream
    /// goes on without it.
    pub fn send_timeout(self, timeout: Duration) -> Result<()> {
        self.stream(Time::Until(Deadline::after(timeout)))
    }

    /// As [`send_timeout`](Self::send_timeout), until a point in time.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(self, deadline: Instant) -> Result<()> {
        self.stream(Time::Until(Deadline::at(deadline)))
    }

    fn stream(self, time: Time) -> Result<()> {
        let (client, call) = self.0.into_call();
        client.stream_within(call, time)
    }

    /// Sends the call if the stream's window and the calls under way leave room for it, and
    /// never waits. Otherwise nothing is lost: the request comes back, with its parameters.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// ```
    /// # use capnp_threads_core::Result;
    /// # use capnp_threads_core::typed::StreamingRequest;
    /// /// Sends a frame, or drops it if the network does not keep up.
    /// fn send_or_drop<P>(frame: StreamingRequest<P>) -> Result<()> {
    ///     let _too_late = frame.try_send()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn try_send(self) -> Result<Option<Self>> {
        match self.0.client.try_stream() {
            Some(place) => {
                let (client, call) = self.0.into_call();
                client.stream_from(place, call).map(|()| None)
            }
            None => Ok(Some(self)),
        }
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
