//! Work that is bound to the life of a connection, or of an object.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cap::effects;
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};
use crate::work::executor::Executor;

/// Starts threads that end with a connection, or with whatever owns an
/// [`OwnedSupervisor`]. Cloning gives another handle on the same group.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// Tells a supervised thread that it should end.
#[derive(Clone)]
pub struct StopToken {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    phase: Phase,
    running: usize,
    handles: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    Stopped,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        Supervisor { shared: Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Starts a thread that is asked to stop, and joined, when the connection or the
    /// owner ends. Waiting for answers over that connection ends by itself then; for
    /// everything else the thread has to look at the token.
    ///
    /// # Errors
    /// `disconnected` when that has ended already, `overloaded` when
    /// the system has no thread to give.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        work: impl FnOnce(&StopToken) + Send + 'static,
    ) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.phase == Phase::Stopped {
            return Err(Error::disconnected("what this work was for has ended"));
        }
        let token = self.token();
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                /// Counts the thread down also when its work panics.
                struct Leave(StopToken);
                impl Drop for Leave {
                    fn drop(&mut self) {
                        self.0.shared.state.lock().running -= 1;
                        self.0.shared.changed.notify_all();
                    }
                }
                let leave = Leave(token);
                work(&leave.0);
            })
            .map_err(|error| Error::overloaded(format!("no thread could be started: {error}")))?;
        state.running += 1;
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(handle);
        Ok(())
    }

    /// A token that tells when the connection or the owner ends.
    pub fn token(&self) -> StopToken {
        StopToken { shared: Arc::clone(&self.shared) }
    }

    fn is_empty(&self) -> bool {
        self.shared.state.lock().running == 0
    }

    /// Asks every thread to stop, and starts no more.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().phase = Phase::Stopped;
        self.shared.changed.notify_all();
    }

    /// Waits for the threads, other than the current one. Returns whether all
    /// ended before the deadline.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.shared.state.lock();
        let current = std::thread::current().id();
        let own = usize::from(state.handles.iter().any(|handle| handle.thread().id() == current));
        while state.running > own {
            match deadline {
                None => self.shared.changed.wait(&mut state),
                Some(deadline) => {
                    let late = self.shared.changed.wait_until(&mut state, deadline).timed_out();
                    if late && state.running > own {
                        return false;
                    }
                }
            }
        }
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            if handle.thread().id() != current && handle.join().is_err() {
                tracing::error!("a supervised thread panicked");
            }
        }
        true
    }
}

/// A [`Supervisor`] whose threads end with whatever owns this, such as an object that
/// has it as a field: see [`Vat::supervisor`](super::Vat::supervisor).
///
/// When it is dropped the threads are asked to stop, and a worker of its vat waits for
/// them: the drop itself waits for nobody, because objects are dropped on threads that
/// must not. Shutting the vat down ends them, too, and waits for them.
pub struct OwnedSupervisor {
    supervisor: Supervisor,
    executor: Arc<dyn Executor>,
}

impl OwnedSupervisor {
    pub(super) fn new(executor: Arc<dyn Executor>) -> Self {
        OwnedSupervisor { supervisor: Supervisor::new(), executor }
    }

    /// Asks every thread to stop, and waits for them, other than the current one, no
    /// longer than `timeout`. Returns whether all have ended.
    ///
    /// # Errors
    /// This thread must not wait.
    pub fn end(&self, timeout: Duration) -> Result<bool> {
        self.supervisor.stop();
        let deadline = Instant::now().checked_add(timeout);
        effects::blocking(|| self.supervisor.join(deadline))
    }

    pub(super) fn group(&self) -> WeakSupervisor {
        WeakSupervisor { shared: Arc::downgrade(&self.supervisor.shared) }
    }
}

impl Deref for OwnedSupervisor {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.supervisor
    }
}

impl Drop for OwnedSupervisor {
    fn drop(&mut self) {
        self.supervisor.stop();
        if !self.supervisor.is_empty() {
            let supervisor = self.supervisor.clone();
            let join = move || {
                // On a worker, that gives its place up while it waits.
                let _ = effects::blocking(|| supervisor.join(None));
            };
            // Without a worker they end all the same, and nobody hears of it.
            let _ = self.executor.spawn(Box::new(join));
        }
    }
}

impl fmt::Debug for OwnedSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedSupervisor").field(&self.supervisor).finish()
    }
}

/// What a vat knows of its supervisors.
pub(super) struct WeakSupervisor {
    shared: Weak<Shared>,
}

impl WeakSupervisor {
    pub(super) fn is_gone(&self) -> bool {
        self.shared.strong_count() == 0
    }

    pub(super) fn upgrade(&self) -> Option<Supervisor> {
        self.shared.upgrade().map(|shared| Supervisor { shared })
    }
}

impl StopToken {
    /// Whether the thread should end.
    pub fn is_stopped(&self) -> bool {
        self.shared.state.lock().phase == Phase::Stopped
    }

    /// Waits until the thread should end.
    pub fn wait(&self) {
        let mut state = self.shared.state.lock();
        while state.phase == Phase::Running {
            self.shared.changed.wait(&mut state);
        }
    }

    /// Waits until the thread should end, no longer than `timeout`. Returns
    /// whether it should.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            self.wait();
            return true;
        };
        let mut state = self.shared.state.lock();
        while state.phase == Phase::Running {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.phase == Phase::Stopped
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.shared.state.lock().running;
        f.debug_struct("Supervisor").field("running", &running).finish()
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken").field("stopped", &self.is_stopped()).finish()
    }
}
