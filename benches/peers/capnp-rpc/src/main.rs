//! The capnp-rpc crate, on a runtime with one thread, as a server and as a client
//! of `echo.capnp`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use benches_work::address::Address;
use benches_work::figures::{CHAIN_DEPTH, CHUNK_BYTES, Client};
use benches_work::{Failure, Result, cli};
use capnp::message::ReaderOptions;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use futures::io::{AsyncReadExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::compat::TokioAsyncReadCompatExt;

#[rustfmt::skip]
#[allow(warnings, clippy::all, clippy::pedantic)]
#[path = "generated/echo_capnp.rs"]
mod echo_capnp;

use echo_capnp::echo;

fn main() -> ExitCode {
    let serve = |address: &Address| LocalSet::new().block_on(&runtime()?, serve(address));
    cli::peer("bench-capnp-rpc", serve, Load::connect)
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_io().build()?)
}

#[derive(Default)]
struct Echo {
    bytes: Cell<u64>,
}

impl echo::Server for Echo {
    async fn ping(self: Rc<Self>, _: echo::PingParams, _: echo::PingResults) -> capnp::Result<()> {
        Ok(())
    }

    async fn echo(
        self: Rc<Self>,
        params: echo::EchoParams,
        mut results: echo::EchoResults,
    ) -> capnp::Result<()> {
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }

    async fn next(
        self: Rc<Self>,
        _: echo::NextParams,
        mut results: echo::NextResults,
    ) -> capnp::Result<()> {
        results.get().set_echo(new_client(Echo::default()));
        Ok(())
    }

    async fn push(self: Rc<Self>, params: echo::PushParams) -> capnp::Result<()> {
        let bytes = params.get()?.get_data()?.len();
        self.bytes.set(self.bytes.get() + bytes as u64);
        Ok(())
    }

    async fn total(
        self: Rc<Self>,
        _: echo::TotalParams,
        mut results: echo::TotalResults,
    ) -> capnp::Result<()> {
        results.get().set_bytes(self.bytes.get());
        Ok(())
    }
}

async fn serve(address: &Address) -> Result<()> {
    let echo: echo::Client = new_client(Echo::default());
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            cli::ready(&listener.local_addr()?)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                start(stream, Side::Server, Some(&echo));
            }
        }
        Address::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            cli::ready(address)?;
            loop {
                let (stream, _) = listener.accept().await?;
                start(stream, Side::Server, Some(&echo));
            }
        }
    }
}

/// Runs a connection as a task of its own, and gives the peer's bootstrap
/// capability, which only the client asks for.
fn start(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    side: Side,
    bootstrap: Option<&echo::Client>,
) -> echo::Client {
    let (reader, writer) = stream.compat().split();
    let network =
        VatNetwork::new(BufReader::new(reader), BufWriter::new(writer), side, ReaderOptions::new());
    let mut system =
        RpcSystem::new(Box::new(network), bootstrap.map(|client| client.clone().client));
    let peer = system.bootstrap(Side::Server);
    spawn_local(async {
        if let Err(error) = system.await {
            eprintln!("a connection was lost: {error}");
        }
    });
    peer
}

/// A connection that does the work of the figures.
struct Load {
    echo: echo::Client,
    tasks: LocalSet,
    runtime: Runtime,
}

impl Load {
    fn connect(address: &Address) -> Result<Self> {
        let (runtime, tasks) = (runtime()?, LocalSet::new());
        let echo = tasks.block_on(&runtime, async {
            Ok::<_, Failure>(match address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    start(stream, Side::Client, None)
                }
                Address::Unix(path) => start(UnixStream::connect(path).await?, Side::Client, None),
            })
        })?;
        Ok(Load { echo, tasks, runtime })
    }
}

impl Client for Load {
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
        self.tasks.block_on(&self.runtime, async {
            let mut times = Vec::with_capacity(calls);
            for _ in 0..calls {
                let start = Instant::now();
                self.echo.ping_request().send().promise.await?;
                times.push(start.elapsed());
            }
            Ok(times)
        })
    }

    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()> {
        self.tasks.block_on(&self.runtime, async {
            let mut outstanding = VecDeque::with_capacity(window);
            for _ in 0..calls {
                if outstanding.len() == window
                    && let Some(oldest) = outstanding.pop_front()
                {
                    oldest.await?;
                }
                outstanding.push_back(self.echo.ping_request().send().promise);
            }
            for promise in outstanding {
                promise.await?;
            }
            Ok(())
        })
    }

    fn chain(&mut self, times: usize) -> Result<()> {
        self.tasks.block_on(&self.runtime, async {
            for _ in 0..times {
                let mut echo = self.echo.clone();
                for _ in 0..CHAIN_DEPTH {
                    echo = echo.next_request().send().pipeline.get_echo();
                }
                echo.ping_request().send().promise.await?;
            }
            Ok(())
        })
    }

    fn stream(&mut self, chunks: usize) -> Result<u64> {
        self.tasks.block_on(&self.runtime, async {
            let data = vec![7; CHUNK_BYTES];
            let fresh = self.echo.next_request().send().promise.await?.get()?.get_echo()?;
            for _ in 0..chunks {
                let mut request = fresh.push_request();
                request.get().set_data(&data);
                request.send().await?;
            }
            Ok(fresh.total_request().send().promise.await?.get()?.get_bytes())
        })
    }
}
