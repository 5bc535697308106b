//! What becomes of the outcome of a call that has crossed a barrier.

use std::sync::Arc;

use super::client::Client;
use super::payload::{Outcome, Payload};

/// From which side to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Direction {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        }
    }
}

/// What capabilities are not carried around.
pub(crate) trait Barrier: Send + Sync {
    /// What a capability is on the other side.
    fn cross(self: Arc<Self>, client: &Client, direction: Direction) -> Client;
}

/// A barrier, in one direction: what happens to the capabilities in the outcome of a
/// call that crossed it.
#[derive(Clone)]
pub(crate) struct Crossing {
    barrier: Arc<dyn Barrier>,
    direction: Direction,
}

impl Crossing {
    pub(crate) fn new(barrier: Arc<dyn Barrier>, direction: Direction) -> Self {
        Crossing { barrier, direction }
    }

    /// What a capability of the outcome is to the caller.
    pub(crate) fn client(&self, client: &Client) -> Client {
        Arc::clone(&self.barrier).cross(client, self.direction)
    }

    /// What content is to the caller.
    pub(crate) fn payload(&self, content: &Payload) -> Payload {
        if content.caps().is_empty() {
            return content.clone();
        }
        content.with_caps(content.caps().iter().map(|client| self.client(client)).collect())
    }

    /// What the outcome is to the caller.
    pub(crate) fn outcome(&self, outcome: &Outcome) -> Outcome {
        outcome.as_ref().map(|payload| self.payload(payload)).map_err(Clone::clone)
    }
}
