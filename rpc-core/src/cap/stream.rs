//! Streams: what is on its way to one capability.
//!
//! # State model
//!
//! ```text
//! Room ──sent, and the window is full──► Full ──answered down to half of it──► Room
//!
//! Room, Full ──a message failed──► Failed
//! ```
//!
//! - **Room**: senders go on. One message always has room, whatever the window is.
//! - **Full**: messages are still sent, but each sender waits afterwards.
//! - **Failed**: nobody waits, and nothing more is counted. The error of the first message
//!   that failed is that of every later one.
//!
//! The lock is a leaf: it is taken by senders, and by threads that bring an answer.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::error::{Error, Result, Timeout};
use crate::flow::FlowController;
use crate::sync::Mutex;
use crate::work::progress::Means;
use crate::work::waiting::{self, Called, Waiters};

/// The window of one capability, and the messages that fill it.
pub(crate) struct Stream {
    state: Mutex<State>,
    began: Instant,
}

struct State {
    controller: Box<dyn FlowController>,
    in_flight: u64,
    /// The error that ended the stream.
    failure: Option<Error>,
    waiters: Waiters,
}

/// A message that was counted and has not been answered yet.
pub(crate) struct InFlight {
    stream: Arc<Stream>,
    bytes: u64,
    sent: Duration,
}

impl Stream {
    pub(crate) fn new(controller: Box<dyn FlowController>) -> Arc<Self> {
        Arc::new(Stream {
            state: Mutex::new(State {
                controller,
                in_flight: 0,
                failure: None,
                waiters: Waiters::default(),
            }),
            began: Instant::now(),
        })
    }

    /// Counts a message that is about to be sent.
    ///
    /// # Errors
    /// The error of an earlier message.
    pub(crate) fn send(self: &Arc<Self>, bytes: u64) -> Result<InFlight> {
        let sent = self.began.elapsed();
        let mut state = self.state.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        state.in_flight += bytes;
        state.controller.sent(bytes, sent);
        Ok(InFlight { stream: Arc::clone(self), bytes, sent })
    }

    /// If the window has no room, waits until it is half empty, so that a sender that had
    /// to wait goes on with several messages instead of being woken for each of them.
    ///
    /// # Errors
    /// The error of a message that failed in the meantime, or the error that ends the
    /// wait.
    pub(crate) fn wait_for_room(&self, means: &Means) -> Result<()> {
        let mut enough = State::has_room as fn(&State) -> bool;
        self.wait(means, Deadline::NEVER, |state| {
            let found = enough(state);
            enough = State::is_half_empty;
            found
        })
    }

    /// Whether a sender would go on without waiting.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.failure.is_some() || state.has_room()
    }

    /// Waits until everything was answered.
    ///
    /// # Errors
    /// The error of a message that failed, or the error that ends the wait.
    pub(crate) fn wait_until_empty(&self, means: &Means, deadline: Deadline) -> Result<()> {
        self.wait(means, deadline, |state| state.in_flight == 0)
    }

    /// Waits until the stream has failed, or is in the wanted state. `means` bring that
    /// forward: Note [progress].
    fn wait(
        &self,
        means: &Means,
        deadline: Deadline,
        mut is_wanted: impl FnMut(&State) -> bool,
    ) -> Result<()> {
        let end = waiting::wait_by(
            |_| means.clone(),
            &self.state,
            |state| &mut state.waiters,
            deadline,
            |state, _| match &state.failure {
                Some(error) => Some(Err(error.clone())),
                None => is_wanted(state).then_some(Ok(())),
            },
        )?;
        let too_late =
            || Error::timed_out(Timeout::MayHaveRun, "the stream was not answered in time");
        end.unwrap_or_else(|| Err(too_late()))
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.in_flight == 0 || self.in_flight < self.controller.window()
    }

    fn is_half_empty(&self) -> bool {
        self.in_flight <= self.controller.window() / 2
    }

    /// Whether the stream is in a state that a thread may be waiting for.
    fn is_changed(&self) -> bool {
        self.failure.is_some() || self.is_half_empty()
    }
}

impl InFlight {
    /// Records that the message was answered, with or without an error.
    pub(crate) fn answered(self, failure: Option<&Error>) {
        let now = self.stream.began.elapsed();
        let mut state = self.stream.state.lock();
        state.in_flight -= self.bytes;
        state.controller.answered(self.bytes, self.sent, now);
        if let Some(error) = failure {
            state.failure.get_or_insert_with(|| error.clone());
        }
        // Each thread looks for itself whether its message fits; those for which there
        // is no room wait again.
        let called = if state.is_changed() { state.waiters.call_all() } else { Called::default() };
        drop(state);
        called.wake();
    }
}

/// The place where a capability keeps its stream, which is made when it is first
/// needed.
#[derive(Default)]
pub(crate) struct StreamSlot(OnceLock<Arc<Stream>>);

impl StreamSlot {
    pub(crate) fn get_or_make(
        &self,
        controller: impl FnOnce() -> Box<dyn FlowController>,
    ) -> Arc<Stream> {
        Arc::clone(self.0.get_or_init(|| Stream::new(controller())))
    }

    pub(crate) fn get(&self) -> Option<Arc<Stream>> {
        self.0.get().cloned()
    }

    /// Takes over the stream of a promise that has resolved to this capability, unless
    /// there is a stream already.
    pub(crate) fn adopt(&self, stream: Arc<Stream>) {
        // If there is a stream already, the promise's stream drains by itself.
        let _ = self.0.set(stream);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::flow::FixedWindow;

    #[test]
    fn a_full_window_has_no_room_until_something_was_answered() {
        let stream = Stream::new(Box::new(FixedWindow::new(100)));
        let first = stream.send(60).unwrap();
        assert!(stream.has_room());
        let second = stream.send(60).unwrap();
        assert!(!stream.has_room());
        first.answered(None);
        assert!(stream.has_room());
        second.answered(None);
        stream.wait_until_empty(&None, Deadline::NEVER).unwrap();
    }

    #[test]
    fn a_message_larger_than_the_window_passes_alone() {
        let stream = Stream::new(Box::new(FixedWindow::new(100)));
        let large = stream.send(1000).unwrap();
        assert!(!stream.has_room());
        large.answered(None);
        assert!(stream.has_room());
        let none = Stream::new(Box::new(FixedWindow::new(0)));
        assert!(none.has_room());
    }

    #[test]
    fn the_first_failure_ends_the_stream() {
        let stream = Stream::new(Box::new(FixedWindow::new(100)));
        let first = stream.send(60).unwrap();
        let second = stream.send(60).unwrap();
        first.answered(Some(&Error::failed("one")));
        second.answered(Some(&Error::failed("two")));
        assert_eq!(stream.wait_for_room(&None).unwrap_err().reason(), "one");
        assert_eq!(stream.send(1).err().unwrap().reason(), "one");
        assert_eq!(stream.wait_until_empty(&None, Deadline::NEVER).unwrap_err().reason(), "one");
    }
}
