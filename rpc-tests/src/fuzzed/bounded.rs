//! That memory is bounded by what was received.

use crate::attacks::memory;

/// What a target may hold however few bytes it gets: connections and their threads.
const ALWAYS: usize = 1 << 20;

/// What it may hold for each byte. A word of a message can name something that takes an entry
/// in a table, a queue and a thread's list.
const PER_BYTE: usize = 2_000;

/// Gives a target some bytes. Panics if it has held more memory at once than there may be for
/// these.
///
/// Counts what the whole process holds: nothing else may be under way.
pub fn bounded(target: fn(&[u8]), bytes: &[u8]) {
    let before = memory::held();
    memory::forget_peak();
    target(bytes);
    let held = memory::peak().saturating_sub(before);
    let most = ALWAYS + PER_BYTE * bytes.len();
    assert!(held <= most, "{held} bytes of memory for {} bytes, at most {most}", bytes.len());
}
