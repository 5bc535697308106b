//! Calls that have reached an object of this process.

use std::fmt;
use std::sync::Arc;

use super::call::{CallCell, Ending};
use super::client::Client;
use super::connection::Connection;
use super::delivery::{CallRequest, Delivery, Tail, cancelled};
use super::interface::Method;
use super::object::LocalObject;
use super::payload::Payload;
use crate::error::{Error, Result};
use crate::transport::PeerDescription;
use crate::work::executor::{Executor, Job};
use crate::work::{hands, interrupt, progress};

/// A call that has reached an object of this process.
///
/// It may be answered from any thread, now or later. Dropping it unanswered
/// answers it with an error.
pub struct IncomingCall {
    interface: u64,
    method: u16,
    params: Option<Payload>,
    cell: Arc<CallCell>,
    object: Arc<LocalObject>,
    reply: Reply,
}

#[derive(PartialEq, Eq)]
enum Reply {
    Owed,
    Given,
}

impl IncomingCall {
    pub(super) fn new(call: CallRequest, object: Arc<LocalObject>) -> Self {
        IncomingCall {
            interface: call.interface,
            method: call.method,
            params: Some(call.params),
            cell: call.cell,
            object,
            reply: Reply::Owed,
        }
    }

    /// The id of the interface to which the method belongs.
    pub fn interface_id(&self) -> u64 {
        self.interface
    }

    /// The method's ordinal in its interface.
    pub fn method_id(&self) -> u16 {
        self.method
    }

    /// The method, with its name if its interface is known in this process.
    pub fn method(&self) -> Method {
        Method::of(self.interface, self.method)
    }

    /// The object that is called: for an object that gives itself to others.
    pub fn this(&self) -> Client {
        self.object.as_called()
    }

    /// Who calls: the peer at the other end of the connection over which the call came,
    /// as far as the transport knows. `None` if the call was made in this process, which
    /// includes calls that come through a membrane, and if the connection is gone.
    ///
    /// A call that another object of this process has [passed on](Self::forward), or
    /// answers by a [tail call](Self::tail_call), still comes from the peer that made it. A
    /// peer, too, may make calls on behalf of others. What the operating system says of a
    /// peer is in [`PeerDescription::credentials`]; an address proves nothing.
    pub fn caller(&self) -> Option<PeerDescription> {
        Some(self.cell.came_over()?.peer().clone())
    }

    /// The connection over which the call came, as calls see it.
    pub(crate) fn came_over(&self) -> Option<Arc<dyn Connection>> {
        self.cell.came_over()
    }

    /// The parameters; empty after [`release_params`](Self::release_params).
    pub fn params(&self) -> &Payload {
        self.params.as_ref().unwrap_or_else(|| Payload::empty())
    }

    #[cfg(test)]
    pub(crate) fn cell(&self) -> &Arc<CallCell> {
        &self.cell
    }

    /// The parameters for the one who reads them. Those that name capabilities stay here, too:
    /// the call keeps these until it is answered.
    pub(crate) fn params_to_read(&mut self) -> Payload {
        let plain = |params: &mut Payload| params.caps().is_empty();
        match self.params.take_if(plain) {
            Some(params) => params,
            None => self.params().clone(),
        }
    }

    /// Releases the parameters and the capabilities in them before the call is
    /// answered.
    pub fn release_params(&mut self) {
        self.params = None;
    }

