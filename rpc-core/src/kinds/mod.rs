//! Kinds of capabilities that stand in front of others.

pub(crate) mod backoff;
pub(crate) mod gateway;
pub(crate) mod interception;
pub mod membrane;
pub mod outbox;
pub(crate) mod reconnect;
pub(crate) mod retry;
