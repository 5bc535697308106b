//! The arguments of a server's methods, and how their calls are answered.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use capnp::traits::Owned;

use super::content::{Content, Detached};
use super::request::{Draft, Request};
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::incoming_call::{Cancellation, IncomingCall};
use crate::cap::payload::{Payload, PayloadBuilder};
use crate::error::{Error, Result};
use crate::runtime::Connection;
use crate::sync::Mutex;
use crate::transport::PeerDescription;

// Note [answering]
//
// `run` answers the call when the method has returned: with what the method left in its
// `Results`, or with its error. The method owns its `Results` and drops them, so they
// hand their content back to the shared `Ticket` when they are dropped. A method that
// defers moves the call out of the ticket into a `Deferral`, which the holder of the
// `DeferredResults` answers. The ticket keeps a reference to the deferral, too, so that
// an error returned after deferring still counts.

/// A call that a method is running for, shared by its parameters, its results
/// and [`run`].
struct Ticket {
    call: RefCell<Stage>,
    /// The object whose method runs, once the call does not know it any more.
    this: OnceCell<Client>,
    /// What the results held when they were dropped.
    left: Cell<Option<Left>>,
}

enum Stage {
    /// The method's return answers the call.
    Open(IncomingCall),
    /// The holder of the deferred results answers the call.
    Deferred(Arc<Deferral>),
    /// `run` is answering the call.
    Closed,
}

/// What results left when they were dropped.
enum Left {
    Nothing,
    Draft(Draft),
}

impl Ticket {
    fn new(call: IncomingCall) -> Rc<Self> {
        let call = RefCell::new(Stage::Open(call));
        Rc::new(Ticket { call, this: OnceCell::new(), left: Cell::new(None) })
    }

    fn this(&self) -> Client {
        match &*self.call.borrow() {
            Stage::Open(call) => call.this(),
            // Whoever ends the first stage keeps it for those who may ask.
            _ => self.this.get().cloned().unwrap_or_default(),
        }
    }

    /// Changes the stage.
    fn turn(self: &Rc<Self>, next: Stage) -> Stage {
        let mut stage = self.call.borrow_mut();
        // Parameters that outlive the method may ask for the object later.
        if Rc::strong_count(self) > 1
            && let Stage::Open(call) = &*stage
        {
            self.this.get_or_init(|| call.this());
        }
        std::mem::replace(&mut stage, next)
    }

    fn is_cancelled(&self) -> bool {
        match &*self.call.borrow() {
            Stage::Open(call) => call.is_cancelled(),
            Stage::Deferred(deferral) => deferral.is_cancelled(),
            Stage::Closed => false,
        }
    }

    fn on_cancel(&self, closure: impl FnOnce() + Send + 'static) {
        let cancellation = match &*self.call.borrow() {
            Stage::Open(call) => Some(call.cancellation()),
            Stage::Deferred(deferral) => deferral.cancellation(),
            Stage::Closed => None,
        };
        if let Some(cancellation) = cancellation {
            cancellation.on_cancel(closure);
        }
    }

    fn allow_cancellation(&self) {
        match &*self.call.borrow() {
            Stage::Open(call) => call.allow_cancellation(),
            Stage::Deferred(deferral) => deferral.allow_cancellation(),
            Stage::Closed => {}
        }
    }

    /// Looks at the call, if it has not been answered.
    fn look<T>(&self, look: impl FnOnce(&IncomingCall) -> T) -> Option<T> {
        match &*self.call.borrow() {
            Stage::Open(call) => Some(look(call)),
            Stage::Deferred(deferral) => deferral.call.lock().as_ref().map(look),
            Stage::Closed => None,
        }
    }

    fn release_params(&self) {
        // Not for a deferred call, which is behind a lock: releasing may run the
        // destructors of objects.
        if let Stage::Open(call) = &mut *self.call.borrow_mut() {
            call.release_params();
        }
    }
}

/// Runs one method for one call and answers it. For generated code.
pub fn run<P, R>(mut call: IncomingCall, method: impl FnOnce(Params<P>, Results<R>) -> Result<()>) {
    let content = Content::of(call.params_to_read());
    let ticket = Ticket::new(call);
    let params = Params { content, ticket: Rc::clone(&ticket) };
    answer(&ticket, AtEnd::Yes, |results| method(params, results));
}

