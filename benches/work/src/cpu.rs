//! How much processor time this process has used.

use std::time::Duration;

use cpu_time::ProcessTime;

/// The processor time of all threads of this process so far, in user and in
/// kernel mode. The clock is libc's, which works without the system's shared page, too:
/// callgrind has none.
pub fn time() -> Duration {
    ProcessTime::now().as_duration()
}