    /// Whether the answer is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.cell.is_cancelled()
    }

    /// Runs a closure on a worker when the caller loses interest before the call is
    /// answered; at once if it already has. If the call is answered first, the closure
    /// is dropped then.
    pub fn on_cancel(&self, closure: impl FnOnce() + Send + 'static) {
        self.cancellation().on_cancel(closure);
    }

    /// Runs a closure on a worker once the call is over, whatever way it ends: with
    /// results, an error, a tail call, a cancellation or a disconnect. It does not matter
    /// who answers the call: this object, another one to which the call is passed on, or a
    /// peer. Several closures may be added.
    pub fn on_answer(&self, closure: impl FnOnce(Ending) + Send + 'static) {
        self.cell.observe(Some(Arc::clone(self.object.executor())), Box::new(closure));
    }

    /// The part of the call that reports its cancellation.
    pub(crate) fn cancellation(&self) -> Cancellation {
        Cancellation { cell: Arc::clone(&self.cell), executor: Arc::clone(self.object.executor()) }
    }

    /// Lets a cancellation interrupt the method that calls this. When the caller loses
    /// interest, or is gone, every present and later wait of the method inside this
    /// library fails with an error that [is a cancellation](Error::is_cancellation).
    /// The method should return that error; its outcome is discarded. Without this, a
    /// method learns of a cancellation only if it asks, and its waits go on.
    ///
    /// The waits are those for a call, for a promise to resolve, for room on a
    /// connection and for a stream. This affects only the thread that runs the method,
    /// until the method returns. On other threads it does nothing.
    pub fn allow_cancellation(&self) {
        if PanicScope::runs_for(&self.cell) {
            self.cell.interrupts(&interrupt::allow());
        }
    }

    /// Gives out capabilities of the results before the call is answered: calls that
    /// the caller pipelines on this one go at once to the capabilities in `payload`,
    /// which has the form of the results. Only the first pipeline counts.
    pub fn set_pipeline(&self, payload: Payload) {
        self.cell.set_pipeline(payload);
    }

    /// Answers the call. Does not wait.
    pub fn respond(mut self, outcome: Result<Payload>) {
        self.reply = Reply::Given;
        // The parameters' capabilities are dropped before the caller learns of the end,
        // so that their release is counted by then.
        self.params = None;
        // The method may have the error from a call of its own.
        self.cell.complete(outcome.map_err(Error::answered));
    }

    /// Answers a call for which no method has run.
    pub(crate) fn refuse(mut self, error: Error) {
        self.reply = Reply::Given;
        self.params = None;
        self.cell.complete(Err(error.not_begun()));
    }

    /// As [`respond`](Self::respond), where the method has returned.
    pub(crate) fn respond_at_end(self, outcome: Result<Payload>) {
        let call = Arc::as_ptr(&self.cell) as usize;
        progress::answers(call, || self.cell.came_over()?.room().means());
        let _keeps = hands::answers(call);
        self.respond(outcome);
    }

    /// Answers a call of a streaming method. If the call fails, every later call on the
    /// object fails with the same error: the rest of a stream makes no sense without
    /// its beginning. The caller learns of the failure from the call that ends the
    /// stream, one that is not streaming.
    pub fn respond_streaming(self, outcome: Result<()>) {
        if let Err(error) = &outcome {
            self.object.break_stream(error);
        }
        self.respond(outcome.map(|()| Payload::empty().clone()));
    }

    /// Passes the call on unchanged to another capability, which answers it instead of
    /// this object. Does not wait. A call that has been cancelled is not passed on.
    pub fn forward(mut self, target: &Client) {
        let (interface, method) = (self.interface, self.method);
        let params = self.params.take().unwrap_or_else(|| Payload::empty().clone());
        self.tail_call(target, interface, method, params);
    }

    /// Passes the call on as [`forward`](Self::forward) does, and runs a closure on a worker
    /// once it is over, as [`on_answer`](Self::on_answer) does.
    ///
    /// ```
    /// # use std::any::Any;
    /// use capnp_threads_core::Client;
    /// use capnp_threads_core::untyped::{Dispatch, Ending, IncomingCall};
    ///
    /// /// Logs the calls of another object.
    /// struct Logger(Client);
    ///
    /// impl Dispatch for Logger {
    ///     fn dispatch(&self, call: IncomingCall) {
    ///         let method = call.method();
    ///         call.forward_and(&self.0, move |ending| match ending {
    ///             Ending::Returned(_) => println!("{method} returned"),
    ///             Ending::Failed(error) => println!("{method} failed: {error}"),
    ///             other => println!("{method}: {other:?}"),
    ///         });
    ///     }
    ///
    ///     fn as_any(&self) -> &(dyn Any + Send + Sync) {
    ///         self
    ///     }
    /// }
    /// ```
    pub fn forward_and(self, target: &Client, closure: impl FnOnce(Ending) + Send + 'static) {
        self.on_answer(closure);
        self.forward(target);
    }

    /// Answers with the outcome of another call, without waiting for it.
    ///
    /// If that call goes back to the vat that made this call, its results do not
    /// travel: Note [tail calls]. Calls that were pipelined on this call go on to the
    /// results, in order. If the caller loses interest, the other call is cancelled,
    /// too.
    pub fn tail_call(mut self, target: &Client, interface: u64, method: u16, params: Payload) {
        if let Some(delivery) = self.handed_on(interface, method, params) {
            target.clone().deliver(delivery);
        }
    }

    /// The unchanged call, to be delivered elsewhere; `None` if it is no longer wanted.
    pub(crate) fn into_delivery(mut self) -> Option<Delivery> {
        let (interface, method) = (self.interface, self.method);
        let params = self.params.take().unwrap_or_else(|| Payload::empty().clone());
        self.handed_on(interface, method, params)
    }

    fn handed_on(&mut self, interface: u64, method: u16, params: Payload) -> Option<Delivery> {
        self.reply = Reply::Given;
        self.params = None;
        self.cell.is_passed_on();
        let delivery = Delivery::Call(CallRequest {
            interface,
            method,
            params,
            cell: Arc::clone(&self.cell),
            permit: None,
            tail: Tail::Allowed,
        });
        if delivery.is_cancelled() {
            // A cancelled call goes no further, as one that waits in a promise does
            // not. Otherwise a call that an object passes on to itself would never end.
            delivery.fail(&cancelled());
            return None;
        }
        Some(delivery)
    }
}

