//! Capabilities, the calls that are made on them, and the content of calls.

pub(crate) mod broken;
pub(crate) mod call;
pub(crate) mod calling;
pub(crate) mod capability;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod crossing;
pub(crate) mod delivery;
pub(crate) mod effects;
pub(crate) mod from_client;
pub mod hook;
pub(crate) mod incoming_call;
pub(crate) mod indices;
pub(crate) mod line;
pub(crate) mod local_promise;
mod mailbox;
pub(crate) mod object;
pub(crate) mod payload;
pub(crate) mod pending;
pub(crate) mod pipeline;
pub(crate) mod promise;
pub(crate) mod resolving;
pub(crate) mod roster;
pub(crate) mod stream;
pub(crate) mod timed;
pub(crate) mod watch;
