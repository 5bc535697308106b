//! This library as a server and as a client of `echo.capnp`.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use capnp_threads_core::{Concurrency, ConnConfig, Connection, FromClient, Limits, Vat};
use capnp_threads_transport::{Address, Listener, Transport};
use rpc_schema::echo_capnp::echo;

use crate::Result;
use crate::figures::{CHAIN_DEPTH, CHUNK_BYTES, Client};
use crate::service::Echo;

/// The limit on outstanding calls, which no figure reaches.
const QUESTIONS: u32 = 4096;

/// Serves at an address until the process ends. `ready` gets the address with
/// the port that was chosen for port 0.
///
/// # Errors
/// Nobody can listen there.
pub fn serve(
    address: &Address,
    concurrency: Concurrency,
    ready: impl FnOnce(&Address) -> Result<()>,
) -> Result<()> {
    serve_with(address, concurrency, ConnConfig::new, ready)
}

/// As [`serve`], with connections of this configuration.
///
/// # Errors
/// Nobody can listen there.
pub fn serve_with(
    address: &Address,
    concurrency: Concurrency,
    config: impl Fn() -> ConnConfig,
    ready: impl FnOnce(&Address) -> Result<()>,
) -> Result<()> {
    let listener: Listener = address.listen()?;
    ready(&listener.local_address()?)?;
    let vat = Vat::new();
    let echo = Echo::client(&vat, concurrency);
    let mut connections: Vec<Connection> = Vec::new();
    for transport in listener.incoming() {
        connections.retain(|connection| connection.failure().is_none());
        let config = config().bootstrap(echo.clone().into_client());
        connections.push(vat.connect(transport?, config)?);
    }
    Ok(())
}

/// A connection that does the work of the figures.
pub struct Load {
    echo: echo::Client,
    connection: Connection,
    vat: Vat,
}

impl Load {
    /// Connects to a server.
    ///
    /// # Errors
    /// Nobody serves there.
    pub fn connect(address: &Address) -> Result<Self> {
        Self::over(address.connect()?)
    }

    /// Uses a transport that leads to a server.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub fn over(transport: Transport) -> Result<Self> {
        Self::with(transport, ConnConfig::new())
    }

    /// As [`over`](Self::over), with this configuration.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub fn with(transport: Transport, config: ConnConfig) -> Result<Self> {
        let vat = Vat::new();
        let mut limits = Limits::default();
        limits.questions = QUESTIONS;
        let connection = vat.connect(transport, config.limits(limits))?;
        Ok(Load { echo: connection.bootstrap(), connection, vat })
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The connection did not end as it should.
    pub fn close(self) -> Result<()> {
        let Load { echo, connection, vat } = self;
        drop(echo);
        connection.close();
        if vat.shutdown(Duration::from_secs(10)) == Ok(true) {
            Ok(())
        } else {
            Err("the connection did not end".into())
        }
    }
}

impl Client for Load {
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            self.echo.ping_request().call()?;
            times.push(start.elapsed());
        }
        Ok(times)
    }

    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()> {
        pings(&self.echo, calls, window)
    }

    fn chain(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            let mut echo = self.echo.clone();
            for _ in 0..CHAIN_DEPTH {
                echo = echo.next_request().send().pipeline().get_echo();
            }
            echo.ping_request().call()?;
        }
        Ok(())
    }

    fn stream(&mut self, chunks: usize) -> Result<u64> {
        let data = vec![7; CHUNK_BYTES];
        let fresh = self.echo.next_request().call()?.get()?.get_echo()?;
        for _ in 0..chunks {
            let mut request = fresh.push_request();
            request.get().set_data(&data);
            request.send()?;
        }
        Ok(fresh.total_request().call()?.get()?.get_bytes())
    }
}

/// Calls `ping` this many times with up to `window` outstanding.
///
/// # Errors
/// A call failed.
pub fn pings(echo: &echo::Client, calls: usize, window: usize) -> Result<()> {
    let mut outstanding = VecDeque::with_capacity(window);
    for _ in 0..calls {
        if outstanding.len() == window
            && let Some(oldest) = outstanding.pop_front()
        {
            wait(&oldest)?;
        }
        outstanding.push_back(echo.ping_request().send());
    }
    outstanding.iter().try_for_each(wait)
}

/// Calls `ping` this many times, from so many threads that share the calls and wait for
/// each. Returns how long it took from when all threads were there.
///
/// # Errors
/// A call failed.
pub fn calls_by_threads(echo: &echo::Client, calls: usize, threads: usize) -> Result<Duration> {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..threads)
            .map(|index| {
                let share = calls / threads + usize::from(index < calls % threads);
                let (echo, barrier) = (echo.clone(), &barrier);
                scope.spawn(move || -> Result<()> {
                    barrier.wait();
                    for _ in 0..share {
                        echo.ping_request().call()?;
                    }
                    Ok(())
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for caller in callers {
            caller.join().map_err(|_| "a caller panicked")??;
        }
        Ok(start.elapsed())
    })
}

fn wait(promise: &capnp_threads_core::Promise<echo::ping_results::Owned>) -> Result<()> {
    promise.wait()?;
    Ok(())
}