/// Reports that a call's caller has lost interest.
pub(crate) struct Cancellation {
    cell: Arc<CallCell>,
    executor: Arc<dyn Executor>,
}

impl Cancellation {
    /// See [`IncomingCall::on_cancel`]. Must not be called under a lock that the
    /// closure takes: if no worker is free, the closure runs on this thread.
    pub(crate) fn on_cancel(self, closure: impl FnOnce() + Send + 'static) {
        self.cell.on_cancel(self.executor, Job::closure(closure));
    }
}

impl IncomingCall {
    /// Answers a call that was dropped, unless its method is panicking: then the
    /// mailbox answers the call with a better error. (Other calls that the method held
    /// are answered here.)
    fn give_up(&mut self, error: Error) {
        if self.reply == Reply::Owed && !PanicScope::will_answer(&self.cell) {
            self.params = None;
            self.cell.complete(Err(error.answered()));
        }
        self.reply = Reply::Given;
    }

    /// Drops the call unanswered; `error` gives the reason.
    pub(crate) fn drop_for(mut self, error: Error) {
        self.give_up(error);
    }
}

impl Drop for IncomingCall {
    fn drop(&mut self) {
        if self.reply == Reply::Given {
            return;
        }
        let error = Error::failed("the object dropped the call without answering it");
        self.give_up(match self.object.known_as() {
            Some(name) => error.with_internal(name),
            None => error,
        });
    }
}

impl fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCall")
            .field("interface", &format_args!("{:#x}", self.interface))
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

crate::sync::thread_local! {
    /// The call whose method runs on this thread.
    static RUNNING: std::cell::Cell<Running> = const {
        std::cell::Cell::new(Running { cell: 0, unwinds: false })
    };
}

#[derive(Clone, Copy)]
struct Running {
    /// The address of the call's cell, or 0.
    cell: usize,
    /// The thread was unwinding before: a destructor made the call, and its thread runs it.
    unwinds: bool,
}

/// Marks a thread on which a panic will be turned into the answer of one call.
pub(super) struct PanicScope(Running);

impl PanicScope {
    pub(super) fn enter(cell: &Arc<CallCell>) -> Self {
        let cell = Arc::as_ptr(cell) as usize;
        let unwinds = std::thread::panicking();
        PanicScope(RUNNING.with(|running| running.replace(Running { cell, unwinds })))
    }

    /// Whether the method on this thread runs for this call.
    fn runs_for(cell: &Arc<CallCell>) -> bool {
        RUNNING.with(std::cell::Cell::get).cell == Arc::as_ptr(cell) as usize
    }

    /// Whether a method is panicking on this thread and its panic will answer this
    /// call. On a thread that was unwinding before nobody can tell, so the answer is no.
    fn will_answer(cell: &Arc<CallCell>) -> bool {
        std::thread::panicking()
            && PanicScope::runs_for(cell)
            && !RUNNING.with(std::cell::Cell::get).unwinds
    }
}

impl Drop for PanicScope {
    fn drop(&mut self) {
        RUNNING.with(|running| running.set(self.0));
    }
}
