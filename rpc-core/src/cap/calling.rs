//! How calls are made on a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{CallCell, Sink};
use super::client::Client;
use super::connection::Connection;
use super::delivery::{CallRequest, Delivery, Tail};
use super::effects;
use super::payload::Payload;
use super::pending::Pending;
use super::pipeline::Pipeline;
use crate::deadline::Deadline;
use crate::error::{Error, Result, Timeout};
use crate::wire::Hint;
use crate::work::origin;
use crate::work::own_call::{self, OwnCall};
use crate::work::progress::{self, Means, Prepared};
use crate::work::role;
use crate::work::room::{Permit, Room};

/// A call that is about to be made.
pub(crate) struct Call {
    pub(crate) interface_id: u64,
    pub(crate) method_id: u16,
    pub(crate) params: Payload,
    /// What the caller will not use.
    pub(crate) hint: Hint,
}

/// The time that a caller allows for a call.
#[derive(Clone, Copy)]
pub(crate) enum Time {
    /// That of the client or, if it has none, of the connection.
    Default,
    Until(Deadline),
}

/// Who enforces a call's deadline: Note [deadlines].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The thread that makes the call, and is about to wait for it.
    Caller,
    Timer,
}

/// Where a call goes, its place among the questions there, and its deadline.
pub(crate) struct Place {
    target: Client,
    permit: Option<Permit>,
    /// `None` if the connection over which the call leaves decides.
    deadline: Option<Deadline>,
}

impl Client {
    /// Starts a call and returns at once, with one exception: an application thread
    /// waits here while the connection has as many questions outstanding, or as many
    /// bytes queued, as [`Limits`](crate::Limits) allow.
    ///
    /// Every failure, even of the sending itself, becomes the call's outcome.
    pub fn call(&self, interface_id: u64, method_id: u16, params: Payload) -> Pending {
        self.call_with(interface_id, method_id, params, Hint::None)
    }

    /// Starts a call of which only the pipeline is wanted: the capabilities that the
    /// results will hold can be called, but the results themselves are not delivered.
    /// The callee is told so, and does not send them.
    ///
    /// The call is over when everything that was made of the pipeline is dropped. Until
    /// then it counts among the outstanding questions. This may wait for room, as
    /// [`call`](Self::call) may.
    pub fn call_pipeline_only(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
    ) -> Pipeline {
        Pipeline::new(self.call_with(interface_id, method_id, params, Hint::OnlyPipeline))
    }

    /// Starts a call as [`call`](Self::call) does, but without a pipeline, which saves
    /// the callee work: capabilities in the results cannot be called before the results
    /// have arrived. For methods whose results hold no capabilities.
    ///
    /// The callee is told by a hint (`noPromisePipelining`) that some peers mishandle: if
    /// a method in pycapnp passes such a call on with `tail_call`, to an object of a third
    /// vat or of the caller's, pycapnp gives the second call up at once and never answers
    /// the first one. C++ 1.3 answers such calls, and sends the hint itself.
    pub fn call_without_pipeline(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
    ) -> Pending {
        self.call_with(interface_id, method_id, params, Hint::NoPipelining)
    }

    /// Starts a call as [`call`](Self::call) does, unless it would have to wait for room.
    /// Then the parameters come back.
    ///
    /// # Errors
    /// The parameters, because there is no room. Nothing was sent.
    pub fn try_call(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
    ) -> Result<Pending, Payload> {
        match self.try_place() {
            Some(place) => {
                let call = Call { interface_id, method_id, params, hint: Hint::None };
                Ok(place.send(call, By::Timer))
            }
            None => Err(params),
        }
    }

    /// Starts a call as [`call`](Self::call) does, with a time that covers the wait for
    /// room, the sending and the wait for the answer. When it is over the call fails with
    /// an error that [is a timeout](Error::is_timeout), even if nobody waits for it, and
    /// the callee is told that it is cancelled.
    pub fn call_timeout(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
        timeout: Duration,
    ) -> Pending {
        let call = Call { interface_id, method_id, params, hint: Hint::None };
        self.start(call, Time::Until(Deadline::after(timeout)))
    }

    /// As [`call_timeout`](Self::call_timeout), until a point in time.
    pub fn call_deadline(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
        deadline: Instant,
    ) -> Pending {
        let call = Call { interface_id, method_id, params, hint: Hint::None };
        self.start(call, Time::Until(Deadline::at(deadline)))
    }

    fn call_with(&self, interface_id: u64, method_id: u16, params: Payload, hint: Hint) -> Pending {
        self.start(Call { interface_id, method_id, params, hint }, Time::Default)
    }

    /// Starts a call.
    pub(crate) fn start(&self, call: Call, time: Time) -> Pending {
        match self.place(time) {
            Ok(place) => place.send(call, By::Timer),
            Err(error) => failed(error, call.hint),
        }
    }

