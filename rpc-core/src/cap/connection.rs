//! What capabilities and calls need from a connection.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::payload::Outcome;
use super::watch::Endings;
use crate::error::Error;
use crate::flow::FlowController;
use crate::ids::{AnswerId, ExportId, Serial};
use crate::transport::PeerDescription;
use crate::wire;
use crate::work::progress::Means;
use crate::work::room::Room;

/// A connection, as seen by the capabilities and calls that use it. Unless a method
/// says otherwise, it must not be called under a lock.
pub(crate) trait Connection: Send + Sync {
    // ---- For calls that are made over it

    /// The places among the connection's questions. May be called under a lock.
    fn room(&self) -> &Arc<Room>;

    /// The default time limit of a call over the connection. May be called under a lock.
    fn call_timeout(&self) -> Option<Duration>;

    /// A window for one more stream. May be called under a lock.
    fn flow_controller(&self) -> Box<dyn FlowController>;

    /// Those who are told of the connection's end. May be called under a lock.
    fn endings(&self) -> &Endings;

    // ---- For calls that the peer has made

    /// Who the peer is, as far as the transport knows.
    fn peer(&self) -> &PeerDescription;

    /// The number by which the connection is known in this process.
    fn number(&self) -> u64;

    /// The application's handle on the connection, of a type that the runtime knows.
    /// `None` once the application has dropped it.
    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>>;

    /// Sends the outcome of a call. Returns the outcome as later pipelined calls see it:
    /// with the capabilities to which they are delivered; and this connection, for further use.
    fn return_answer(
        self: Arc<Self>,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> (Outcome, Arc<dyn Connection>);

    /// Records the end of a call of which the peer wants only the pipeline. The outcome
    /// stays in the call's cell; returns it, or an error if there is no room for it.
    fn keep_answer(self: Arc<Self>, id: AnswerId, serial: Serial, outcome: Outcome) -> Outcome;

    /// Sends the Return of a call whose results the peer wants to stay here. Returns the
    /// outcome, or an error if there is no room for it.
    fn return_redirected(
        self: Arc<Self>,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> Outcome;

    /// Records the end of a delivered call that counts as `words` words:
    /// Note [flow limit].
    fn call_is_over(self: Arc<Self>, words: u64);

    /// Takes back a cancelled call that waits, or waited, at this place among the calls
    /// that are held back.
    fn withdraw_held(self: Arc<Self>, place: u64);

    // ---- For promises and disembargoes of the peer

    /// Tells the peer that an exported promise has resolved.
    fn resolve_export(self: Arc<Self>, id: ExportId, serial: Serial);

    /// Refuses a disembargo of the peer that does not lead back to it, which is a
    /// mistake of the peer.
    fn refuse_disembargo(self: Arc<Self>, embargo: u32);

    /// Returns a disembargo to the peer, which was told that its target is this place of
    /// its own.
    fn return_disembargo(self: Arc<Self>, place: wire::Target, embargo: u32);

    // ---- Effects of the connection's transactions: see Note [effects]

    /// Delivers what was held back, as far as the flow limit allows.
    fn release_held(self: Arc<Self>);

    /// Works off the reports of dropped references: Note [releases].
    fn flush_releases(self: Arc<Self>);

    /// Ends the connection's threads: its tables are empty.
    fn disconnected(self: Arc<Self>);
}

/// Whether the two are the same connection.
pub(crate) fn is_same(
    one: *const (dyn Connection + '_),
    other: *const (dyn Connection + '_),
) -> bool {
    std::ptr::addr_eq(one, other)
}

/// The question of a call that was sent. When the last reference to it is dropped, the
/// peer is told that the results are no longer wanted.
pub(crate) trait Question: Send + Sync {
    /// What ends waits for the answer: Note [progress]. May be called under a lock.
    fn means(&self) -> Means;

    /// The question's id. May be called under a lock.
    fn number(&self) -> u32;

    /// The number of the question's connection. May be called under a lock.
    fn connection(&self) -> u64;

    /// Whom the question was sent to. May be called under a lock.
    fn peer(&self) -> &PeerDescription;

    /// Notes that the question with this serial, if it is this one, is in no table any more: then
    /// there is nothing to report when its last reference is dropped. May be called under a lock.
    fn forget(&self, serial: Serial);

    /// The promise for a field of the question's results: the same promise for the same
    /// path. `None` if the results have arrived already.
    ///
    /// Must not be called under a lock.
    fn field(self: Arc<Self>, path: &[u16]) -> Option<Client>;

    /// Ends the question if it is not answered: its call fails with `error`, and so does
    /// everything that was pipelined on it. The peer is told that the results are no
    /// longer wanted.
    ///
    /// Must not be called under a lock.
    fn give_up(self: Arc<Self>, error: &Error);
}
