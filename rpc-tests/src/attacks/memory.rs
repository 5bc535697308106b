//! How much memory this process holds, as its allocator counts it.
//!
//! A program that attacks has to declare the allocator:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: rpc_tests::attacks::memory::Counting = rpc_tests::attacks::memory::Counting;
//! # assert!(rpc_tests::attacks::memory::held() > 0);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What is refused: allocations of so many bytes or more.
static REFUSED_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);
/// How many were refused.
static REFUSALS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of what it has given out.
#[derive(Debug)]
pub struct Counting;

fn grow(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    // Most allocations are no peak, and reading is cheaper than writing.
    if held > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
}

fn shrink(bytes: usize) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
}

fn is_refused(bytes: usize) -> bool {
    let refused = bytes >= REFUSED_FROM.load(Ordering::SeqCst);
    if refused {
        REFUSALS.fetch_add(1, Ordering::SeqCst);
    }
    refused
}

// SAFETY: everything is left to the system's allocator, which keeps the contract, or is refused.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are those that `System` asks for.
        let place = unsafe { System.alloc(layout) };
        if !place.is_null() {
            grow(layout.size());
        }
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: as above.
        let place = unsafe { System.alloc_zeroed(layout) };
        if !place.is_null() {
            grow(layout.size());
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) };
        shrink(layout.size());
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // What there is stays where it is.
        if is_refused(size) {
            return ptr::null_mut();
        }
        // SAFETY: as above.
        let moved = unsafe { System.realloc(place, layout, size) };
        if !moved.is_null() {
            // The old place exists until the new one is filled.
            grow(size);
            shrink(layout.size());
        }
        moved
    }
}

/// The bytes that are held. Panics in a program without the [`Counting`] allocator.
pub fn held() -> usize {
    let held = HELD.load(Ordering::Relaxed);
    assert!(held > 0, "the program counts no memory: its allocator must be `Counting`");
    held
}

/// The most that was held since [`forget_peak`].
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed).max(held())
}

/// Starts a new peak from what is held now.
pub fn forget_peak() {
    PEAK.store(held(), Ordering::Relaxed);
}

/// Does something while this process gets no memory in pieces of so many bytes or more. Returns
/// how many were refused, too. Whoever cannot do without ends the process.
pub fn without_pieces_from<R>(bytes: usize, work: impl FnOnce() -> R) -> (R, usize) {
    /// Ends it, whatever the work does.
    struct Scarce;
    impl Drop for Scarce {
        fn drop(&mut self) {
            REFUSED_FROM.store(usize::MAX, Ordering::SeqCst);
        }
    }
    let before = REFUSALS.load(Ordering::SeqCst);
    let scarce = Scarce;
    REFUSED_FROM.store(bytes, Ordering::SeqCst);
    let result = work();
    drop(scarce);
    (result, REFUSALS.load(Ordering::SeqCst) - before)
}
