//! A log that tests read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rpc_testing::log::Events;
use tracing::Level;

use crate::panics::caught;
use crate::sync::Mutex;

/// Runs code whose events go to a subscriber.
///
/// As long as a program has one subscriber alone, `tracing` asks whichever thread comes
/// first to an event whether it is of interest. That may be the thread of another test,
/// which has none, and then the event is lost for all. With two, all of them are asked.
fn hearing(events: impl tracing::Subscriber + Send + Sync, code: impl FnOnce()) {
    let second = tracing::dispatcher::Dispatch::new(Events::new(Level::TRACE, drop::<String>));
    tracing::subscriber::with_default(events, code);
    drop(second);
}

/// Runs code, and returns what it tells the log.
pub(crate) fn told(code: impl FnOnce()) -> Vec<String> {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let own = Arc::clone(&told);
    let events = Events::new(Level::TRACE, move |event| own.lock().push(event));
    hearing(events, code);
    std::mem::take(&mut *told.lock())
}

#[test]
fn a_subscriber_that_panics_does_no_harm() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let events = Events::new(Level::TRACE, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose");
    });
    hearing(events, || {
        super::tell!(TRACE, "nobody hears this");
        let panicked = caught("a test", || panic!("too")).unwrap_err();
        assert_eq!(panicked.message, "too");
    });
    // The event about the panic is made at a place that other tests use at the same time, and
    // `tracing` may take it for one that no subscriber wants.
    assert!(asked.load(Ordering::SeqCst) >= 1);
}

#[test]
fn the_log_is_told_the_level_the_fields_and_the_text() {
    let lines = told(|| super::tell!(WARN, number = 7, "a {}", "text"));
    assert_eq!(lines, ["WARN message=a text number=7 "]);
}
