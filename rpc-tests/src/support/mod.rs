//! What tests share that run real threads, and the conformance programs with them:
//! vats in pairs, objects to call, a peer that says anything, and means to wait for
//! events instead of sleeping.
//!
//! All of it panics where a test has to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alone;
mod census;
mod event;
pub mod objects;
mod pair;
mod random;
pub mod raw;
pub mod watchdog;

use std::time::Duration;

pub use self::alone::alone;
pub use self::census::{Census, Counted};
pub use self::event::{Event, until};
pub use self::pair::{
    Pair, Wire, settle, threads_named, vat, vat_that_shares_threads, vat_with_pool,
};
pub use self::random::Random;
pub use self::watchdog::Watchdog;
pub use rpc_testing::Blocked;

/// Longer than anything in these tests takes: a wait of this length has found a
/// hang.
pub const LONG: Duration = Duration::from_secs(50);

/// For how long a test repeats itself: `STRESS_SECONDS`, or less than a second.
pub fn stress_time() -> Duration {
    match std::env::var("STRESS_SECONDS") {
        Ok(seconds) => {
            Duration::from_secs_f64(seconds.parse().expect("STRESS_SECONDS must be a number"))
        }
        Err(_) => Duration::from_millis(700),
    }
}
