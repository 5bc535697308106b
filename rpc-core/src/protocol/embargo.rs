//! Embargoes: for promises of the peer that resolve to capabilities of this side while
//! calls that were sent through them are still on their way to the peer and back.
//!
//! # State model
//!
//! ```text
//! Waiting ──Disembargo(receiverLoopback) received──► gone, promise resolved
//! Waiting ──connection ended───────────────────────► gone, promise broken
//! ```
//!
//! Note [embargo]
//!
//! A promise of the peer may resolve, in a Return or a Resolve, to a capability that is
//! not behind the peer: one that is named as `receiverHosted` or `receiverAnswer`. The
//! calls that were sent through the promise went to the peer, which sends them on to
//! this side. A call that is made now could reach the target directly and overtake
//! them. So the promise first resolves to an embargo, a promise of this side in whose
//! queue new calls wait, and a Disembargo follows the earlier calls to the peer and
//! back. When the Disembargo arrives, all the earlier calls have arrived, and the
//! embargo resolves.
//!
//! There is nothing to wait for if nothing was sent through the promise, or if it
//! resolves to null or to a broken capability. If the target is another promise of the
//! same peer (named by the peer as its own), calls keep taking the same path, and the
//! mark that something was sent moves on to that promise.
//!
//! In the results of a call, the embargo also takes the target's place in the results'
//! capability table: calls on capabilities that are read out of the results do not
//! overtake the pipelined calls either.

use std::sync::Arc;

use super::named::Hosted;
use crate::cap::local_promise::LocalPromise;

/// One embargo.
pub(crate) struct Embargo {
    /// Holds back new calls.
    pub(crate) promise: Arc<LocalPromise>,
    /// The place to which the promise will lead. The earlier calls took the path of that
    /// place, which may have been described to the peer since the embargo began: see
    /// Note [described path].
    pub(super) target: Hosted,
}
