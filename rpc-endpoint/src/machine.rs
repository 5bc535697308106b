//! The state machine of a peer, without threads, sockets or a clock.
//!
//! A [`Peer`] is one TCP connection between an endpoint of ours and an endpoint
//! elsewhere, from the first attempt to its end. Its methods take what happened
//! and append to a list of [`Output`]s what is to be done about it; what is to be
//! written gathers in its outbox.
//!
//! ```text
//!           our dial                 their dial
//!              │                         │
//!              ▼        accepted         ▼         unused
//!            Init ───────────────────► Valid ◄──────────────► Closing
//!              │                         │    theirs Created     │
//!  refused, or │                    both │                       │ agreed, or
//!     given up ▼                 unused  ▼                       │ no answer
//!           Invalid                    Closed ◄──────────────────┘
//!
//!            any of Init, Valid, Closing ──── lost, or endpoint closed ───► Failed
//! ```
//!
//! The rules that the rest relies on:
//!
//! - **Leave first.** A peer that becomes Invalid, Closed or Failed leaves its
//!   endpoint's registry in the same step. Whoever finds a dead peer looks again
//!   and finds another one or none.
//! - **Lost once.** Only the step from Valid to Failed reports a loss; it comes
//!   after every other event of the peer, and before the peer leaves the
//!   registry, so before a new connection to the same address.
//! - **Nothing is sent in Closing** but what was queued before. The first Created
//!   of the peer ends Closing. A `CloseSocket` that has not been written yet is
//!   taken back instead when a connection is wanted.
//! - **A socket is given up by both.** `CloseSocket` says which connection was the
//!   last to be seen; it is refused while a connection is open, or was opened
//!   that the peer had not seen.

mod fifo;
mod ids;
mod intake;
mod outbox;
mod peer;
mod streams;

pub(super) use outbox::Piece;
pub(super) use peer::{Connect, Dialled, HangUp, Held, Inbound, Output, Peer, Refusal, Rules};

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, unused_imports, missing_docs))]
pub(crate) mod tests;
