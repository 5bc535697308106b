//! Threads whose end others wait for with a deadline.

use std::sync::Arc;
use std::thread::{self, ThreadId};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::work::event::Event;

/// The end of a thread of a system.
#[derive(Clone)]
pub(super) struct Ended {
    event: Arc<Event>,
    thread: ThreadId,
}

/// Announces the end of a thread, even if that is a panic.
struct Tell(Arc<Event>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Ended {
    /// Starts a thread.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Self> {
        let event = Arc::new(Event::default());
        let tell = Tell(Arc::clone(&event));
        let run = move || {
            let _tell = tell;
            work();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
            Error::overloaded(format!("the thread {name} could not be started: {error}"))
        })?;
        Ok(Ended { event, thread: thread.thread().id() })
    }

    /// Waits for the end, unless this is the thread itself. Returns `false` when the
    /// deadline came first.
    pub(super) fn wait(&self, deadline: Deadline) -> bool {
        self.thread == thread::current().id() || self.event.park(deadline)
    }
}
