//! How many calls may be under way at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::cap::interceptor::{InterceptedCall, Interceptor, Release, Verdict, delay};
use crate::error::{Error, Result};
use crate::sync::Mutex;

/// An interceptor that limits how many calls are under way at once. Clones share the
/// limit, wherever they stand.
///
/// Calls beyond the limit fail with `overloaded`, or wait in order if there is a
/// [`queue`](Self::queue). A call is under way until it is answered. One that was cancelled
/// counts until its method has ended.
///
/// ```
/// use capnp_threads_core::interceptors::{ConcurrencyLimit, Interceptors};
/// use capnp_threads_core::vat::VatConfig;
///
/// // No more than 64 calls of all peers together; 1,000 others may wait.
/// let mut config = VatConfig::default();
/// config.interceptors = Interceptors::new().incoming(ConcurrencyLimit::new(64).queue(1_000));
/// ```
#[derive(Clone)]
pub struct ConcurrencyLimit {
    limit: usize,
    queue: usize,
    /// The lock is a leaf, and nothing is dropped under it.
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    next: u64,
    /// The calls that wait, in the order in which they came.
    waiting: BTreeMap<u64, Release>,
}

impl ConcurrencyLimit {
    /// Allows this many calls at once, and lets no other wait.
    pub fn new(calls: usize) -> Self {
        ConcurrencyLimit { limit: calls, queue: 0, state: Arc::default() }
    }

    /// Lets up to this many other calls wait.
    #[must_use]
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }

    fn end_one(&self) {
        let next = {
            let mut state = self.state.lock();
            state.under_way -= 1;
            let next = state.waiting.pop_first();
            state.under_way += usize::from(next.is_some());
            next
        };
        if let Some((_, release)) = next {
            release.pass();
        }
    }

    /// Ends a call that had to wait.
    fn end_numbered(&self, number: u64) {
        let gone = self.state.lock().waiting.remove(&number);
        if gone.is_none() {
            self.end_one();
        }
    }
}

impl Interceptor for ConcurrencyLimit {
    fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict> {
        let this = self.clone();
        let mut state = self.state.lock();
        if state.under_way < self.limit && state.waiting.is_empty() {
            state.under_way += 1;
            drop(state);
            call.on_answer(move |_| this.end_one());
            return Ok(Verdict::Pass);
        }
        // Without a call under way nothing would end the wait.
        if state.waiting.len() < self.queue && self.limit > 0 {
            let number = state.next;
            state.next += 1;
            let (delay, release) = delay();
            state.waiting.insert(number, release);
            drop(state);
            call.on_answer(move |_| this.end_numbered(number));
            return Ok(Verdict::Delay(delay));
        }
        drop(state);
        Err(Error::overloaded(format!(
            "{} calls are under way, which is the limit here; try again later",
            self.limit
        )))
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("ConcurrencyLimit")
            .field("limit", &self.limit)
            .field("queue", &self.queue)
            .field("under_way", &state.under_way)
            .field("waiting", &state.waiting.len())
            .finish()
    }
}
