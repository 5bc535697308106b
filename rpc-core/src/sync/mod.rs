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
//! orderings are not explored: every atomic is sequentially consistent in a model.
//! There is no clock: a coroutine that waits with a deadline either is woken by a
//! change or finds its time over at once, as the scheduler decides.

#[cfg(all(test, rpc_model))]
mod explore;
#[cfg(not(rpc_model))]
mod map;
#[cfg(rpc_model)]
mod model;
#[cfg(not(rpc_model))]
mod parker;
#[cfg(not(rpc_model))]
mod polling;

#[cfg(all(test, rpc_model))]
pub(crate) use self::explore::{explore, explore_all};
#[cfg(not(rpc_model))]
pub(crate) use self::map::Map;
#[cfg(all(test, rpc_model))]
pub(crate) use self::model::Condvar;
#[cfg(rpc_model)]
pub(crate) use self::model::{
    Map, Mutex, MutexGuard, Parker, Polled, RwLock, Signal, Standby, StandbySet, Unparker, atomic,
    thread, thread_local,
};
#[cfg(not(rpc_model))]
pub(crate) use self::parker::{Parker, Polled, Unparker};
#[cfg(not(rpc_model))]
pub(crate) use self::polling::{Standby, StandbySet};
#[cfg(not(rpc_model))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
#[cfg(not(rpc_model))]
pub(crate) use std::{sync::atomic, thread, thread_local};
