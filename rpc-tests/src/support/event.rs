//! Waiting for what happens.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use super::watchdog;

/// Waits until something has become true that no event tells of. If it never
/// does, the test's watchdog ends the wait.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let _doing = watchdog::doing(what);
    while !condition() {
        thread::yield_now();
    }
}

/// Something that happens once and that threads wait for.
#[derive(Clone, Debug, Default)]
pub struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    /// One that has not happened.
    pub fn new() -> Self {
        Event::default()
    }

    /// Makes it happen.
    pub fn set(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    /// Waits until it happens.
    pub fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(guard, |happened| !*happened).unwrap());
    }
}

/// A thread that has gone to sleep in its work.
#[derive(Debug)]
pub struct Blocked<T>(JoinHandle<T>);

impl<T: Send + 'static> Blocked<T> {
    /// Starts a thread and waits until the system says that it sleeps. Panics if the
    /// thread ends instead.
    pub fn spawn(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            // The link leads to the thread's own folder.
            send.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            work()
        });
        let status = Path::new("/proc").join(receive.recv().unwrap()).join("stat");
        // The state follows the name, which is in parentheses.
        let asleep = || match std::fs::read_to_string(&status) {
            Ok(text) => text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')),
            Err(_) => thread.is_finished(),
        };
        until("a thread to fall asleep", || asleep() || thread.is_finished());
        assert!(!thread.is_finished(), "the thread ended instead of blocking");
        Blocked(thread)
    }

    /// Waits for the end of the work, and returns what came of it.
    pub fn join(self) -> T {
        self.0.join().unwrap()
    }
}
