//! Wake-ups in batches: Note [waking together].

use crate::cap::call::{CallCell, Sink};
use crate::cap::effects;
use crate::cap::payload::Payload;
use crate::deadline::Deadline;
use crate::wire::Hint;
use crate::work::origin::Origin;
use crate::work::waiting::this_thread;
use crate::work::waking::{self, Batch, noted};

#[test]
fn wake_ups_are_noted_while_there_is_a_batch() {
    waking::wake(this_thread());
    assert_eq!(noted(), None);
    let batch = Batch::begin();
    waking::wake(this_thread());
    waking::wake(this_thread());
    assert_eq!(noted(), Some(2));
    drop(batch);
    assert_eq!(noted(), None);
}

#[test]
fn they_are_made_before_application_code_runs_and_at_once_while_it_does() {
    let _batch = Batch::begin();
    waking::wake(this_thread());
    assert_eq!(noted(), Some(1));
    let mut meanwhile = Vec::new();
    effects::application(|| {
        meanwhile.push(noted());
        waking::wake(this_thread());
        meanwhile.push(noted());
    });
    assert_eq!(meanwhile, [None, None]);
    waking::wake(this_thread());
    assert_eq!(noted(), Some(1));
}

/// A call that is waited for by another thread, and answered in a batch that goes
/// on with code which waits for that thread.
#[test]
fn application_code_may_wait_for_a_thread_that_is_woken_in_the_same_batch() {
    let (cell, interest) = CallCell::new(Sink::Here, Hint::None, Origin::LOCAL);
    let waiting = std::thread::spawn(move || {
        let outcome = interest.cell().wait(Deadline::NEVER);
        outcome.is_ok_and(|outcome| outcome.is_some())
    });
    let _batch = Batch::begin();
    cell.complete(Ok(Payload::empty().clone()));
    let mut answered = None;
    effects::application(|| answered = waiting.join().ok());
    assert_eq!(answered, Some(true));
}

/// The other way round: what wakes the other thread is the code in the middle of the
/// batch, which then waits for that thread.
#[test]
fn application_code_may_wait_for_a_thread_that_it_wakes_itself() {
    let (cell, interest) = CallCell::new(Sink::Here, Hint::None, Origin::LOCAL);
    let waiting = std::thread::spawn(move || {
        let outcome = interest.cell().wait(Deadline::NEVER);
        outcome.is_ok_and(|outcome| outcome.is_some())
    });
    let _batch = Batch::begin();
    let mut answered = None;
    effects::application(|| {
        cell.complete(Ok(Payload::empty().clone()));
        answered = waiting.join().ok();
    });
    assert_eq!(answered, Some(true));
}