    /// Makes a call and waits for its outcome.
    pub(crate) fn finish(&self, call: Call, time: Time) -> Result<Payload> {
        let place = self.place(time).map_err(Error::not_begun)?;
        let deadline = place.deadline.unwrap_or(Deadline::NEVER);
        // Otherwise effects of other code would stand between the call and its method.
        let own = if effects::may_run() { OwnCall::begin(deadline) } else { None };
        let _prepared = Prepared::begin(place.means());
        let pending = place.send(call, By::Caller);
        if let Some(own) = own {
            effects::catch_up();
            if own_call::is_on_its_way() {
                progress::advance(|| pending.question());
            }
            own.run().map_err(Error::unanswered)?;
        }
        pending.end_before(deadline)
    }

    /// Makes a streaming call: sends it, and returns when the stream's window has room
    /// for another one, usually at once. The results of the call are discarded, and the
    /// call is not cancelled when the client is dropped.
    ///
    /// On a thread that serves a connection this does not wait.
    ///
    /// # Errors
    /// The error of an earlier call of the stream. This call was not sent, or was sent
    /// in vain.
    pub fn call_streaming(&self, interface_id: u64, method_id: u16, params: Payload) -> Result<()> {
        let call = Call { interface_id, method_id, params, hint: Hint::None };
        self.stream_within(call, Time::Default)
    }

    /// Makes a streaming call. If its time is over before it is answered, the stream
    /// fails, unless the call was not sent: then the stream goes on without it.
    pub(crate) fn stream_within(&self, call: Call, time: Time) -> Result<()> {
        let stream = self.stream();
        let in_flight = stream.send(call.size()).map_err(Error::not_begun)?;
        let pending = match self.place(time).map_err(Error::not_begun) {
            Ok(place) => place.send(call, By::Timer),
            Err(error) => {
                in_flight.answered(Some(&error).filter(|error| !error.is_timeout()));
                return Err(error);
            }
        };
        pending.keep_until_done(move |outcome| in_flight.answered(outcome.as_ref().err()));
        if stream.has_room() || !role::may_wait() {
            return Ok(());
        }
        effects::catch_up();
        stream.wait_for_room(&self.means())
    }

    /// A place for a streaming call; `None` if the stream's window or the connection has no
    /// room.
    pub(crate) fn try_stream(&self) -> Option<Place> {
        if self.stream().has_room() { self.try_place() } else { None }
    }

    /// Makes a streaming call for which there is a place. Does not wait.
    ///
    /// # Errors
    /// The error of an earlier call of the stream.
    pub(crate) fn stream_from(&self, place: Place, call: Call) -> Result<()> {
        let in_flight = self.stream().send(call.size()).map_err(Error::not_begun)?;
        let pending = place.send(call, By::Timer);
        pending.keep_until_done(move |outcome| in_flight.answered(outcome.as_ref().err()));
        Ok(())
    }

    /// Waits until every streaming call that was made through this capability has been
    /// answered. A call that is not streaming waits for them, too, and also returns
    /// results.
    ///
    /// # Errors
    /// The error of a call of the stream, or one that says that this thread must not
    /// wait.
    pub fn finish_stream(&self) -> Result<()> {
        self.finish_stream_before(Deadline::NEVER)
    }

    /// Waits as [`finish_stream`](Self::finish_stream) does, but no longer than
    /// `timeout`. The stream goes on when time is up.
    ///
    /// # Errors
    /// The errors of [`finish_stream`](Self::finish_stream), and when time is up one
    /// that [is a timeout](crate::Error::is_timeout).
    pub fn finish_stream_timeout(&self, timeout: Duration) -> Result<()> {
        self.finish_stream_before(Deadline::after(timeout))
    }

    fn finish_stream_before(&self, deadline: Deadline) -> Result<()> {
        let stream = self.stream();
        effects::catch_up();
        stream.wait_until_empty(&self.means(), deadline)
    }

    /// Determines where a call goes now and what its deadline is, and waits for room there.
    ///
    /// # Errors
    /// The deadline has passed, or the wait failed: see [`Room::wait`].
    pub(crate) fn place(&self, time: Time) -> Result<Place> {
        let (target, own) = self.destination();
        let inner = target.innermost_behind();
        let connection = leads_over(&target, inner.as_ref());
        let deadline = match time {
            Time::Until(deadline) => Some(deadline),
            Time::Default => default_deadline(own, connection),
        };
        let wait = |connection: &dyn Connection| {
            wait_for_room(connection.room(), deadline.unwrap_or(Deadline::NEVER))
        };
        let permit = match connection.map(|connection| (connection, wait(connection))) {
            None => None,
            // The call may take another connection.
            Some((connection, Err(_))) if inner.is_some() && connection.room().is_closed() => None,
            Some((_, waited)) => waited?,
        };
        if deadline.is_some_and(Deadline::has_passed) {
            let reason = "the time for the call was over before it could be sent";
            return Err(Error::timed_out(Timeout::NeverSent, reason));
        }
        drop(inner);
        Ok(Place { target, permit, deadline })
    }