/// As [`run`], for a method without results.
pub fn run_streaming<P>(mut call: IncomingCall, method: impl FnOnce(Params<P>) -> Result<()>) {
    let content = Content::of(call.params_to_read());
    let ticket = Ticket::new(call);
    let outcome = method(Params { content, ticket: Rc::clone(&ticket) });
    if let Stage::Open(call) = ticket.turn(Stage::Closed) {
        call.respond_streaming(outcome);
    }
}

/// Whether the method of the call has returned when its call is answered. Results that were
/// deferred may be answered in the middle of it.
#[derive(Clone, Copy)]
enum AtEnd {
    Yes,
    Perhaps,
}

fn answer<R>(ticket: &Rc<Ticket>, at_end: AtEnd, method: impl FnOnce(Results<R>) -> Result<()>) {
    let outcome = method(Results { ticket: Rc::clone(ticket), draft: None, results: PhantomData });
    let stage = ticket.turn(Stage::Closed);
    let respond = |call: IncomingCall, outcome| match at_end {
        AtEnd::Yes => call.respond_at_end(outcome),
        AtEnd::Perhaps => call.respond(outcome),
    };
    match (stage, outcome) {
        (Stage::Open(call), Ok(())) => respond(
            call,
            match ticket.left.take() {
                Some(Left::Draft(draft)) => Ok(draft.finish()),
                Some(Left::Nothing) => Ok(Payload::empty().clone()),
                None => Err(Error::failed(
                    "the server kept the results of this call beyond its method; \
                 it should defer them to answer later",
                )),
            },
        ),
        (Stage::Open(call), Err(error)) => respond(call, Err(error)),
        (Stage::Deferred(deferral), Err(error)) => deferral.respond(Err(error)),
        (Stage::Deferred(_), Ok(())) | (Stage::Closed, _) => {}
    }
}

/// The methods by which a method learns of its cancellation, for what it holds.
macro_rules! hears_of_cancellation {
    () => {
        /// Whether the caller is no longer interested in the call. A method that runs for
        /// long should check this now and then, and return any error if so.
        pub fn is_cancelled(&self) -> bool {
            self.ticket.is_cancelled()
        }

        /// Runs a closure on a worker when the caller loses interest before the call is
        /// answered; at once if it already has. If the call is answered first, the closure
        /// is dropped then.
        pub fn on_cancel(&self, closure: impl FnOnce() + Send + 'static) {
            self.ticket.on_cancel(closure);
        }

        /// Lets a cancellation interrupt the waits of the method from now on; see
        /// [`IncomingCall::allow_cancellation`].
        pub fn allow_cancellation(&self) {
            self.ticket.allow_cancellation();
        }
    };
}

/// The parameters of a call.
pub struct Params<P> {
    content: Content<P>,
    ticket: Rc<Ticket>,
}

impl<P> Params<P> {
    /// Releases the capabilities in the parameters before the method returns; reading
    /// one is an error from now on. Clients that were read before stay usable. Call
    /// this before deferring the results: a deferred call keeps its parameters'
    /// capabilities until it is answered.
    pub fn release_capabilities(&mut self) {
        self.content.release_capabilities();
        self.ticket.release_params();
    }

    /// The parameters as a value that other threads can read.
    pub fn detach(self) -> Detached<P> {
        self.content.detach()
    }

    hears_of_cancellation!();

    /// The object whose method runs, as a client of one of its interfaces: for an object
    /// that gives itself to others.
    ///
    /// ```
    /// use capnp_threads_core::{FromClient, Result, Vat};
    /// use rpc_schema::echo_capnp::echo;
    ///
    /// struct Chain;
    ///
    /// impl echo::Server for Chain {
    ///     /// Returns this very object.
    ///     fn next(&self, params: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
    ///         results.get().set_echo(params.this());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let chain: echo::Client = Vat::new().export(Chain);
    /// let next = chain.next_request().call()?.get()?.get_echo()?;
    /// assert_eq!(next.as_client(), chain.as_client());
    /// # Ok(())
    /// # }
    /// ```
    pub fn this<C: FromClient>(&self) -> C {
        C::from_client(self.ticket.this())
    }

