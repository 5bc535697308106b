//! The same under the scheduler of a model: see Note [models].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, TryLockError};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync as model;

use crate::deadline::Deadline;

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread_local;

#[derive(Default)]
pub(crate) struct Mutex<T>(model::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    /// Absent only while its owner waits for a condition.
    held: Option<model::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(model::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { held: Some(held) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { held: Some(held) })
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

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    #[cfg(test)]
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Where one thread sleeps.
pub(crate) struct Parker(Unparker);

/// What wakes the thread of a [`Parker`].
#[derive(Clone)]
pub(crate) struct Unparker(Arc<Token>);

struct Token {
    state: Mutex<Tokens>,
    came: Condvar,
}

#[derive(Default)]
struct Tokens {
    /// Whether the thread was unparked after it slept last.
    there: bool,
    /// Whether there was something to read after the thread began to poll.
    readable: bool,
}

/// Why a thread polls no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Readable,
    Unparked,
    Late,
    #[expect(dead_code, reason = "polling is always possible in a model")]
    Unable,
}

/// What is readable or not, in place of a descriptor.
#[derive(Default)]
pub struct Signal {
    state: Mutex<Signalled>,
    fired: Condvar,
}

#[derive(Default)]
struct Signalled {
    readable: bool,
    armed: bool,
    polling: Vec<Unparker>,
    /// Where a thread stands by for this signal and others.
    set: Option<Arc<StandbySet>>,
}

impl Signal {
    #[cfg(test)]
    pub(crate) fn set_readable(&self, readable: bool) {
        let (polling, set) = {
            let mut state = self.state.lock();
            state.readable = readable;
            if !readable {
                return;
            }
            self.fired.notify_one();
            (std::mem::take(&mut state.polling), state.set.clone())
        };
        if let Some(set) = set {
            set.look();
        }
        for thread in polling {
            thread.0.state.lock().readable = true;
            thread.0.came.notify_one();
        }
    }

    /// Returns whether there is something to read already.
    fn poll(&self, thread: &Unparker) -> bool {
        let mut state = self.state.lock();
        state.polling.push(thread.clone());
        state.readable
    }

    fn poll_no_more(&self, thread: &Unparker) -> bool {
        let mut state = self.state.lock();
        state.polling.retain(|other| !Arc::ptr_eq(&other.0, &thread.0));
        state.readable
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
                let mut signal = signal.state.lock();
                if signal.readable && signal.armed {
                    signal.armed = false;
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

    pub(crate) fn arm(&self) -> std::io::Result<()> {
        self.signal.state.lock().armed = true;
        self.signal.fired.notify_one();
        if let Some(set) = &self.set {
            set.look();
        }
        Ok(())
    }

    pub(crate) fn disarm(&self) -> std::io::Result<()> {
        self.signal.state.lock().armed = false;
        Ok(())
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.signal.state.lock().readable
    }

    pub(crate) fn wait(&self) -> std::io::Result<()> {
        let mut state = self.signal.state.lock();
        while !(state.readable && state.armed) {
            self.signal.fired.wait(&mut state);
        }
        state.armed = false;
        Ok(())
    }

    pub(crate) fn descriptor(&self) -> &Arc<Signal> {
        &self.signal
    }
}

impl Parker {
    pub(crate) fn new() -> Self {
        Parker(Unparker(Arc::new(Token { state: Mutex::default(), came: Condvar::new() })))
    }

    pub(crate) fn unparker(&self) -> Unparker {
        self.0.clone()
    }

    /// Sleeps until the thread is unparked, or until the deadline comes, which it does after
    /// other threads had a chance to run. Returns whether the deadline has come.
    pub(crate) fn park(&self, deadline: Deadline) -> bool {
        let Token { state, came } = &*self.0.0;
        let mut late = deadline != Deadline::NEVER && thread_rng().r#gen();
        let mut state = state.lock();
        while !state.there && !late {
            if deadline == Deadline::NEVER {
                came.wait(&mut state);
            } else {
                drop(state);
                shuttle::thread::yield_now();
                late = thread_rng().r#gen();
                state = self.0.0.state.lock();
            }
        }
        state.there = false;
        late
    }

    /// Sleeps as [`park`](Self::park) does, and also until there is something to read.
    pub(crate) fn poll(&self, signal: &Arc<Signal>, deadline: Deadline, _: u32) -> Polled {
        let Token { state, came } = &*self.0.0;
        let late = deadline != Deadline::NEVER && thread_rng().r#gen();
        state.lock().readable = false;
        let mut is_readable = signal.poll(&self.0);
        let unparked = {
            let mut state = state.lock();
            while !state.there && !state.readable && !is_readable && !late {
                came.wait(&mut state);
            }
            std::mem::take(&mut state.there)
        };
        is_readable |= signal.poll_no_more(&self.0);
        if unparked {
            Polled::Unparked
        } else if is_readable {
            Polled::Readable
        } else if late {
            Polled::Late
        } else {
            Polled::Unparked
        }
    }

    /// Whether the thread was unparked since it slept last.
    pub(crate) fn is_unparked(&self) -> bool {
        self.0.0.state.lock().there
    }

    /// Whether the thread was unparked since it slept last, which is forgotten then.
    pub(crate) fn was_unparked(&self) -> bool {
        std::mem::take(&mut self.0.0.state.lock().there)
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.state.lock().there = true;
        self.0.came.notify_one();
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

    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        self.0.lock().insert(key, value)
    }

    pub(crate) fn remove(&self, key: K) -> Option<V> {
        self.0.lock().remove(&key)
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
