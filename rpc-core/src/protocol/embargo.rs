//! Embargoes: promises of the peer that turned out to be on our side, while
//! calls that were sent through them are still on their way there and back.
//!
//! # State model
//!
//! ```text
//! Waiting ──Disembargo(receiverLoopback) received──► gone, promise resolved
//! ```
//!
//! Note [embargo]
//!
//! A promise of the peer resolves, in a Return or a Resolve, to something that
//! is not behind the peer: named as `receiverHosted` or `receiverAnswer`. Calls
//! that were sent through the promise went to the peer, which sends them on to
//! us. A call that is made now could reach the target directly and overtake
//! them. So the promise resolves to an embargo first, a promise of ours in whose
//! queue new calls wait, and a Disembargo follows the earlier calls to the peer
//! and, behind them, back to us. When it arrives all of them have, and the
//! embargo resolves.
//!
//! There is nothing to wait for when nothing was sent through the promise, or
//! when it turned out to be null or broken. When the target is another promise
//! of the same peer's (named by the peer as its own), calls keep going the same
//! way and the mark that something was sent moves on to that promise.
//!
//! In the results of a call, the embargo also takes the target's place in the
//! results' capability table: whoever reads the results afterwards is not ahead
//! of the pipelined calls either.

use std::sync::Arc;

use crate::cap::client::Client;
use crate::cap::local_promise::LocalPromise;

/// One embargo.
pub(crate) struct Embargo {
    /// Holds back new calls.
    pub(crate) promise: Arc<LocalPromise>,
    /// What it will be resolved to: the way that the calls before it took.
    pub(crate) target: Client,
}