    /// Who calls, as far as the transport knows: see [`IncomingCall::caller`]. `None` also
    /// once the call is answered.
    ///
    /// ```
    /// use capnp_threads_core::{Error, Params, Result};
    ///
    /// /// Lets only programs of this user go on.
    /// fn same_user<P>(params: &Params<P>, uid: u32) -> Result<()> {
    ///     let caller = params.caller().and_then(|caller| caller.credentials);
    ///     match caller {
    ///         Some(credentials) if credentials.uid == uid => Ok(()),
    ///         _ => Err(Error::failed("only programs of the same user may do this")),
    ///     }
    /// }
    /// ```
    pub fn caller(&self) -> Option<PeerDescription> {
        Some(self.ticket.look(IncomingCall::came_over)??.peer().clone())
    }

    /// The connection over which the call came: see [`IncomingCall::connection`]. `None`
    /// also once the call is answered.
    pub fn connection(&self) -> Option<Connection> {
        Connection::over(&*self.ticket.look(IncomingCall::came_over)??)
    }
}

impl<P: Owned> Params<P> {
    /// The parameters; see [`Content::get`].
    ///
    /// # Errors
    /// The caller sent a malformed message.
    pub fn get(&self) -> Result<P::Reader<'_>> {
        self.content.get()
    }
}

impl<P> fmt::Debug for Params<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params").field("content", &self.content).finish_non_exhaustive()
    }
}

/// What a method returns, to be filled in.
///
/// A method answers its call by returning. With `Ok(())`, the call returns what was
/// filled in; with an error, the call fails, whatever was filled in. Dropping the
/// results changes nothing. A method that wants to return before it knows the answer
/// [defers](Self::defer) its results.
pub struct Results<R> {
    ticket: Rc<Ticket>,
    draft: Option<Draft>,
    results: PhantomData<fn() -> R>,
}

impl<R> Results<R> {
    /// Separates the answer from the method: when the method returns `Ok`, the call
    /// stays open until the holder of the returned value answers it, on any thread.
    /// What was filled in is kept.
    ///
    /// If the method returns an error after all, the error answers the call, unless the
    /// call has been answered by then.
    pub fn defer(mut self) -> DeferredResults<R> {
        let filled = self.draft.take().map(Draft::into_parts);
        let deferral = match self.ticket.turn(Stage::Closed) {
            Stage::Open(call) => Arc::new(Deferral { call: Mutex::new(Some(call)) }),
            // There are no other results of this call. Either `run` has yet to answer
            // it, or it has already answered because these results outlived the method.
            Stage::Deferred(deferral) => deferral,
            Stage::Closed => Arc::new(Deferral { call: Mutex::new(None) }),
        };
        self.ticket.turn(Stage::Deferred(Arc::clone(&deferral)));
        DeferredResults { deferral, filled, results: PhantomData }
    }

    /// Answers with the outcome of another call, without waiting for it. What was
    /// filled in is dropped. Return `Ok(())` after this.
    ///
    /// If the other call goes to the vat that made this call, its results do not even
    /// travel. Calls that were pipelined on this call reach the other call's results in
    /// order, and cancelling this call cancels the other one.
    pub fn tail_call<P>(mut self, request: Request<P, R>) {
        self.draft = None;
        match self.ticket.turn(Stage::Closed) {
            Stage::Open(call) => request.send_as_tail_of(call),
            // The results were deferred before, or the call is answered: nothing is
            // left to answer.
            other => drop(self.ticket.turn(other)),
        }
    }

    hears_of_cancellation!();
}

impl<R: Owned> Results<R> {
    /// Delivers the calls that the caller pipelines on this one to the capabilities
    /// that are filled in now, before the method returns. The call may return more in
    /// the end, or never return. Only the first use of this has an effect.
    ///
    /// # Errors
    /// What was filled in cannot be copied.
    pub fn set_pipeline(&mut self) -> Result<()> {
        let pipeline = self.draft().snapshot()?;
        if let Stage::Open(call) = &*self.ticket.call.borrow() {
            call.set_pipeline(pipeline);
        }
        Ok(())
    }

