//! The locks, atomics and threads that this crate uses.
//!
//! Note [models]
//!
//! Normally these are `parking_lot`'s and the standard library's. With
//! `--cfg rpc_model` they are shuttle's: all threads of a test are then coroutines on
//! one thread, a scheduler decides at each operation which of them goes on, and an
//! interleaving that fails can be repeated. In such a build only the tests in modules
//! called `models` work, which run inside `explore`.
//!
//! No other coroutine runs between two of these operations. So the use of something
//! that is not from this module (`OnceLock`, `LazyLock`, `SegQueue`, `flume`, the maps
//! outside of `protocol`) is a single step of the coroutine. A coroutine must not reach
//! an operation of this module while it holds a lock inside such a thing, as the
//! initialiser of a `OnceLock` does: the one thread would wait for itself. Memory
//! orderings are not explored, and need not be: every atomic on which something rests is
//! sequentially consistent, in a model and outside, which a test requires of the sources.
//! There is no clock: a coroutine that waits with a deadline either is woken by a
//! change or finds its time over, as the scheduler decides.
//!
//! The parker is the same in both, and made of these operations. Only what it asks the
//! system for, its bell, is a condition in a model.

mod arrivals;
#[cfg(all(test, rpc_model))]
mod explore;
#[cfg(not(rpc_model))]
mod map;
#[cfg(rpc_model)]
mod model;
#[cfg(all(test, rpc_model))]
mod models;
mod parker;
#[cfg(not(rpc_model))]
mod polling;
#[cfg(not(rpc_model))]
mod spin;
mod tally;

pub use self::arrivals::Arrivals;
#[cfg(all(test, rpc_model))]
pub(crate) use self::explore::{explore, explore_all, explore_chances, explore_switches};
#[cfg(not(rpc_model))]
pub(crate) use self::map::Map;
#[cfg(rpc_model)]
pub(crate) use self::model::{
    Condvar, Map, Mutex, MutexGuard, RwLock, Signal, Spin, Standby, StandbySet, Stopwatch, atomic,
    thread, thread_local,
};
pub(crate) use self::parker::{Parker, Polled, Unparker};
#[cfg(not(rpc_model))]
pub(crate) use self::polling::{Standby, StandbySet};
#[cfg(not(rpc_model))]
pub(crate) use self::spin::{Spin, Stopwatch};
pub(crate) use self::tally::{Count, Flag, Level, Mark, Shared, Tally};
#[cfg(not(rpc_model))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(rpc_model))]
pub(crate) use std::{sync::atomic, thread, thread_local};
