//! Tests of the queue to the coordinator.
#![allow(clippy::unwrap_used)]

use std::thread;

use super::*;
use crate::sync::Parker;

/// It reads for its own wait, and what unparks it for that may come while it waits for
/// room.
#[test]
fn a_thread_that_has_waited_for_room_looks_what_it_was_unparked_for() {
    let (receiving, entrance, inbox) = Receiving::new(&Limits::default());
    let receiving = Arc::new(receiving);
    let much = receiving.most_bytes + 1;
    receiving.bytes.store(much, Ordering::SeqCst);
    receiving.behind.store(1, Ordering::SeqCst);
    let own = Arc::clone(&receiving);
    let reads = thread::spawn(move || {
        assert!(own.pass_on(&entrance, Incoming::Idle));
        waiting::with_parker(Parker::was_unparked)
    });
    while receiving.full.lock().is_empty() {
        thread::yield_now();
    }
    receiving.worked_off(much);
    assert!(reads.join().unwrap());
    drop(inbox);
}
