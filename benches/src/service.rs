//! The object that is called.

use std::sync::atomic::{AtomicU64, Ordering};

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
