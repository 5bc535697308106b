//! Objects that tell where their methods run.

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use capnp_threads_core::{Concurrency, Vat};
use rpc_schema::test_capnp::test_interface;

use super::foo::{answer_foo, foo_with};

/// On which threads something ran.
#[derive(Clone, Default)]
pub struct Threads(Arc<Mutex<Vec<ThreadId>>>);

impl Threads {
    /// Something runs here.
    pub fn note(&self) {
        self.0.lock().unwrap().push(thread::current().id());
    }

    /// The threads that were noted since this was called last, in order.
    pub fn taken(&self) -> Vec<ThreadId> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// An object whose methods note where they run.
    pub fn object(&self, vat: &Vat, concurrency: Concurrency) -> test_interface::Client {
        let own = self.clone();
        foo_with(vat, concurrency, (), move |params, results| {
            own.note();
            answer_foo(params, results)
        })
    }
}
