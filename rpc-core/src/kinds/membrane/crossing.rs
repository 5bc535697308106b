//! What a membrane knows of everything that crosses it.
//!
//! The locks in this file and in `wrapped` are leaves: under them nothing is dropped
//! that may run application code, and no other lock is taken.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::wrapped::Wrapped;
use super::{MembranePolicy, Passage};
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::crossing::{Barrier, Heading};
use crate::cap::effects::Asking;
use crate::cap::roster::Roster;
use crate::error::{Error, Result};
use crate::memory::GiveBack;
use crate::panics;
use crate::sync::Mutex;
use crate::work::progress;

/// Number of wrappers for which a membrane without any keeps memory.
const KEPT: usize = 16;

pub(super) struct Shared {
    policy: Arc<dyn MembranePolicy>,
    /// The policy's answer when the membrane was made: capabilities are described under
    /// the lock of a connection, where no application code runs.
    passes_fds: bool,
    /// The barrier, which all membranes around it share.
    root: Arc<Root>,
    state: Mutex<State>,
    /// The calls under way.
    calls: Arc<Roster>,
    _asking: Asking,
}

/// The identity of a barrier. Not zero-sized, so that each has an address of its own.
struct Root {
    _identity: u8,
}

struct State {
    /// The error of everything that would pass, once the membrane is revoked.
    revoked: Option<Error>,
    /// The wrappers, by the address of what they wrap and the direction in which it
    /// crosses.
    wrappers: HashMap<(usize, Heading), Weak<Wrapped>>,
}

impl Barrier for Shared {
    fn cross(self: Arc<Self>, client: &Client, heading: Heading) -> Client {
        self.cross_settled(client.shortened(), heading)
    }
}

impl Shared {
    pub(super) fn new(policy: Arc<dyn MembranePolicy>, sibling: Option<&Arc<Shared>>) -> Arc<Self> {
        let root = sibling
            .map_or_else(|| Arc::new(Root { _identity: 0 }), |other| Arc::clone(&other.root));
        Arc::new(Shared {
            passes_fds: policy.passes_fds(),
            policy,
            root,
            state: Mutex::new(State { revoked: None, wrappers: HashMap::new() }),
            calls: Arc::default(),
            _asking: Asking::begin(),
        })
    }

    pub(super) fn is_same_barrier(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    /// What stands on the other side for `client`, a capability that was shortened.
    pub(super) fn cross_settled(self: &Arc<Self>, client: Client, heading: Heading) -> Client {
        if client.address() == 0 {
            // Null and broken capabilities are the same on both sides. But what is broken
            // now may have been broken by what revoking the membrane cancelled.
            return match self.revoked() {
                Some(error) if client.failure().is_some() => Client::broken(error),
                _ => client,
            };
        }
        let mut depth = 0;
        if let Some(wrapped) = client.kind_as::<Wrapped>() {
            if wrapped.heading() == heading.opposite() && self.is_same_barrier(wrapped.membrane()) {
                return wrapped.passed_back();
            }
            depth = wrapped.depth() + 1;
        }
        if depth >= Wrapped::MAX_DEPTH {
            return Client::broken(Wrapped::too_deep());
        }
        let mut state = self.state.lock();
        if let Some(error) = &state.revoked {
            return Client::broken(error.clone());
        }
        let key = (client.address(), heading);
        let known = state.wrappers.get(&key).and_then(Weak::upgrade);
        let wrapped = known.unwrap_or_else(|| {
            let made = Wrapped::new(Arc::clone(self), heading, client.clone(), depth);
            state.wrappers.insert(key, Arc::downgrade(&made));
            made
        });
        drop(state);
        Client::of(wrapped)
    }

    /// Asks the policy, which is application code. The effects of that code run only when
    /// the call is on its way, because one of them may be the next call that comes here:
    /// Note [effects].
    pub(super) fn decide(
        &self,
        heading: Heading,
        interface: u64,
        method: u16,
        target: &Client,
    ) -> Result<Passage> {
        let ask = || match heading {
            Heading::In => self.policy.inbound_call(interface, method, target),
            Heading::Out => self.policy.outbound_call(interface, method, target),
        };
        answered(ask)?
    }

    /// Whether a call waits for what a promise turns out to be. As
    /// [`decide`](Self::decide).
    ///
    /// # Errors
    /// The policy panicked.
    pub(super) fn waits_for_promises(&self) -> Result<bool> {
        answered(|| self.policy.waits_for_promises())
    }

    /// Whether the file descriptors of capabilities pass.
    pub(super) fn passes_fds(&self) -> bool {
        self.passes_fds
    }

    /// Notes a call that is about to cross, so that revoking ends it.
    pub(super) fn register(&self, cell: &Arc<CallCell>) -> Result<()> {
        // The call enters before this looks whether the membrane is revoked; revoking sets
        // the mark before it takes the calls. So one of the two sees the other.
        self.calls.enter(cell);
        self.revoked().map_or(Ok(()), Err)
    }

    /// Removes a wrapper that is being dropped.
    pub(super) fn forget(&self, key: (usize, Heading), wrapped: *const Wrapped) {
        let mut state = self.state.lock();
        if state.wrappers.get(&key).is_some_and(|own| own.as_ptr() == wrapped) {
            state.wrappers.remove(&key);
            state.wrappers.give_back(KEPT);
        }
    }

    pub(super) fn revoked(&self) -> Option<Error> {
        self.state.lock().revoked.clone()
    }

    pub(super) fn revoke(&self, error: &Error) {
        let wrappers = {
            let mut state = self.state.lock();
            if state.revoked.is_some() {
                return;
            }
            state.revoked = Some(error.clone());
            std::mem::take(&mut state.wrappers)
        };
        // Every call is settled before anything is dropped that it needs: a call that is
        // pipelined on another one must not hear of that one's cancellation instead. Such
        // a call has entered behind the other one, so the last comes first.
        let calls = self.calls.take_all();
        let settled = calls.iter().rev().filter(|cell| {
            // Some may have come to their objects.
            cell.begin_completion(Err(error.clone().unanswered()))
        });
        let settled: Vec<_> = settled.collect();
        // And this is published last: code that learns that a call has failed must find that
        // the wrappers fail, too.
        for wrapped in wrappers.into_values().filter_map(|wrapped| wrapped.upgrade()) {
            wrapped.revoke(error);
        }
        for cell in settled.into_iter().rev() {
            cell.finish_completion();
        }
    }
}

/// The answer of a policy to a question.
///
/// # Errors
/// The policy panicked.
fn answered<R>(ask: impl FnOnce() -> R) -> Result<R> {
    // The policy may take its time.
    progress::let_go();
    panics::caught("the policy of a membrane", ask)
        .map_err(|_| Error::failed("the policy of a membrane panicked"))
}