    /// The results, to be filled in. A second call continues where the last builder
    /// left off.
    pub fn get(&mut self) -> R::Builder<'_> {
        self.draft().get::<R>()
    }

    /// Replaces the results by a copy of `from`.
    ///
    /// # Errors
    /// What is copied is malformed.
    pub fn set(&mut self, from: R::Reader<'_>) -> Result<()> {
        self.draft().set::<R>(from, PayloadBuilder::for_results)
    }

    fn draft(&mut self) -> &mut Draft {
        self.draft.get_or_insert_with(|| Draft::new(PayloadBuilder::for_results()))
    }
}

impl<R> Drop for Results<R> {
    fn drop(&mut self) {
        let left = self.draft.take().map_or(Left::Nothing, Left::Draft);
        self.ticket.left.set(Some(left));
    }
}

impl<R> fmt::Debug for Results<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("filled", &self.draft.is_some()).finish_non_exhaustive()
    }
}

/// A call whose answer comes separately from its method's return.
struct Deferral {
    call: Mutex<Option<IncomingCall>>,
}

impl Deferral {
    /// Answers the call, unless it is answered already.
    fn respond(&self, outcome: Result<Payload>) {
        let call = self.call.lock().take();
        if let Some(call) = call {
            call.respond(outcome);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.call.lock().as_ref().is_some_and(IncomingCall::is_cancelled)
    }

    /// May be called under the lock: nothing is dropped and no other thread is woken,
    /// because only this method waits on behalf of an open call.
    fn allow_cancellation(&self) {
        if let Some(call) = &*self.call.lock() {
            call.allow_cancellation();
        }
    }

    /// `None` when the call is answered.
    fn cancellation(&self) -> Option<Cancellation> {
        self.call.lock().as_ref().map(IncomingCall::cancellation)
    }
}

/// The results of a call that is answered later, by any thread. If they are dropped before
/// that, the call fails and its caller is told the reason.
#[must_use = "dropping deferred results fails the call"]
pub struct DeferredResults<R> {
    deferral: Arc<Deferral>,
    /// What the method filled in before it deferred.
    filled: Option<(PayloadBuilder, Vec<Client>)>,
    results: PhantomData<fn() -> R>,
}

impl<R> DeferredResults<R> {
    /// Answers the call as a method does: `method` fills in the results on this thread,
    /// and what it returns decides. It may defer the results again.
    pub fn answer(mut self, method: impl FnOnce(Results<R>) -> Result<()>) {
        let Some(call) = self.deferral.call.lock().take() else {
            // The method has returned an error, which has answered the call.
            return;
        };
        let draft = self.filled.take().map(|(builder, caps)| Draft::resumed(builder, &caps));
        let ticket = Ticket::new(call);
        answer(&ticket, AtEnd::Perhaps, |mut results| {
            results.draft = draft;
            method(results)
        });
    }

    /// Fails the call.
    pub fn fail(self, error: Error) {
        self.deferral.respond(Err(error));
    }

    /// Whether the caller is no longer interested.
    pub fn is_cancelled(&self) -> bool {
        self.deferral.is_cancelled()
    }

    /// See [`Params::on_cancel`].
    pub fn on_cancel(&self, closure: impl FnOnce() + Send + 'static) {
        // The lock is not held here: the closure may run at once, and answer the call.
        let cancellation = self.deferral.cancellation();
        if let Some(cancellation) = cancellation {
            cancellation.on_cancel(closure);
        }
    }
}

impl<R> Drop for DeferredResults<R> {
    fn drop(&mut self) {
        let call = self.deferral.call.lock().take();
        if let Some(call) = call {
            call.drop_for(Error::failed(
                "the server deferred the answer to this call and then dropped it unanswered",
            ));
        }
    }
}

impl<R> fmt::Debug for DeferredResults<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredResults")
            .field("filled", &self.filled.is_some())
            .finish_non_exhaustive()
    }
}
