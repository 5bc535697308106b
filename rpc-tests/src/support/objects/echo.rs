//! Servers of `schema/echo.capnp`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};

use capnp_threads_core::{Concurrency, Error, Result, Vat};
use rpc_schema::echo_capnp::echo;

/// Does what the schema says.
#[derive(Debug)]
pub struct Echo {
    vat: Vat,
    concurrency: Concurrency,
    bytes: AtomicU64,
}

impl Echo {
    /// An object that runs in `vat`, as do the objects that its `next` makes.
    pub fn client(vat: &Vat, concurrency: Concurrency) -> echo::Client {
        let echo = Echo { vat: vat.clone(), concurrency, bytes: AtomicU64::new(0) };
        vat.export_with(echo, concurrency)
    }
}

impl echo::Server for Echo {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn echo(&self, params: echo::EchoParams, mut results: echo::EchoResults) -> Result<()> {
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(Echo::client(&self.vat, self.concurrency));
        Ok(())
    }

    fn push(&self, params: echo::PushParams) -> Result<()> {
        let bytes = params.get()?.get_data()?.len();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, mut results: echo::TotalResults) -> Result<()> {
        results.get().set_bytes(self.bytes.load(Ordering::Relaxed));
        Ok(())
    }
}

/// Answers what needs no other object.
#[derive(Debug)]
pub struct Quick;

impl echo::Server for Quick {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn echo(&self, params: echo::EchoParams, mut results: echo::EchoResults) -> Result<()> {
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }
}

/// Tells when a ping begins, and answers it when it may.
#[derive(Debug)]
pub struct Gate {
    begun: mpsc::Sender<()>,
    may_end: Mutex<mpsc::Receiver<()>>,
}

impl Gate {
    /// The object, what it tells of each ping, and what lets one ping end. A ping
    /// that waits when the latter is dropped fails.
    pub fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel();
        (Gate { begun, may_end: Mutex::new(may_end) }, has_begun, end)
    }
}

impl echo::Server for Gate {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        let over = |_| Error::failed("the test is over");
        self.begun.send(()).map_err(|_| Error::failed("nobody waits for the ping"))?;
        self.may_end.lock().unwrap().recv().map_err(over)
    }
}
