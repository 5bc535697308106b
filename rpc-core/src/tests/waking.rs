//! Wake-ups in batches: Note [waking together].

use std::sync::Arc;

use crate::cap::call::{CallCell, Sink};
use crate::cap::effects;
use crate::cap::payload::Payload;
use crate::wire::Hint;
use crate::work::interrupt::Interrupt;
use crate::work::waking::{Batch, noted};

fn complete_a_call() -> Arc<CallCell> {
    let (cell, interest) = CallCell::new(Sink::Here, Hint::None);
    cell.complete(Ok(Payload::empty().clone()));
    drop(interest);
    cell
}

#[test]
fn wake_ups_are_noted_while_there_is_a_batch() {
    assert!(complete_a_call().outcome().is_some());
    assert_eq!(noted(), None);
    let batch = Batch::begin();
    assert!(complete_a_call().outcome().is_some());
    complete_a_call();
    assert_eq!(noted(), Some(2));
    drop(batch);
    assert_eq!(noted(), None);
}

#[test]
fn they_are_made_before_application_code_runs() {
    let _batch = Batch::begin();
    complete_a_call();
    assert_eq!(noted(), Some(1));
    let mut left = None;
    effects::application(|| left = noted());
    assert_eq!(left, Some(0));
    complete_a_call();
    assert_eq!(noted(), Some(1));
}

/// A call that is waited for by another thread, and answered in a batch that goes
/// on with code which waits for that thread.
#[test]
fn application_code_may_wait_for_a_thread_that_is_woken_in_the_same_batch() {
    let (cell, interest) = CallCell::new(Sink::Here, Hint::None);
    let waiting = std::thread::spawn(move || {
        let never = Interrupt::never();
        let outcome = interest.cell().wait(None, &never);
        outcome.is_ok_and(|outcome| outcome.is_some())
    });
    let _batch = Batch::begin();
    cell.complete(Ok(Payload::empty().clone()));
    let mut answered = None;
    effects::application(|| answered = waiting.join().ok());
    assert_eq!(answered, Some(true));
}
