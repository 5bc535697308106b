//! How one thread sleeps until another one wakes it.
//!
//! # State model
//!
//! ```text
//!           ┌────────────park───────────► Parked ────┐
//! Running ──┤                                        ├──unpark──► Unparked ──seen──► Running
//!           ├────────────poll───────────► Polling ───┤
//!           └────────────────────────────────────────┘
//! Parked, Polling ──the deadline, or something to read──► Running
//! ```
//!
//! A thread that polls sleeps until a descriptor is readable. It is unparked through a
//! second descriptor, its *bell*, which it gets when it polls for the first time. A thread
//! that runs is unparked without a system call.

use std::sync::Arc;

use super::atomic::{AtomicU8, Ordering};
#[cfg(rpc_model)]
use super::model::{Bell, has_passed};
#[cfg(not(rpc_model))]
use super::polling::{Bell, has_passed};
use super::{Condvar, Mutex};
use crate::deadline::Deadline;
use crate::fd::Descriptor;

/// Where one thread sleeps.
pub(crate) struct Parker(Arc<Inner>);

/// What wakes the thread of a [`Parker`].
#[derive(Clone)]
pub(crate) struct Unparker(Arc<Inner>);

struct Inner {
    state: AtomicU8,
    /// Guards nothing: the state changes without it, but a thread is not called between
    /// its last look and its sleep.
    lock: Mutex<()>,
    called: Condvar,
    bell: Bell,
}

const RUNNING: u8 = 0;
const PARKED: u8 = 1;
const POLLING: u8 = 2;
const UNPARKED: u8 = 3;

/// Why a thread polls no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// There is something to read.
    Readable,
    /// The thread was unparked, or woke without a reason.
    Unparked,
    /// The deadline has come.
    Late,
    /// Polling is not possible here.
    Unable,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Parker(Arc::new(Inner {
            state: AtomicU8::new(RUNNING),
            lock: Mutex::new(()),
            called: Condvar::new(),
            bell: Bell::default(),
        }))
    }

    pub(crate) fn unparker(&self) -> Unparker {
        Unparker(Arc::clone(&self.0))
    }

    /// Sleeps until the thread is unparked or the deadline comes. Returns at once if
    /// the thread was unparked since it slept last, and may return without a reason.
    /// Returns whether the deadline has come.
    pub(crate) fn park(&self, deadline: Deadline) -> bool {
        self.sleep(deadline) || has_passed(deadline)
    }

    /// Returns whether it was the deadline that ended the sleep.
    fn sleep(&self, deadline: Deadline) -> bool {
        let Inner { lock, called, .. } = &*self.0;
        let mut guard = lock.lock();
        if !self.begin(PARKED) {
            return false;
        }
        loop {
            let late = match deadline.time() {
                None => {
                    called.wait(&mut guard);
                    false
                }
                Some(time) => called.wait_until(&mut guard, time).timed_out(),
            };
            if late || self.0.state.load(Ordering::SeqCst) == UNPARKED {
                self.0.state.store(RUNNING, Ordering::SeqCst);
                return late;
            }
        }
    }

    /// Sleeps as [`park`](Self::park) does, and also until the descriptor is readable.
    /// `process` is the id of this process, which the caller has asked for already.
    pub(crate) fn poll(&self, descriptor: &Descriptor, deadline: Deadline, process: u32) -> Polled {
        if !self.0.bell.is_there(process) {
            return Polled::Unable;
        }
        if !self.begin(POLLING) {
            return Polled::Unparked;
        }
        let polled = self.0.bell.poll(descriptor, deadline, process);
        // Whatever else there is, the thread learns that it was unparked.
        if self.0.state.swap(RUNNING, Ordering::SeqCst) == UNPARKED {
            return Polled::Unparked;
        }
        if polled == Polled::Unparked && has_passed(deadline) { Polled::Late } else { polled }
    }

    /// Whether the thread was unparked since it slept last.
    pub(crate) fn is_unparked(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == UNPARKED
    }

    /// Whether the thread was unparked since it slept last, which is forgotten then.
    pub(crate) fn was_unparked(&self) -> bool {
        let state = &self.0.state;
        state.load(Ordering::SeqCst) == UNPARKED && {
            state.store(RUNNING, Ordering::SeqCst);
            true
        }
    }

    /// Declares that the thread is about to sleep; `false` if it was unparked before.
    fn begin(&self, sleep: u8) -> bool {
        let state = &self.0.state;
        let begun = state.compare_exchange(RUNNING, sleep, Ordering::SeqCst, Ordering::SeqCst);
        if begun.is_err() {
            state.store(RUNNING, Ordering::SeqCst);
        }
        begun.is_ok()
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let Inner { state, lock, called, bell } = &*self.0;
        match state.swap(UNPARKED, Ordering::SeqCst) {
            PARKED => {
                drop(lock.lock());
                called.notify_one();
            }
            POLLING => bell.ring(),
            _ => {}
        }
    }
}

#[cfg(all(test, not(rpc_model), any(target_os = "linux", target_os = "android")))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::process;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_polls_wakes_for_what_can_be_read_and_for_being_unparked() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let (descriptor, soon) =
            (Arc::new(there) as Descriptor, Deadline::after(std::time::Duration::ZERO));
        let parker = Parker::new();
        let poll = |deadline| parker.poll(&descriptor, deadline, process::id());
        assert_eq!(poll(soon), Polled::Late);
        here.write_all(&[1]).unwrap();
        assert_eq!(poll(Deadline::NEVER), Polled::Readable);
        parker.unparker().unpark();
        assert_eq!(poll(Deadline::NEVER), Polled::Unparked);
        assert_eq!(poll(Deadline::NEVER), Polled::Readable);
        parker.unparker().unpark();
        assert!(parker.was_unparked() && !parker.was_unparked());
        // Another process rings its own.
        assert_eq!(parker.poll(&descriptor, soon, process::id() + 1), Polled::Unable);
    }

    /// If both come at once, the thread must not go on to read what is there, and then
    /// sleep: nobody unparks it twice.
    #[test]
    fn being_unparked_is_not_lost_behind_something_to_read() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut reader = there.try_clone().unwrap();
        let (tell, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let polling = std::thread::spawn(move || {
            let (descriptor, parker) = (Arc::new(there) as Descriptor, Parker::new());
            for () in begun {
                tell.send(parker.unparker()).unwrap();
                let poll = |deadline| parker.poll(&descriptor, deadline, process::id());
                while poll(Deadline::NEVER) != Polled::Unparked {
                    reader.read_exact(&mut [0]).unwrap();
                }
                while poll(Deadline::after(std::time::Duration::ZERO)) == Polled::Readable {
                    reader.read_exact(&mut [0]).unwrap();
                }
            }
        });
        for _ in 0..2000 {
            begin.send(()).unwrap();
            let thread = told.recv().unwrap();
            here.write_all(&[1]).unwrap();
            thread.unpark();
        }
        drop(begin);
        polling.join().unwrap();
    }
}
