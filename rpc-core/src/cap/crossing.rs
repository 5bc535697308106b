//! How the outcome of a call changes when it crosses a barrier.

use std::sync::Arc;

use super::client::Client;
use super::payload::{Outcome, Payload};

/// The direction in which a barrier is crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Heading {
    In,
    Out,
}

impl Heading {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Heading::In => Heading::Out,
            Heading::Out => Heading::In,
        }
    }
}

/// A barrier past which no capability can be passed.
pub(crate) trait Barrier: Send + Sync {
    /// The capability that stands for `client` on the other side.
    fn cross(self: Arc<Self>, client: &Client, heading: Heading) -> Client;
}

/// A barrier and a heading: changes the capabilities in the outcome of a call that
/// crossed the barrier.
#[derive(Clone)]
pub(crate) struct Crossing {
    barrier: Arc<dyn Barrier>,
    heading: Heading,
}

impl Crossing {
    pub(crate) fn new(barrier: Arc<dyn Barrier>, heading: Heading) -> Self {
        Crossing { barrier, heading }
    }

    /// A capability of the outcome as the caller gets it.
    pub(crate) fn client(&self, client: &Client) -> Client {
        Arc::clone(&self.barrier).cross(client, self.heading)
    }

    /// Content as the caller gets it.
    pub(crate) fn payload(&self, content: &Payload) -> Payload {
        if content.caps().is_empty() {
            return content.clone();
        }
        content.with_caps(content.caps().iter().map(|client| self.client(client)).collect())
    }

    /// The outcome as the caller gets it.
    pub(crate) fn outcome(&self, outcome: &Outcome) -> Outcome {
        outcome.as_ref().map(|payload| self.payload(payload)).map_err(Clone::clone)
    }
}
