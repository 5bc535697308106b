//! The same under the scheduler of a model: see Note [models].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync as model;

use super::Polled;
use crate::deadline::Deadline;

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread_local;

#[derive(Default)]
pub(crate) struct Mutex<T>(model::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    lock: &'a model::Mutex<T>,
    /// Absent only while its owner waits for a condition.
    held: Option<model::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(model::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { lock: &self.0, held: Some(held) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { lock: &self.0, held: Some(held) })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().unwrap_or_else(|| unreachable!("its owner waits"))
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().unwrap_or_else(|| unreachable!("its owner waits"))
    }
}

#[derive(Debug)]
pub(crate) struct Condvar(model::Condvar);

/// How a wait with a deadline ended.
pub(crate) struct Waited {
    late: bool,
}

impl Waited {
    pub(crate) fn timed_out(&self) -> bool {
        self.late
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(model::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Lets others run once, and finds then that the time is over or not. Whoever waits has
    /// to look again in any case.
    #[expect(clippy::unused_self, reason = "nothing is told in time")]
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> Waited {
        drop(guard.held.take());
        shuttle::thread::yield_now();
        guard.held = Some(guard.lock.lock().unwrap_or_else(PoisonError::into_inner));
        Waited { late: thread_rng().r#gen() }
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    #[cfg(test)]
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// What wakes a coroutine that polls.
#[derive(Default)]
pub(crate) struct Bell(Arc<Hung>);

#[derive(Default)]
struct Hung {
    state: Mutex<Heard>,
    heard: Condvar,
}

#[derive(Default)]
struct Heard {
    /// Whether the bell was rung, and nobody has heard it.
    rung: bool,
    /// Whether something came to be read since the coroutine slept last.
    readable: bool,
}

impl Bell {
    #[expect(clippy::unused_self, reason = "there may be none outside of models")]
    pub(crate) fn is_there(&self, _: u32) -> bool {
        true
    }

    pub(crate) fn ring(&self) {
        self.0.state.lock().rung = true;
        self.0.heard.notify_one();
    }

    /// Sleeps until there is something to read, the bell rings or the deadline comes.
    pub(crate) fn poll(&self, signal: &Arc<Signal>, deadline: Deadline, _: u32) -> Polled {
        let Hung { state, heard } = &*self.0;
        let late = deadline != Deadline::NEVER && thread_rng().r#gen();
        let mut state = state.lock();
        let is_readable = signal.poll(&self.0);
        while !state.rung && !state.readable && !is_readable && !late {
            heard.wait(&mut state);
        }
        let Heard { rung, .. } = std::mem::take(&mut *state);
        let is_readable = signal.poll_no_more(&self.0);
        if is_readable {
            Polled::Readable
        } else if rung || !late {
            Polled::Unparked
        } else {
            Polled::Late
        }
    }
}

/// In a model, time is over for those only who find it so while they sleep.
pub(super) fn has_passed(_: Deadline) -> bool {
    false
}

/// In place of time: any time may have passed.
pub(crate) struct Stopwatch(());

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch(())
    }

    #[expect(clippy::unused_self, reason = "outside of a model there is time in it")]
    pub(crate) fn has_passed(&self, _: Duration) -> bool {
        thread_rng().gen_bool(0.5)
    }
}

/// The right to spin.
pub(crate) struct Spin(());

impl Spin {
    #[expect(clippy::unnecessary_wraps, reason = "there may be no right outside of a model")]
    pub(crate) fn begin() -> Option<Self> {
        Some(Spin(()))
    }

    #[expect(clippy::unused_self, reason = "outside of a model it counts")]
    pub(crate) fn pause(&mut self) {
        shuttle::thread::yield_now();
    }
}

/// What is readable or not, in place of a descriptor.
#[derive(Default)]
pub struct Signal {
    /// As a descriptor's, looking at this and changing it are single steps.
    line: std::sync::Mutex<Line>,
    state: Mutex<Signalled>,
    fired: Condvar,
}

#[derive(Default)]
struct Line {
    readable: bool,
    polling: Vec<Arc<Hung>>,
}

#[derive(Default)]
struct Signalled {
    armed: bool,
    /// The wait of the thread that stands by is to end.
    called: bool,
    /// Where a thread stands by for this signal and others.
    set: Option<Arc<StandbySet>>,
}

impl Signal {
    #[cfg(test)]
    pub(crate) fn set_readable(&self, readable: bool) {
        let (polling, set) = {
            let state = self.state.lock();
            let mut line = self.line();
            line.readable = readable;
            if !readable {
                return;
            }
            let polling = std::mem::take(&mut line.polling);
            drop(line);
            self.fired.notify_one();
            (polling, state.set.clone())
        };
        if let Some(set) = set {
            set.look();
        }
        for bell in polling {
            bell.state.lock().readable = true;
            bell.heard.notify_one();
        }
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_readable(&self) -> bool {
        self.line().readable
    }

    /// Returns whether there is something to read already.
    fn poll(&self, bell: &Arc<Hung>) -> bool {
        let mut line = self.line();
        line.polling.push(Arc::clone(bell));
        line.readable
    }

    fn poll_no_more(&self, bell: &Arc<Hung>) -> bool {
        let mut line = self.line();
        line.polling.retain(|other| !Arc::ptr_eq(other, bell));
        line.readable
    }
}

/// Signals for which one thread stands by.
#[derive(Default)]
pub(crate) struct StandbySet {
    state: Mutex<Standing>,
    fired: Condvar,
}

#[derive(Default)]
struct Standing {
    signals: Vec<(u64, Arc<Signal>)>,
    rung: bool,
}

impl StandbySet {
    #[expect(clippy::unnecessary_wraps, reason = "it can fail outside of models")]
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self::default())
    }

    pub(crate) fn wait(&self, deadline: Deadline) -> std::io::Result<Option<u64>> {
        let late = deadline != Deadline::NEVER && thread_rng().r#gen();
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.rung) || late {
                return Ok(None);
            }
            for (number, signal) in &state.signals {
                let mut state = signal.state.lock();
                if signal.is_readable() && state.armed {
                    state.armed = false;
                    return Ok(Some(*number));
                }
            }
            self.fired.wait(&mut state);
        }
    }

