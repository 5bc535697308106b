//! The signals that ask a process to end.
//!
//! One thread of the process waits for them. It is started when the first server wants
//! signals, and lives as long as the process: once a handler is installed, the system
//! leaves it to this library what a signal does. While no server wants signals they do
//! what they did before, and end the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use super::spawn;
use crate::{Error, Result};

type Tell = Arc<dyn Fn() + Send + Sync>;

/// Number of signals after which the process ends whatever its servers do.
const ENOUGH: u32 = 3;

/// Those who are told of signals.
#[derive(Default)]
struct Subscribers {
    next: u64,
    all: BTreeMap<u64, Tell>,
    /// The number of signals since the first of these subscribed.
    signals: u32,
}

static SUBSCRIBERS: Mutex<Subscribers> =
    Mutex::new(Subscribers { next: 0, all: BTreeMap::new(), signals: 0 });

/// Whether the thread was started, and why not.
static WATCHING: OnceLock<Result<()>> = OnceLock::new();

/// Keeps a subscription until it is dropped.
pub(super) struct Subscription(u64);

/// Runs `tell` at each signal. It must not wait.
///
/// # Errors
/// The system gives no thread or no handler.
pub(super) fn subscribe(tell: impl Fn() + Send + Sync + 'static) -> Result<Subscription> {
    WATCHING.get_or_init(watch).clone()?;
    let mut subscribers = SUBSCRIBERS.lock().unwrap_or_else(PoisonError::into_inner);
    if subscribers.all.is_empty() {
        subscribers.signals = 0;
    }
    subscribers.next += 1;
    let number = subscribers.next;
    subscribers.all.insert(number, Arc::new(tell));
    Ok(Subscription(number))
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let gone = SUBSCRIBERS.lock().unwrap_or_else(PoisonError::into_inner).all.remove(&self.0);
        drop(gone);
    }
}

fn watch() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Error::failed(format!("signals cannot be handled: {error}")))?;
    // It lives as long as the process.
    spawn("rpc-signals", move || signals.forever().for_each(came)).map(drop)
}

impl Subscribers {
    /// Another signal has come. Returns who is told, and whether the process ends.
    fn hear(&mut self) -> (Vec<Tell>, bool) {
        self.signals += 1;
        let told: Vec<Tell> = self.all.values().cloned().collect();
        let enough = told.is_empty() || self.signals >= ENOUGH;
        (told, enough)
    }
}

fn came(signal: i32) {
    let (told, enough) = SUBSCRIBERS.lock().unwrap_or_else(PoisonError::into_inner).hear();
    if enough {
        // This ends the process, as these signals do by default.
        let _ = low_level::emulate_default_handler(signal);
    }
    for tell in told {
        tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_signal_ends_the_process_and_the_first_that_nobody_wants() {
        let mut subscribers = Subscribers::default();
        assert!(subscribers.hear().1, "nobody wants it");
        let mut subscribers = Subscribers::default();
        subscribers.all.insert(1, Arc::new(|| ()));
        let heard = [(); 3].map(|()| subscribers.hear());
        assert_eq!(
            heard.map(|(told, enough)| (told.len(), enough)),
            [(1, false), (1, false), (1, true)]
        );
    }
}
