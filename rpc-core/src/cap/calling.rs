//! How calls are made on a client.

use std::sync::Arc;

use super::call::{CallCell, Sink};
use super::client::Client;
use super::delivery::{CallRequest, Delivery, Tail};
use super::effects;
use super::payload::Payload;
use super::pending::Pending;
use super::pipeline::Pipeline;
use crate::error::Result;
use crate::wire::Hint;
use crate::work::role;
use crate::work::room::{Permit, Room};

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
    /// The callee is told by a hint (`noPromisePipelining`) that not all peers are up
    /// to: the C++ implementation (1.x) gives up a call with it that a method passes
    /// on, as a tail call, to an object of a third vat or of the caller's.
    pub fn call_without_pipeline(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
    ) -> Pending {
        self.call_with(interface_id, method_id, params, Hint::NoPipelining)
    }

    fn call_with(&self, interface_id: u64, method_id: u16, params: Payload, hint: Hint) -> Pending {
        let (cell, interest) = CallCell::new(Sink::Here, hint);
        let target = self.shortened();
        let permit = match target.wait_for_room() {
            Ok(permit) => permit,
            Err(error) => {
                cell.complete(Err(error));
                return Pending::new(interest);
            }
        };
        let request = CallRequest {
            interface: interface_id,
            method: method_id,
            params,
            cell,
            permit,
            tail: Tail::No,
        };
        target.deliver(Delivery::Call(request));
        Pending::new(interest)
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
        let stream = self.stream();
        let in_flight = stream.send(8 * params.size_in_words() as u64)?;
        let pending = self.call(interface_id, method_id, params);
        pending.keep_until_done(move |outcome| in_flight.answered(outcome.as_ref().err()));
        if stream.has_room() || !role::may_wait() {
            return Ok(());
        }
        effects::catch_up();
        stream.wait_for_room()
    }

    /// Waits until every streaming call that was made through this capability has been
    /// answered. A call that is not streaming waits for them, too, and also returns
    /// results.
    ///
    /// # Errors
    /// The error of a call of the stream, or one that says that this thread must not
    /// wait.
    pub fn finish_stream(&self) -> Result<()> {
        let stream = self.stream();
        effects::catch_up();
        stream.wait_until_empty()
    }

    /// Waits for room on the connection over which a call would be sent now, if there
    /// is one.
    fn wait_for_room(&self) -> Result<Option<Permit>> {
        if let Some(connection) = self.connection() {
            return wait_for_room(connection.room());
        }
        let Some(behind) = self.behind_this() else { return Ok(None) };
        let innermost = behind.innermost();
        let room = innermost.connection().map(|connection| wait_for_room(connection.room()));
        // If the connection has ended, the call may take another one.
        Ok(room.and_then(Result::ok).flatten())
    }
}

/// Waits until the limits of a connection allow one more question, if this thread acts
/// for the application.
///
/// # Errors
/// The connection has ended.
pub(crate) fn wait_for_room(room: &Arc<Room>) -> Result<Option<Permit>> {
    if let Some(permit) = room.try_take() {
        return Ok(Some(permit));
    }
    if !role::may_wait() {
        return Ok(None);
    }
    effects::catch_up();
    room.wait(role::asker()).map(Some)
}
