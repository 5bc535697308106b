//! tarpc as a server and as a client of the benchmarks' calls, on tokio's runtime with
//! several threads.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches_work::address::Address;
use benches_work::figures::{CHUNK_BYTES, Client, STREAM_WINDOW};
use benches_work::{Failure, Result, cli};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_bytes::ByteBuf;
use tarpc::context::{self, Context};
use tarpc::server::{self, BaseChannel, Channel as _};
use tarpc::{client, serde_transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_serde::formats::Bincode;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// More calls than any figure has outstanding.
const OUTSTANDING: usize = 4096;

#[tarpc::service]
trait Echo {
    async fn ping();
    async fn push(data: ByteBuf);
    async fn total() -> u64;
}

/// The object that is called.
#[derive(Clone, Default)]
struct Service {
    bytes: Arc<AtomicU64>,
}

impl Echo for Service {
    async fn ping(self, _: Context) {}

    async fn push(self, _: Context, data: ByteBuf) {
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
    }

    /// What was pushed since the last time.
    async fn total(self, _: Context) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

fn main() -> ExitCode {
    cli::peer("bench-tarpc", serve, Load::connect)
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn serve(address: &Address) -> Result<()> {
    runtime()?.block_on(async {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                cli::ready(&listener.local_addr()?)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    start(stream);
                }
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                cli::ready(address)?;
                loop {
                    start(listener.accept().await?.0);
                }
            }
        }
    })
}

/// Serves a connection as a task of its own, and each call, too.
fn start(stream: impl AsyncRead + AsyncWrite + Send + 'static) {
    let config = server::Config { pending_response_buffer: OUTSTANDING };
    let framed = Framed::new(Box::pin(stream), LengthDelimitedCodec::new());
    let channel = BaseChannel::new(config, serde_transport::new(framed, Bincode::default()));
    let calls = channel.execute(Service::default().serve());
    tokio::spawn(calls.for_each(|call| async {
        tokio::spawn(call);
    }));
}

/// A connection that does the work of the figures.
struct Load {
    echo: EchoClient,
    runtime: Runtime,
}

impl Load {
    fn connect(address: &Address) -> Result<Self> {
        let runtime = runtime()?;
        let echo = runtime.block_on(async {
            Ok::<_, Failure>(match address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    client_on(stream)
                }
                Address::Unix(path) => client_on(UnixStream::connect(path).await?),
            })
        })?;
        Ok(Load { echo, runtime })
    }
}

fn client_on(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> EchoClient {
    let mut config = client::Config::default();
    config.max_in_flight_requests = OUTSTANDING;
    let framed = Framed::new(Box::pin(stream), LengthDelimitedCodec::new());
    EchoClient::new(config, serde_transport::new(framed, Bincode::default())).spawn()
}

impl Client for Load {
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
        self.runtime.block_on(async {
            let mut times = Vec::with_capacity(calls);
            for _ in 0..calls {
                let start = Instant::now();
                self.echo.ping(context::current()).await?;
                times.push(start.elapsed());
            }
            Ok(times)
        })
    }

    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()> {
        self.runtime.block_on(async {
            let pings = stream::iter(0..calls).map(|_| self.echo.ping(context::current()));
            pings.buffer_unordered(window).try_for_each(|()| async { Ok(()) }).await?;
            Ok(())
        })
    }

    fn chain(&mut self, _: usize) -> Result<()> {
        Err("tarpc has no calls on results that are still to come".into())
    }

    fn stream(&mut self, chunks: usize) -> Result<u64> {
        self.runtime.block_on(async {
            let data = ByteBuf::from(vec![7; CHUNK_BYTES]);
            let pushes =
                stream::iter(0..chunks).map(|_| self.echo.push(context::current(), data.clone()));
            pushes.buffer_unordered(STREAM_WINDOW).try_for_each(|()| async { Ok(()) }).await?;
            Ok(self.echo.total(context::current()).await?)
        })
    }
}
