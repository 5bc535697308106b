//! What is asked about calls on their way.
//!
//! An [`Interceptor`] stands at a *site*: in front of an object, of a capability that this
//! process calls, or at a connection. Each call that passes the site is put to the site's
//! interceptors, one after the other. The call itself stays what it is: the same cell gets
//! the outcome, so pipelining, early pipelines, tail calls and cancellation do not know of
//! interceptors. What keeps calls in order while one is delayed depends on the site, and is
//! told there (`kinds/interception`).
//!
//! Interceptors are application code. No lock is held while they are asked, and while one
//! exists, threads that wait leave a connection's steps to the coordinator: Note [progress].

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::call::Ending;
use super::client::Client;
use super::connection::Connection;
use super::delivery::CallRequest;
use super::effects::{self, Asking, Effect};
use super::interface::Method;
use super::payload::Payload;
use crate::error::{Error, Result};
use crate::panics;
use crate::sync::Mutex;
use crate::transport::PeerDescription;
use crate::work::progress;

/// Decides about calls on their way, and learns how they end.
///
/// An interceptor runs on the thread that delivers the call, often one that serves a
/// connection: it must not wait, nor take a lock that is held around calls. To let a call
/// wait, it returns [`Verdict::Delay`]. As long as it runs, calls behind this one wait, and so may
/// some in front of it that came at the same time and have not begun. A panic fails the call.
///
/// Closures are interceptors:
///
/// ```
/// use capnp_threads_core::interceptors::{InterceptedCall, Verdict};
/// use capnp_threads_core::{ConnConfig, Error};
/// use capnp_threads_core::interceptors::Interceptors;
///
/// let log = |call: &InterceptedCall<'_>| {
///     let (method, from) = (call.method(), call.peer());
///     call.on_answer(move |ending| println!("{method} for {from:?}: {ending:?}"));
///     Ok(Verdict::Pass)
/// };
/// let small_only = |call: &InterceptedCall<'_>| {
///     if call.size() > 1 << 20 {
///         return Err(Error::failed("parameters of more than a megabyte are not taken"));
///     }
///     Ok(Verdict::Pass)
/// };
/// let config = ConnConfig::new().interceptors(Interceptors::new().incoming(log).incoming(small_only));
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// Decides about one call.
    ///
    /// # Errors
    /// What the call fails with instead of going on.
    fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict>;

    /// Whether it lets every call pass at once, and is as harmless as a subscriber of the
    /// log: then threads that wait go on working for connections.
    #[doc(hidden)]
    fn only_looks_on(&self) -> bool {
        false
    }
}

impl<F> Interceptor for F
where
    F: Fn(&InterceptedCall<'_>) -> Result<Verdict> + Send + Sync + 'static,
{
    fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict> {
        self(call)
    }
}

/// What becomes of a call that an interceptor has seen.
///
/// ```
/// use capnp_threads_core::interceptors::{InterceptedCall, Verdict};
/// use capnp_threads_core::{Client, Result};
///
/// /// Large calls go to another object.
/// fn spread(call: &InterceptedCall<'_>, large: &Client) -> Result<Verdict> {
///     match call.size() {
///         0..=1_000_000 => Ok(Verdict::Pass),
///         _ => Ok(Verdict::Redirect(large.clone())),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on: to the next interceptor, or to its target.
    Pass,
    /// It goes on to this capability instead of its target.
    Redirect(Client),
    /// It waits until the [`Release`] that belongs to this is used: see [`delay`].
    Delay(Delay),
}

/// The direction in which a call passes an interceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum Side {
    /// It has come to an object, or over a connection into this vat.
    Incoming,
    /// It is made on a capability that is intercepted, or leaves over a connection.
    Outgoing,
}

/// A call, as an [`Interceptor`] sees it.
pub struct InterceptedCall<'a> {
    request: &'a CallRequest,
    target: &'a Client,
    side: Side,
}

