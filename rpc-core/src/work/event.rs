//! Something that happens once.

use std::time::Instant;

use super::interrupt::{Interrupt, Wake};
use crate::error::Error;
use crate::sync::{Condvar, Mutex};

/// Something that happens once and that threads wait for.
#[derive(Default)]
pub(crate) struct Event {
    happened: Mutex<bool>,
    condition: Condvar,
}

impl Event {
    pub(crate) fn set(&self) {
        *self.happened.lock() = true;
        self.condition.notify_all();
    }

    /// Waits; `false` when the deadline came first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        // Nothing else ends the wait.
        self.wait_while(deadline, || Ok(())).unwrap_or(false)
    }

    /// As [`wait`](Self::wait), unless the wait is to end.
    ///
    /// # Errors
    /// It is.
    pub(crate) fn wait_unless(
        &self,
        deadline: Option<Instant>,
        interrupt: &Interrupt,
    ) -> Result<bool, Error> {
        self.wait_while(deadline, || interrupt.check())
    }

    fn wait_while(
        &self,
        deadline: Option<Instant>,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut happened = self.happened.lock();
        while !*happened {
            check()?;
            match deadline {
                None => self.condition.wait(&mut happened),
                Some(deadline) => {
                    if self.condition.wait_until(&mut happened, deadline).timed_out() {
                        return Ok(*happened);
                    }
                }
            }
        }
        Ok(true)
    }
}

impl Wake for Event {
    fn wake(&self) {
        drop(self.happened.lock());
        self.tell();
    }

    fn tell(&self) {
        self.condition.notify_all();
    }
}
