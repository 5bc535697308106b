//! Threads that end with a connection or with an object.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cap::effects;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::log::tell;
use crate::memory::GiveBack;
use crate::panics;
use crate::sync::Mutex;
use crate::work::executor::{Executor, Job};
use crate::work::home::OwnThread;
use crate::work::waiting::{self, Waiters};

/// Starts threads that end with a connection, or with the owner of an
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
    /// Where a vat has noted this.
    groups: OnceLock<Weak<Groups>>,
}

/// What a vat supervises, for which its shutdown waits. The lock is a leaf.
#[derive(Default)]
pub(super) struct Groups {
    /// The groups by their addresses. A group that goes takes itself off.
    noted: Mutex<HashMap<usize, Weak<Shared>>>,
}

/// Number of groups, and of threads of each, for which memory is kept.
const KEPT: usize = 16;

#[derive(Default)]
struct State {
    phase: Phase,
    running: usize,
    handles: Vec<OwnThread<JoinHandle<()>>>,
    waiters: Waiters,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    Stopped,
}

impl State {
    /// A thread is about to end.
    fn left(&mut self) {
        self.running -= 1;
        self.forget_finished();
    }

    /// A handle keeps memory of its thread, and most are never joined.
    fn forget_finished(&mut self) {
        self.handles.retain(|thread| thread.get().is_some_and(|handle| !handle.is_finished()));
        self.handles.give_back(KEPT);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let called = {
            let mut state = self.state.lock();
            change(&mut state);
            state.waiters.call_all()
        };
        called.wake_now();
    }

    fn wait<R>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        waiting::park(&self.state, |state| &mut state.waiters, deadline, |state, _| look(state))
    }
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        let (state, groups) = (Mutex::default(), OnceLock::new());
        Supervisor { shared: Arc::new(Shared { state, groups }) }
    }

    /// Starts a thread that is asked to stop, and joined, when the connection or the
    /// owner ends. A wait for an answer over that connection ends by itself then;
    /// otherwise the thread has to look at the token.
    ///
    /// # Errors
    /// `disconnected` when the connection or the owner has ended already, `overloaded`
    /// when the operating system has no thread to give, `failed` when the name contains a
    /// NUL character.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        work: impl FnOnce(&StopToken) + Send + 'static,
    ) -> Result<()> {
        let name: String = name.into();
        if name.contains('\0') {
            return Err(Error::failed(format!(
                "a thread cannot be called {name:?}: a thread's name cannot contain a NUL character"
            )));
        }
        let mut state = self.shared.state.lock();
        if state.phase == Phase::Stopped {
            return Err(Error::disconnected(
                "the connection or the object that this thread was to end with has ended",
            ));
        }
        let token = self.token();
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                /// Counts the thread down, even if its work panics.
                struct Leave(StopToken);
                impl Drop for Leave {
                    fn drop(&mut self) {
                        self.0.shared.change(State::left);
                    }
                }
                let leave = Leave(token);
                let _ = panics::caught("a supervised thread", || work(&leave.0));
            })
            .map_err(|error| Error::overloaded(format!("no thread could be started: {error}")))?;
        state.running += 1;
        state.forget_finished();
        state.handles.push(OwnThread::new(handle));
        Ok(())
    }

    /// A token that says when the connection or the owner ends.
    pub fn token(&self) -> StopToken {
        StopToken { shared: Arc::clone(&self.shared) }
    }

    fn is_empty(&self) -> bool {
        self.shared.state.lock().running == 0
    }

    /// Asks every thread to stop. No more are started.
    pub(crate) fn stop(&self) {
        self.shared.change(|state| state.phase = Phase::Stopped);
    }

    /// Waits for the threads, except the current one. Returns whether all of them ended
    /// before the deadline.
    pub(crate) fn join(&self, deadline: Deadline) -> bool {
        let current = std::thread::current().id();
        let handles = self.shared.wait(deadline, |state| {
            let is_own = |thread: &OwnThread<JoinHandle<()>>| {
                thread.get().is_some_and(|handle| handle.thread().id() == current)
            };
            let own = usize::from(state.handles.iter().any(is_own));
            (state.running <= own).then(|| std::mem::take(&mut state.handles))
        });
        let Some(handles) = handles else { return false };
        for handle in handles.into_iter().filter_map(OwnThread::take) {
            if handle.thread().id() != current && handle.join().is_err() {
                tell!(ERROR, "a supervised thread panicked");
            }
        }
        true
    }
}

