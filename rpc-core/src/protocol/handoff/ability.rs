//! Whether a host knows handoffs, as far as an introducer can tell.
//!
//! Nothing answers a Provide. A peer that does not know it, or an Accept, echoes it, and goes on.
//! But some of these end the connection when they get the Disembargo that follows a Provide, as
//! C++ 1.x does, or the Finish, as C++ 0.9 does. So these are not sent before the peer has shown
//! that it knows a Provide: by a message of its own that it could not send otherwise, or by an
//! answer to something that it was asked after the first Provide or Accept, whose echo would have
//! come before. If it has not been asked anything, it is asked for its bootstrap capability,
//! which any peer answers.
//!
//! # State model
//!
//! ```text
//! Unsure ──a Provide or an Accept of the peer, or a Return to what was asked later──► Able
//! ```
//!
//! What the peer refuses, `Machine::refused_handoffs` tells; then nothing follows a Provide.

use crate::budget::Place;
use crate::ids::{QuestionId, Serial};
use crate::wire::AcceptEmbargo;

/// What is known of a host.
pub(crate) enum Ability {
    Unsure {
        /// What was asked afterwards is answered behind an echo of the first Provide or Accept.
        first: Option<Serial>,
        /// What follows Provides, in order.
        followers: Vec<Follower>,
        /// Whether something was asked on purpose.
        asked: bool,
    },
    Able,
}

/// What follows a Provide.
pub(crate) enum Follower {
    Lift(QuestionId, AcceptEmbargo),
    /// With the place of what is taken back: until this is sent, it is provided.
    Finish(QuestionId, Place),
}

impl Default for Ability {
    fn default() -> Self {
        Ability::Unsure { first: None, followers: Vec::new(), asked: false }
    }
}

impl Ability {
    pub(crate) fn is_able(&self) -> bool {
        matches!(self, Ability::Able)
    }
}