    pub(crate) fn ring(&self) {
        self.state.lock().rung = true;
        self.fired.notify_one();
    }

    /// Lets the thread that stands by look again. The lock is taken so that it does not
    /// miss this between its look and its sleep.
    fn look(&self) {
        let _seen = self.state.lock();
        self.fired.notify_one();
    }
}

/// Where a thread stands by for a signal while it is armed.
pub(crate) struct Standby {
    signal: Arc<Signal>,
    set: Option<Arc<StandbySet>>,
}

impl Standby {
    #[expect(clippy::unnecessary_wraps, reason = "it can fail outside of models")]
    pub(crate) fn new(
        signal: Arc<Signal>,
        shared: Option<(Arc<StandbySet>, u64)>,
    ) -> std::io::Result<Self> {
        let set = shared.map(|(set, number)| {
            set.state.lock().signals.push((number, Arc::clone(&signal)));
            signal.state.lock().set = Some(Arc::clone(&set));
            set
        });
        signal.state.lock().armed = set.is_none();
        Ok(Standby { signal, set })
    }

    #[expect(clippy::unnecessary_wraps, reason = "it can fail outside of models")]
    pub(crate) fn arm(&self) -> std::io::Result<()> {
        self.signal.state.lock().armed = true;
        self.signal.fired.notify_one();
        if let Some(set) = &self.set {
            set.look();
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it can fail outside of models")]
    pub(crate) fn disarm(&self) -> std::io::Result<()> {
        self.signal.state.lock().armed = false;
        Ok(())
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.signal.is_readable()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it can fail outside of models")]
    pub(crate) fn call(&self) -> std::io::Result<()> {
        self.signal.state.lock().called = true;
        self.signal.fired.notify_one();
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it can fail outside of models")]
    pub(crate) fn wait(&self) -> std::io::Result<()> {
        let mut state = self.signal.state.lock();
        while !(state.called || self.signal.is_readable() && state.armed) {
            self.signal.fired.wait(&mut state);
        }
        if !std::mem::take(&mut state.called) {
            state.armed = false;
        }
        Ok(())
    }

    pub(crate) fn descriptor(&self) -> &Arc<Signal> {
        &self.signal
    }
}

#[derive(Default)]
pub(crate) struct RwLock<T>(model::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> model::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> model::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A map under a single lock, so that a `step` that touches its own map is caught,
/// whatever keys it touches.
pub(crate) struct Map<K, V>(Mutex<BTreeMap<K, V>>);

impl<K: Ord + Copy, V> Map<K, V> {
    pub(crate) fn with_shards(_: usize) -> Self {
        Map(Mutex::new(BTreeMap::new()))
    }

    pub(crate) fn insert_new(&self, key: K, value: V) -> Option<V> {
        match self.0.lock().entry(key) {
            Entry::Occupied(_) => Some(value),
            Entry::Vacant(place) => {
                place.insert(value);
                None
            }
        }
    }

    pub(crate) fn remove_if(&self, key: K, condition: impl FnOnce(&V) -> bool) -> Option<V> {
        let mut entries = self.0.lock();
        if entries.get(&key).is_some_and(condition) { entries.remove(&key) } else { None }
    }

    /// A tree needs only what its entries need.
    #[allow(clippy::unused_self)]
    pub(crate) fn shrink(&self) {}

    pub(crate) fn contains(&self, key: K) -> bool {
        self.0.lock().contains_key(&key)
    }

    pub(crate) fn with<R>(&self, key: K, step: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.0.lock().get_mut(&key).map(step)
    }

    pub(crate) fn for_each(&self, mut look: impl FnMut(K, &V)) {
        self.0.lock().iter().for_each(|(key, value)| look(*key, value));
    }
}

pub(crate) mod thread {
    //! The threads of a model.

    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(crate) use shuttle::thread::{Result, Thread, ThreadId, current};

    pub(crate) struct Builder(shuttle::thread::Builder);

    pub(crate) struct JoinHandle<T> {
        handle: shuttle::thread::JoinHandle<T>,
        finished: Arc<AtomicBool>,
    }

    impl Builder {
        pub(crate) fn new() -> Self {
            Builder(shuttle::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Self {
            Builder(self.0.name(name))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            body: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let finished = Arc::new(AtomicBool::new(false));
            let own = Arc::clone(&finished);
            let handle = self.0.spawn(move || {
                let result = body();
                own.store(true, Ordering::SeqCst);
                result
            })?;
            Ok(JoinHandle { handle, finished })
        }
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn is_finished(&self) -> bool {
            self.finished.load(Ordering::SeqCst)
        }

        pub(crate) fn join(self) -> Result<T> {
            self.handle.join()
        }

        pub(crate) fn thread(&self) -> &Thread {
            self.handle.thread()
        }
    }

    #[cfg(test)]
    pub(crate) use shuttle::thread::yield_now;

    #[cfg(test)]
    pub(crate) fn spawn<T: Send + 'static>(
        body: impl FnOnce() -> T + Send + 'static,
    ) -> shuttle::thread::JoinHandle<T> {
        shuttle::thread::spawn(body)
    }
}