/// A [`Supervisor`] whose threads end with its owner, such as an object that has it as
/// a field: see [`Vat::supervisor`](super::Vat::supervisor).
///
/// When it is dropped, the threads are asked to stop, and a worker of the vat waits for
/// them. The drop itself does not wait, because objects may be dropped on threads that
/// must not wait. Shutting the vat down ends the threads, too, and waits for them.
pub struct OwnedSupervisor {
    supervisor: Supervisor,
    executor: Arc<dyn Executor>,
}

impl OwnedSupervisor {
    pub(super) fn new(executor: Arc<dyn Executor>) -> Self {
        OwnedSupervisor { supervisor: Supervisor::new(), executor }
    }

    /// Asks every thread to stop and waits for all of them except the current one, but
    /// no longer than `timeout`. Returns whether all have ended.
    ///
    /// # Errors
    /// This thread must not wait.
    pub fn end(&self, timeout: Duration) -> Result<bool> {
        self.supervisor.stop();
        let deadline = Deadline::after(timeout);
        effects::blocking(|| self.supervisor.join(deadline))
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
                // The worker that runs this gives up its place while it waits.
                let _ = effects::blocking(|| supervisor.join(Deadline::NEVER));
            };
            // Without a worker the threads end all the same, but they are not joined.
            let _ = self.executor.spawn(Job::closure(join));
        }
    }
}

impl fmt::Debug for OwnedSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedSupervisor").field(&self.supervisor).finish()
    }
}

impl Groups {
    pub(super) fn note(self: &Arc<Self>, supervisor: &Supervisor) {
        let shared = &supervisor.shared;
        self.noted.lock().insert(Arc::as_ptr(shared) as usize, Arc::downgrade(shared));
        // A supervisor is of one vat, which notes it once.
        let _ = shared.groups.set(Arc::downgrade(self));
    }

    pub(super) fn all(&self) -> Vec<Supervisor> {
        let noted = self.noted.lock();
        noted.values().filter_map(Weak::upgrade).map(|shared| Supervisor { shared }).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(groups) = self.groups.get().and_then(Weak::upgrade) {
            let mut noted = groups.noted.lock();
            noted.remove(&(std::ptr::from_ref(self) as usize));
            noted.give_back(KEPT);
        }
    }
}

impl StopToken {
    /// Whether the thread should end.
    pub fn is_stopped(&self) -> bool {
        self.shared.state.lock().phase == Phase::Stopped
    }

    /// Waits until the thread should end.
    pub fn wait(&self) {
        self.wait_before(Deadline::NEVER);
    }

    /// Waits until the thread should end, but no longer than `timeout`. Returns whether
    /// the thread should end.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_before(Deadline::after(timeout))
    }

    fn wait_before(&self, deadline: Deadline) -> bool {
        let stopped =
            self.shared.wait(deadline, |state| (state.phase == Phase::Stopped).then_some(()));
        stopped.is_some()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_supervised_leaves_nothing_behind() {
        let groups = Arc::<Groups>::default();
        let mut supervisors: Vec<_> = (0..1_000).map(|_| Supervisor::new()).collect();
        supervisors.iter().for_each(|supervisor| groups.note(supervisor));
        assert_eq!(groups.all().len(), 1_000);
        supervisors.truncate(1);
        assert_eq!(groups.noted.lock().len(), 1);
        assert!(groups.noted.lock().capacity() <= 2 * KEPT);
    }
}