    /// As [`place`](Self::place), but does not wait: `None` if there is no room.
    pub(crate) fn try_place(&self) -> Option<Place> {
        let (target, own) = self.destination();
        let inner = target.innermost_behind();
        let connection = leads_over(&target, inner.as_ref());
        let deadline = default_deadline(own, connection);
        let permit = match connection.map(Connection::room) {
            Some(room) => match room.try_take() {
                // A call on a connection that has ended fails, and takes no room.
                None if !room.is_closed() => return None,
                permit => permit,
            },
            None => None,
        };
        drop(inner);
        Some(Place { target, permit, deadline })
    }

    /// As [`place`](Self::place), but goes beyond the limits of the connection rather than
    /// wait. For what bounds its calls itself.
    pub(crate) fn place_now(&self) -> Place {
        let (target, own) = self.destination();
        let inner = target.innermost_behind();
        let connection = leads_over(&target, inner.as_ref());
        let deadline = default_deadline(own, connection);
        let permit = connection.and_then(|connection| connection.room().try_take());
        drop(inner);
        Place { target, permit, deadline }
    }

    /// What brings the calls on this forward.
    fn means(&self) -> Means {
        let (target, _) = self.destination();
        let inner = target.innermost_behind();
        let connection = leads_over(&target, inner.as_ref());
        connection.and_then(|connection| connection.room().means())
    }

    /// If this very reference only stands in front of another capability, the first one
    /// behind it that does not.
    fn innermost_behind(&self) -> Option<Client> {
        match self.connection() {
            Some(_) => None,
            None => Some(self.behind_this()?.innermost()),
        }
    }

    /// What this leads to, as [`shortened`](Self::shortened) finds it, and the first time
    /// limit on the way there.
    fn destination(&self) -> (Client, Option<Duration>) {
        let Some(mut client) = self.next_resolved() else { return (self.clone(), None) };
        let mut limit = self.timeout();
        while let Some(next) = client.next_resolved() {
            limit = limit.or(client.timeout());
            client = next;
        }
        (client, limit)
    }
}

/// The connection over which a call on `target` leaves, itself or by what is behind it.
fn leads_over<'a>(target: &'a Client, inner: Option<&'a Client>) -> Option<&'a dyn Connection> {
    target.connection().or_else(|| inner?.connection())
}

/// The deadline of a call whose caller set none: by the client's limit, `own`, or else by
/// the connection's. `None` if neither has a limit.
fn default_deadline(
    own: Option<Duration>,
    connection: Option<&dyn Connection>,
) -> Option<Deadline> {
    let timeout = own.or_else(|| connection?.call_timeout());
    timeout.map(Deadline::after)
}

/// A call that has failed already.
fn failed(error: Error, hint: Hint) -> Pending {
    let (cell, interest) = CallCell::new(Sink::Here, hint, origin::current());
    cell.complete(Err(error.not_begun()));
    Pending::new(interest)
}

impl Call {
    /// The size of the parameters, in bytes.
    fn size(&self) -> u64 {
        8 * self.params.size_in_words() as u64
    }
}

impl Place {
    /// What brings the call forward.
    fn means(&self) -> Means {
        self.target.connection()?.room().means()
    }

    /// Sends a call there. Does not wait.
    pub(crate) fn send(self, call: Call, by: By) -> Pending {
        let Call { interface_id, method_id, params, hint } = call;
        let (cell, interest) = CallCell::new(Sink::Here, hint, origin::current());
        match self.deadline.map(Deadline::time) {
            None => {}
            Some(Some(time)) if by == By::Timer && hint != Hint::OnlyPipeline => {
                if let Err(error) = cell.ends_at(time) {
                    return failed(error, hint);
                }
            }
            Some(_) => cell.is_up_to_the_caller(self.deadline.unwrap_or(Deadline::NEVER)),
        }
        cell.begin_span(&self.target, interface_id, method_id);
        let request = CallRequest {
            interface: interface_id,
            method: method_id,
            params,
            cell,
            permit: self.permit,
            tail: Tail::No,
        };
        if by == By::Caller {
            own_call::expect(Arc::as_ptr(&request.cell) as usize);
        }
        self.target.deliver(Delivery::Call(request));
        Pending::new(interest)
    }
}

/// Waits until the limits of a connection allow one more question, if this thread acts
/// for the application.
///
/// # Errors
/// The connection has ended, or the deadline has passed.
pub(crate) fn wait_for_room(room: &Arc<Room>, deadline: Deadline) -> Result<Option<Permit>> {
    if let Some(permit) = room.try_take() {
        return Ok(Some(permit));
    }
    if !role::may_wait() {
        return Ok(None);
    }
    effects::catch_up();
    room.wait(role::asker(), deadline).map(Some)
}
