//! Something that happens once.

use super::waiting::{self, Waiters};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::sync::Mutex;

/// Something that happens once and that threads wait for.
#[derive(Default)]
pub(crate) struct Event {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    happened: bool,
    waiters: Waiters,
}

impl Event {
    pub(crate) fn set(&self) {
        let called = {
            let mut state = self.state.lock();
            state.happened = true;
            state.waiters.call_all()
        };
        called.wake_now();
    }

    /// Waits on behalf of the application. Returns `false` when the deadline came
    /// first.
    ///
    /// # Errors
    /// See [`waiting::wait`].
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<bool, Error> {
        let happened = waiting::wait(
            &self.state,
            |state| &mut state.waiters,
            deadline,
            |state, _| state.happened.then_some(()),
        )?;
        Ok(happened.is_some())
    }

    /// Waits as part of this library. Returns `false` when the deadline came first.
    pub(crate) fn park(&self, deadline: Deadline) -> bool {
        let happened = waiting::park(
            &self.state,
            |state| &mut state.waiters,
            deadline,
            |state, _| state.happened.then_some(()),
        );
        happened.is_some()
    }
}
