//! Capabilities.
#![allow(missing_docs, clippy::todo, unused_variables)]

use std::time::Duration;

use crate::error::{Error, Result};
use crate::payload::Payload;

/// A capability: a reference to an object here or elsewhere that any thread may
/// hold, clone, call and drop.
#[derive(Clone, Debug)]
pub struct Client(());

impl Client {
    /// The null capability.
    pub fn null() -> Self {
        todo!()
    }
    /// A capability whose calls all fail.
    pub fn broken(error: Error) -> Self {
        todo!()
    }
    /// Makes an object of this process callable.
    pub fn from_dispatch(object: std::sync::Arc<dyn Dispatch>) -> Self {
        todo!()
    }
    pub fn is_null(&self) -> bool {
        todo!()
    }
    /// A number that equal clients share as long as both exist.
    pub fn identity(&self) -> usize {
        todo!()
    }
    /// The local object behind it, if it is one.
    pub fn local_dispatch(&self) -> Option<std::sync::Arc<dyn Dispatch>> {
        todo!()
    }
    /// Starts a call. Application threads may wait here for room.
    pub fn call(&self, interface_id: u64, method_id: u16, params: Payload) -> Pending {
        todo!()
    }
}

/// A call that was started. Dropping the last handle cancels it.
#[derive(Clone, Debug)]
pub struct Pending(());

impl Pending {
    pub fn wait(&self) -> Result<Payload> {
        todo!()
    }
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Payload> {
        todo!()
    }
    pub fn wait_deadline(&self, deadline: std::time::Instant) -> Result<Payload> {
        todo!()
    }
    pub fn try_result(&self) -> Option<Result<Payload>> {
        todo!()
    }
    pub fn on_resolve(&self, action: impl FnOnce(Result<Payload>) + Send + 'static) {
        todo!()
    }
    /// The capability that the results will have at the end of `path`.
    pub fn pipelined(&self, path: &[u16]) -> Client {
        todo!()
    }
}

/// What generated code implements for every server.
pub trait Dispatch: Send + Sync + 'static {
    /// Runs the call. Blocking is fine.
    fn dispatch(&self, call: IncomingCall);
    /// For `unwrap_server`.
    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync);
}

/// A call that reached a local object. Dropping it unanswered answers it with
/// an error.
#[derive(Debug)]
pub struct IncomingCall(());

impl IncomingCall {
    pub fn interface_id(&self) -> u64 {
        todo!()
    }
    pub fn method_id(&self) -> u16 {
        todo!()
    }
    pub fn params(&self) -> &Payload {
        todo!()
    }
    /// Gives up the parameters' capabilities early.
    pub fn release_params(&mut self) {
        todo!()
    }
    /// Whether the caller is still interested.
    pub fn is_cancelled(&self) -> bool {
        todo!()
    }
    pub fn respond(self, outcome: Result<Payload>) {
        todo!()
    }
}
