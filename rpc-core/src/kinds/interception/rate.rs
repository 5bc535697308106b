//! How many calls may come in a time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::cap::effects;
use crate::cap::interceptor::{InterceptedCall, Interceptor, Release, Verdict, delay};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::work::executor::Job;
use crate::work::pool::Pool;
use crate::work::timer::{self, Expire, Ticket};

/// An interceptor that limits how many calls pass in a time. Clones share the limit,
/// wherever they stand.
///
/// Calls beyond the limit fail with `overloaded`, or wait in order if there is a
/// [`queue`](Self::queue).
///
/// ```
/// use capnp_threads_core::interceptors::{Interceptors, RateLimit};
/// use capnp_threads_core::ConnConfig;
///
/// // 100 calls a second of this peer's, and up to 20 at once after a pause. One that comes
/// // too early waits.
/// let limit = RateLimit::per_second(100).burst(20).queue(1);
/// let config = ConnConfig::new().interceptors(Interceptors::new().incoming(limit));
/// ```
#[derive(Clone)]
pub struct RateLimit {
    pace: Pace,
    queue: usize,
    shared: Arc<Shared>,
}

/// How fast calls may come.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    burst: u32,
}

struct Shared {
    /// The lock is a leaf, and nothing is dropped under it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bucket: Bucket,
    /// The pace of the calls that wait.
    pace: Option<Pace>,
    next: u64,
    waiting: BTreeMap<u64, Release>,
    /// When the first that waits may pass.
    ticket: Option<Ticket>,
}

/// When the next call is expected at the latest, if all come as fast as they may.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(Option<Instant>);

impl Bucket {
    /// Lets a call pass.
    ///
    /// # Errors
    /// When the next one may pass.
    fn take(&mut self, pace: Pace, now: Instant) -> Result<(), Instant> {
        let expected = self.0.map_or(now, |expected| expected.max(now));
        let early = pace.interval.saturating_mul(pace.burst.saturating_sub(1));
        if expected.duration_since(now) > early {
            return Err(expected.checked_sub(early).unwrap_or(now));
        }
        // A time that cannot be told apart from now is far enough away to be never.
        self.0 = Some(expected.checked_add(pace.interval).unwrap_or(expected));
        Ok(())
    }
}

impl RateLimit {
    /// Allows this many calls a second (at least one), evenly, and as many at once after a
    /// pause.
    pub fn per_second(calls: u32) -> Self {
        Self::per(calls, Duration::from_secs(1))
    }

    /// Allows this many calls (at least one) in each such time.
    pub fn per(calls: u32, time: Duration) -> Self {
        let calls = calls.max(1);
        RateLimit {
            pace: Pace { interval: time / calls, burst: calls },
            queue: 0,
            shared: Arc::new(Shared { state: Mutex::default() }),
        }
    }

    /// Sets how many calls (at least one) may come at once after a pause.
    #[must_use]
    pub fn burst(mut self, calls: u32) -> Self {
        self.pace.burst = calls.max(1);
        self
    }

    /// Lets up to this many calls wait until they may pass.
    #[must_use]
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }
}

impl Interceptor for RateLimit {
    fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict> {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let free = state.waiting.is_empty();
        let later = if free { state.bucket.take(self.pace, now).err() } else { Some(now) };
        let Some(later) = later else { return Ok(Verdict::Pass) };
        if state.waiting.len() >= self.queue {
            drop(state);
            return Err(Error::overloaded(format!(
                "calls come faster than one in {:?}, which is the limit here; slow down",
                self.pace.interval
            )));
        }
        let number = state.next;
        state.next += 1;
        state.pace = Some(self.pace);
        let (delay, release) = delay();
        state.waiting.insert(number, release);
        drop(state);
        let shared = Arc::clone(&self.shared);
        call.on_answer(move |_| {
            // It may have been cancelled while it waited.
            let gone = shared.state.lock().waiting.remove(&number);
            drop(gone);
        });
        if free {
            self.shared.wake_at(later)?;
        }
        Ok(Verdict::Delay(delay))
    }
}

impl Shared {
    /// Lets calls that wait pass from this time on.
    ///
    /// # Errors
    /// The system has no thread to give.
    fn wake_at(self: &Arc<Self>, time: Instant) -> Result<()> {
        let this: Arc<dyn Expire> = Arc::clone(self) as _;
        let what: Weak<dyn Expire> = Arc::downgrade(&this);
        let ticket = timer::at(time, what)?;
        let before = self.state.lock().ticket.replace(ticket);
        drop(before);
        Ok(())
    }

    /// Lets pass what may.
    fn go_on(self: &Arc<Self>) {
        loop {
            let now = Instant::now();
            let mut state = self.state.lock();
            let (Some(pace), false) = (state.pace, state.waiting.is_empty()) else {
                return;
            };
            match state.bucket.take(pace, now) {
                Ok(()) => {
                    let first = state.waiting.pop_first();
                    drop(state);
                    if let Some((_, release)) = first {
                        release.pass();
                    }
                }
                Err(later) => {
                    drop(state);
                    let Err(error) = self.wake_at(later) else { return };
                    // Nothing would wake them.
                    let waiting = std::mem::take(&mut self.state.lock().waiting);
                    waiting.into_values().for_each(|release| release.refuse(error.clone()));
                    return;
                }
            }
        }
    }
}

impl Expire for Shared {
    fn expire(self: Arc<Self>) {
        // Calls pass other interceptors next, which the thread of the timer must not run.
        effects::spawn_or_run(&*Pool::global(), Job::closure(move || self.go_on()));
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("pace", &self.pace)
            .field("queue", &self.queue)
            .field("waiting", &self.shared.state.lock().waiting.len())
            .finish()
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use super::*;

    #[test]
    fn a_pause_allows_a_burst_and_then_calls_pass_evenly() {
        let pace = Pace { interval: Duration::from_millis(10), burst: 3 };
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::default();
        assert!((0..3).all(|_| bucket.take(pace, at(0)).is_ok()));
        assert_eq!(bucket.take(pace, at(0)), Err(at(10)));
        assert_eq!(bucket.take(pace, at(9)), Err(at(10)));
        assert_eq!(bucket.take(pace, at(10)), Ok(()));
        assert_eq!(bucket.take(pace, at(10)), Err(at(20)));
        // Calls that did not come are made up for, but no more than a burst of them.
        assert!((0..3).all(|_| bucket.take(pace, at(1_000)).is_ok()));
        assert_eq!(bucket.take(pace, at(1_000)), Err(at(1_010)));
    }
}
