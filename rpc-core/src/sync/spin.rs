//! What a thread needs to spin: time, and a processor.

use std::num::NonZero;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The time since a wait began.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Whether more than that has passed.
    pub(crate) fn has_passed(&self, time: Duration) -> bool {
        self.0.elapsed() > time
    }
}

/// The number of threads of this process that spin.
static SPINNING: AtomicUsize = AtomicUsize::new(0);

/// The number of threads that may spin at once: as many as there are processors for this
/// process.
static MOST: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));

/// Number of pauses in which the processor is kept.
const AT_ONCE: u32 = 2;

/// The right to spin, until it is dropped.
pub(crate) struct Spin {
    /// The number of times that the processor was kept.
    pauses: u32,
}

impl Spin {
    pub(crate) fn begin() -> Option<Self> {
        let spin = Spin { pauses: 0 };
        // The thread that is one too many leaves at once.
        (SPINNING.fetch_add(1, Ordering::SeqCst) < *MOST).then_some(spin)
    }

    /// Lets other threads have the processor that wait for it, after a moment in which that
    /// would take longer than what comes.
    pub(crate) fn pause(&mut self) {
        if self.pauses < AT_ONCE {
            self.pauses += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        SPINNING.fetch_sub(1, Ordering::SeqCst);
    }
}
