//! What capabilities and calls need of a connection.

use std::sync::Arc;

use super::client::Client;
use super::payload::Outcome;
use crate::flow::FlowController;
use crate::ids::{AnswerId, ExportId, Serial};
use crate::work::room::Room;

/// A connection, as what is called over it knows it. Where nothing else is said, not to
/// be called under a lock.
pub(crate) trait Connection: Send + Sync {
    // ---- For calls that are made over it

    /// The places among its questions. May be asked under a lock.
    fn room(&self) -> &Arc<Room>;

    /// A window for one more stream. May be asked under a lock.
    fn flow_controller(&self) -> Box<dyn FlowController>;

    // ---- For calls that the peer has made

    /// Sends the outcome of a call. Gives back the outcome with the capabilities that
    /// calls pipelined from now on are for.
    fn return_answer(self: Arc<Self>, id: AnswerId, serial: Serial, outcome: Outcome) -> Outcome;

    /// A call has ended of which the peer wants the pipeline only, which is in the
    /// call's cell.
    fn keep_answer(self: Arc<Self>, id: AnswerId, serial: Serial);

    /// A call has ended whose results the peer wants to stay here.
    fn return_kept(self: Arc<Self>, id: AnswerId, serial: Serial);

    /// A call that was delivered, and counts as so many words, is over:
    /// Note [flow limit].
    fn call_is_over(self: Arc<Self>, words: u64);

    /// Nobody wants a call any more that waits, or waited, at this place among those
    /// that are held back.
    fn withdraw_held(self: Arc<Self>, place: u64);

    // ---- For what the peer has been told of

    /// A promise that was exported has resolved: tells the peer.
    fn resolve_export(self: Arc<Self>, id: ExportId, serial: Serial);

    /// A disembargo of the peer's leads nowhere: the peer should not have asked.
    fn refuse_disembargo(self: Arc<Self>, embargo: u32);

    // ---- What its transactions leave to be done: see Note [effects]

    /// Delivers what was held back, as far as the flow limit allows.
    fn release_held(self: Arc<Self>);

    /// Works off the reports of dropped references: Note [releases].
    fn flush_releases(self: Arc<Self>);

    /// The tables are empty: ends the threads.
    fn disconnected(self: Arc<Self>);
}

/// Whether these are one connection.
pub(crate) fn is_same(
    one: *const (dyn Connection + '_),
    other: *const (dyn Connection + '_),
) -> bool {
    std::ptr::addr_eq(one, other)
}

/// A question that a call has become. When the last reference to it is dropped, the
/// peer is told that nobody wants the results any more.
pub(crate) trait Question: Send + Sync {
    /// The promise for the field of its results: the same one for the same path.
    /// `None` if the results are there already.
    ///
    /// Must not be called under a lock.
    fn field(self: Arc<Self>, path: &[u16]) -> Option<Client>;
}
