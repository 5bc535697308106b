//! Objects without a schema.

use std::any::Any;
use std::sync::Arc;

use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Client, Concurrency, Vat};

struct Anything<F>(F);

impl<F: Fn(IncomingCall) + Send + Sync + 'static> Dispatch for Anything<F> {
    fn dispatch(&self, call: IncomingCall) {
        (self.0)(call);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// An object of `vat` that leaves every call to a closure.
pub fn any(
    vat: &Vat,
    concurrency: Concurrency,
    method: impl Fn(IncomingCall) + Send + Sync + 'static,
) -> Client {
    vat.export_dispatch_with(Arc::new(Anything(method)), concurrency)
}