impl InterceptedCall<'_> {
    /// The direction in which the call passes.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The method, with its name if its interface is known in this process.
    pub fn method(&self) -> Method {
        Method::of(self.request.interface, self.request.method)
    }

    /// What is called. Calling it goes past this site. At a connection this may be a
    /// promise.
    pub fn target(&self) -> &Client {
        self.target
    }

    /// The peer: of an incoming call the one that makes it, and of an outgoing call the
    /// one that it would be sent to now. `None` for this process.
    pub fn peer(&self) -> Option<PeerDescription> {
        match self.side {
            Side::Incoming => Some(self.request.cell.came_over()?.peer().clone()),
            Side::Outgoing => self.target.innermost().connection().map(Connection::peer).cloned(),
        }
    }

    /// The parameters.
    pub fn params(&self) -> &Payload {
        &self.request.params
    }

    /// The size of the parameters, with the message around them, in bytes.
    pub fn size(&self) -> u64 {
        8 * self.request.params.size_in_words() as u64
    }

    /// When the call ends if it is not answered. `None` if nothing limits it, and if the
    /// connection over which it leaves decides. A peer does not tell its deadlines.
    pub fn deadline(&self) -> Option<Instant> {
        self.request.cell.deadline()
    }

    /// Whether the answer is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.request.cell.is_cancelled()
    }

    /// Runs a closure once the call is over, whatever way it ends and whatever the
    /// interceptors decide. The closure runs on the thread that ends the call and must not
    /// wait.
    pub fn on_answer(&self, closure: impl FnOnce(Ending) + Send + 'static) {
        self.request.cell.observe(None, Box::new(closure));
    }

    /// As [`on_answer`](Self::on_answer), for an interceptor that
    /// [only looks on](Interceptor::only_looks_on).
    #[cfg(feature = "metrics")]
    pub(crate) fn on_answer_at_once(&self, closure: impl FnOnce(Ending) + Send + 'static) {
        self.request.cell.observe_at_once(Box::new(closure));
    }
}

impl fmt::Debug for InterceptedCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterceptedCall")
            .field("side", &self.side)
            .field("method", &format_args!("{}", self.method()))
            .field("target", &self.target)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

/// Interceptors of connections, for both directions. A call passes those of the vat
/// before those of the connection, and each in the order in which they were added.
#[derive(Clone, Default)]
pub struct Interceptors {
    incoming: Vec<Arc<dyn Interceptor>>,
    outgoing: Vec<Arc<dyn Interceptor>>,
}

impl Interceptors {
    /// No interceptors.
    pub fn new() -> Self {
        Interceptors::default()
    }

    /// Adds an interceptor for calls that peers make.
    #[must_use]
    pub fn incoming(mut self, interceptor: impl Interceptor) -> Self {
        self.incoming.push(Arc::new(interceptor));
        self
    }

    /// Adds an interceptor for calls that are sent to peers.
    #[must_use]
    pub fn outgoing(mut self, interceptor: impl Interceptor) -> Self {
        self.outgoing.push(Arc::new(interceptor));
        self
    }

    /// These, and behind them `more`.
    #[must_use]
    pub fn and(mut self, more: Interceptors) -> Self {
        self.incoming.extend(more.incoming);
        self.outgoing.extend(more.outgoing);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.is_empty()
    }

    /// The interceptors for calls that come in.
    pub(crate) fn into_incoming(self) -> Vec<Arc<dyn Interceptor>> {
        self.incoming
    }

    /// What is asked about calls in this direction.
    pub(crate) fn chain(&self, side: Side) -> Option<Chain> {
        let interceptors = match side {
            Side::Incoming => &self.incoming,
            Side::Outgoing => &self.outgoing,
        };
        (!interceptors.is_empty()).then(|| Chain::new(side, interceptors.clone()))
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interceptors")
            .field("incoming", &self.incoming.len())
            .field("outgoing", &self.outgoing.len())
            .finish()
    }
}

// ---- Delays

/// Makes what a call waits for, and what ends its wait:
///
/// ```
/// use std::sync::Mutex;
/// use capnp_threads_core::Result;
/// use capnp_threads_core::interceptors::{InterceptedCall, Release, Verdict, delay};
///
/// /// Holds every call until somebody opens the gate.
/// fn gate(waiting: &Mutex<Vec<Release>>) -> Result<Verdict> {
///     let (delay, release) = delay();
///     waiting.lock().unwrap().push(release);
///     Ok(Verdict::Delay(delay))
/// }
/// ```
///
/// No thread waits with the call. Later calls for which the order matters wait behind it:
/// on the same object, or over the same connection. A call that is cancelled while it
/// waits is taken out, and the others go on.
pub fn delay() -> (Delay, Release) {
    let hold = Arc::new(Hold { state: Mutex::new(HoldState::Waiting(None)) });
    (Delay { hold: Arc::clone(&hold) }, Release { hold: Some(hold) })
}

/// What a delayed call waits for; see [`delay`].
pub struct Delay {
    hold: Arc<Hold>,
}

/// Ends the wait of a delayed call. Dropping it refuses the call.
#[must_use = "dropping it refuses the call"]
pub struct Release {
    hold: Option<Arc<Hold>>,
}

/// How the wait of a call has ended.
pub(crate) enum Released {
    Pass,
    Redirect(Client),
    Refuse(Error),
}

/// Goes on with a call.
type GoOn = Box<dyn FnOnce(Released) + Send>;

/// The lock is a leaf, and nothing is dropped under it.
struct Hold {
    state: Mutex<HoldState>,
}

enum HoldState {
    /// With what is told of the release.
    Waiting(Option<GoOn>),
    Released(Option<Released>),
}

