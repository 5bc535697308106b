//! Threads that wait and threads that work, and how they come together.

pub(crate) mod event;
pub(crate) mod executor;
pub(crate) mod hands;
pub(crate) mod home;
pub(crate) mod interrupt;
pub(crate) mod left;
pub(crate) mod origin;
pub(crate) mod own_call;
pub(crate) mod pool;
pub(crate) mod posts;
pub(crate) mod progress;
pub(crate) mod role;
pub(crate) mod room;
mod shares;
pub(crate) mod timer;
pub(crate) mod waiting;
pub(crate) mod waking;
pub(crate) mod watch;
