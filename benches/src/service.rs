//! The objects that are called.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use capnp_threads_core::{Concurrency, Error, Vat};
use rpc_schema::echo_capnp::echo;

/// Serves `echo.capnp`.
#[derive(Debug)]
pub struct Echo {
    vat: Vat,
    concurrency: Concurrency,
    bytes: AtomicU64,
}

impl Echo {
    /// An object that runs in `vat`, as do the objects that its `next` makes.
    pub fn client(vat: &Vat, concurrency: Concurrency) -> echo::Client {
        vat.export_with(Echo::new(vat, concurrency), concurrency)
    }

    /// An object whose `next` makes objects in `vat`.
    pub fn new(vat: &Vat, concurrency: Concurrency) -> Echo {
        Echo { vat: vat.clone(), concurrency, bytes: AtomicU64::new(0) }
    }
}

impl echo::Server for Echo {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<(), Error> {
        Ok(())
    }

    fn echo(&self, params: echo::EchoParams, mut results: echo::EchoResults) -> Result<(), Error> {
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<(), Error> {
        results.get().set_echo(Echo::client(&self.vat, self.concurrency));
        Ok(())
    }

    fn push(&self, params: echo::PushParams) -> Result<(), Error> {
        let bytes = params.get()?.get_data()?.len();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, mut results: echo::TotalResults) -> Result<(), Error> {
        results.get().set_bytes(self.bytes.load(Ordering::Relaxed));
        Ok(())
    }
}

/// Serves `echo.capnp`, but `ping` returns only while the gate is open.
#[derive(Debug)]
pub struct Gated {
    vat: Vat,
    gate: Arc<Gate>,
}

/// Open at first.
#[derive(Debug, Default)]
pub struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    /// An object of `vat` that runs one method at a time.
    pub fn client(vat: &Vat, gate: &Arc<Gate>) -> echo::Client {
        vat.export(Gated { vat: vat.clone(), gate: Arc::clone(gate) })
    }
}

impl echo::Server for Gated {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<(), Error> {
        self.gate.pass();
        Ok(())
    }

    /// An object without a gate.
    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<(), Error> {
        results.get().set_echo(Echo::client(&self.vat, Concurrency::Serial));
        Ok(())
    }
}

impl Gate {
    /// Lets nobody pass from now on.
    pub fn close(&self) {
        *self.closed() = true;
    }

    /// Lets everybody pass.
    pub fn open(&self) {
        *self.closed() = false;
        self.opened.notify_all();
    }

    /// Waits until it is open.
    fn pass(&self) {
        let closed = self.opened.wait_while(self.closed(), |closed| *closed);
        drop(closed.unwrap_or_else(PoisonError::into_inner));
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
