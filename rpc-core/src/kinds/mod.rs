//! Kinds of capabilities that stand in front of others.

pub(crate) mod gateway;
pub mod membrane;
pub(crate) mod reconnect;
