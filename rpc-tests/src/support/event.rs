//! Waiting for what happens.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

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
