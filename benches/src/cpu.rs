//! How much processor time this process has used.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of all threads of this process so far, in user and in
/// kernel mode.
pub fn time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // This clock starts at zero with the process and only ever goes forward.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
