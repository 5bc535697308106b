//! The locks, atomics and threads that this crate is made of.
//!
//! Note [models]
//!
//! Normally these are `parking_lot`'s and the standard library's. With
//! `--cfg rpc_model` they are shuttle's: then all threads of a test are
//! coroutines of one, a scheduler decides at each operation which of them goes on,
//! and an interleaving that fails can be repeated. What runs so are the tests in
//! modules called `models`, inside `explore`; nothing else works
//! in such a build.
//!
//! What a coroutine does between two of these operations, it does at once. So what
//! is not from here (`OnceLock`, `LazyLock`, `SegQueue`, `flume`, the maps outside
//! of `protocol`) is one step of whoever uses it, and nobody may come to an operation
//! of this module while such a thing keeps others out, as the initialiser of a
//! `OnceLock` does: the one thread would wait for itself. Memory orderings are not
//! explored: every atomic is sequentially consistent in a model. There is no clock:
//! who waits with a deadline either hears of a change or finds the time over at
//! once, as the scheduler likes.

#[cfg(all(test, rpc_model))]
mod explore;
#[cfg(not(rpc_model))]
mod map;
#[cfg(rpc_model)]
mod model;
#[cfg(not(rpc_model))]
mod parker;

#[cfg(all(test, rpc_model))]
pub(crate) use self::explore::explore;
#[cfg(not(rpc_model))]
pub(crate) use self::map::Map;
#[cfg(all(test, rpc_model))]
pub(crate) use self::model::Condvar;
#[cfg(rpc_model)]
pub(crate) use self::model::{
    Map, Mutex, MutexGuard, Parker, RwLock, Unparker, atomic, thread, thread_local,
};
#[cfg(not(rpc_model))]
pub(crate) use self::parker::{Parker, Unparker};
#[cfg(not(rpc_model))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
#[cfg(not(rpc_model))]
pub(crate) use std::{sync::atomic, thread, thread_local};