/// Goes on with a call, as an effect: what the call meets on its way must not make this
/// thread wait, which may be the one that releases calls.
fn proceed(go_on: GoOn, how: Released) {
    effects::defer(Effect::Do(Box::new(move || go_on(how))));
}

impl Hold {
    fn release(&self, how: Released) {
        let mut state = self.state.lock();
        match &mut *state {
            HoldState::Waiting(go_on) => {
                if let Some(go_on) = go_on.take() {
                    *state = HoldState::Released(None);
                    drop(state);
                    proceed(go_on, how);
                } else {
                    *state = HoldState::Released(Some(how));
                }
            }
            HoldState::Released(_) => {
                drop(state);
                drop(how);
            }
        }
    }
}

impl Delay {
    /// Sets what is done once the call is released; does it at once if it is already.
    ///
    /// Must not be called under a lock.
    pub(crate) fn on_release(self, go_on: GoOn) {
        let mut state = self.hold.state.lock();
        match &mut *state {
            HoldState::Waiting(slot) => *slot = Some(go_on),
            HoldState::Released(how) => {
                let how = how.take();
                drop(state);
                if let Some(how) = how {
                    proceed(go_on, how);
                }
            }
        }
    }
}

impl Release {
    /// Lets the call go on. Does not wait.
    pub fn pass(self) {
        self.end(Released::Pass);
    }

    /// Lets the call go on to another capability.
    pub fn redirect(self, target: Client) {
        self.end(Released::Redirect(target));
    }

    /// Fails the call.
    pub fn refuse(self, error: Error) {
        self.end(Released::Refuse(error));
    }

    fn end(mut self, how: Released) {
        if let Some(hold) = self.hold.take() {
            hold.release(how);
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.release(Released::Refuse(Error::failed(
                "the interceptor that delayed the call has given it up",
            )));
        }
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delay")
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release")
    }
}

// ---- For the sites

/// The interceptors of one site.
pub(crate) struct Chain {
    side: Side,
    interceptors: Vec<Arc<dyn Interceptor>>,
    /// Absent if all of them only look on.
    asking: Option<Asking>,
}

/// What a [`Chain`] says about a call.
pub(crate) enum Decision {
    /// It goes on to this capability.
    Deliver(Client),
    Refuse(Error),
    /// It waits. Then the interceptors from `next` on are asked.
    Delay {
        delay: Delay,
        target: Client,
        next: usize,
    },
}

impl Chain {
    pub(crate) fn new(side: Side, interceptors: Vec<Arc<dyn Interceptor>>) -> Self {
        let looks_on = |own: &Arc<dyn Interceptor>| own.only_looks_on();
        let asking = (!interceptors.iter().all(looks_on)).then(Asking::begin);
        Chain { side, interceptors, asking }
    }

    /// Whether one of them does more than to look on.
    pub(crate) fn decides(&self) -> bool {
        self.asking.is_some()
    }

    /// Asks about a call on its way to `target`.
    ///
    /// Must not be called under a lock.
    pub(crate) fn decide(&self, request: &CallRequest, target: Client) -> Decision {
        self.decide_from(0, request, target)
    }

    /// Goes on with a call that was delayed when the interceptors from `next` on had not
    /// been asked.
    ///
    /// Must not be called under a lock.
    pub(crate) fn resume(
        &self,
        next: usize,
        how: Released,
        request: &CallRequest,
        target: Client,
    ) -> Decision {
        match how {
            Released::Pass => self.decide_from(next, request, target),
            Released::Redirect(other) => self.decide_from(next, request, other),
            Released::Refuse(error) => Decision::Refuse(error),
        }
    }

    fn decide_from(&self, from: usize, request: &CallRequest, target: Client) -> Decision {
        // The interceptors may take their time.
        progress::let_go();
        let mut target = target;
        for (index, interceptor) in self.interceptors.iter().enumerate().skip(from) {
            let seen = InterceptedCall { request, target: &target, side: self.side };
            let verdict = panics::caught("an interceptor", || interceptor.intercept(&seen));
            match verdict {
                Ok(Ok(Verdict::Pass)) => {}
                Ok(Ok(Verdict::Redirect(other))) => target = other,
                Ok(Ok(Verdict::Delay(delay))) => {
                    return Decision::Delay { delay, target, next: index + 1 };
                }
                Ok(Err(error)) => return Decision::Refuse(error),
                Err(panicked) => {
                    let error = Error::failed("an interceptor panicked");
                    return Decision::Refuse(error.with_internal(panicked.message));
                }
            }
        }
        Decision::Deliver(target)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // The interceptors are the application's.
        effects::defer(Effect::drop_foreign(std::mem::take(&mut self.interceptors)));
    }
}
