//! tonic (gRPC) as a server and as a client of the benchmarks' calls, on tokio's runtime
//! with several threads. The service is written by hand, as tonic's generator would
//! write it, so that building needs no schema compiler; messages are the well-known
//! types `Empty`, `BytesValue` and `UInt64Value`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use benches_work::address::Address;
use benches_work::figures::{CHUNK_BYTES, Client};
use benches_work::{Failure, Result, cli};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{ClientStreamingService, Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

const PING: &str = "/benches.Echo/Ping";
const PUSH: &str = "/benches.Echo/Push";

/// More calls than any figure has outstanding.
const OUTSTANDING: u32 = 4096;

/// The object that is called.
#[derive(Clone)]
struct Echo;

struct Ping;

impl UnaryService<()> for Ping {
    type Response = ();
    type Future = Ready<Result<Response<()>, Status>>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

/// Counts the bytes of a stream.
struct Push;

impl ClientStreamingService<Vec<u8>> for Push {
    type Response = u64;
    type Future = BoxFuture<Response<u64>, Status>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        Box::pin(async move {
            let (mut chunks, mut bytes) = (request.into_inner(), 0);
            while let Some(chunk) = chunks.message().await? {
                bytes += chunk.len() as u64;
            }
            Ok(Response::new(bytes))
        })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "benches.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path() {
                PING => Grpc::new(ProstCodec::default()).unary(Ping, request).await,
                PUSH => Grpc::new(ProstCodec::default()).client_streaming(Push, request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

fn main() -> ExitCode {
    cli::peer("bench-tonic", serve, Load::connect)
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn serve(address: &Address) -> Result<()> {
    runtime()?.block_on(async {
        let server = Server::builder().max_concurrent_streams(OUTSTANDING).add_service(Echo);
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                cli::ready(&listener.local_addr()?)?;
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                server.serve_with_incoming(incoming).await?;
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                cli::ready(address)?;
                server.serve_with_incoming(UnixListenerStream::new(listener)).await?;
            }
        }
        Ok(())
    })
}

/// A connection that does the work of the figures.
struct Load {
    channel: Channel,
    runtime: Runtime,
}

impl Load {
    fn connect(address: &Address) -> Result<Self> {
        let runtime = runtime()?;
        let channel = runtime.block_on(async {
            Ok::<_, Failure>(match address {
                Address::Tcp(address) => {
                    Endpoint::from_shared(format!("http://{address}"))?.connect().await?
                }
                Address::Unix(path) => {
                    let path = path.clone();
                    let connect = move |_| {
                        let path = path.clone();
                        async {
                            Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?))
                        }
                    };
                    Endpoint::from_static("http://localhost")
                        .connect_with_connector(tower::service_fn(connect))
                        .await?
                }
            })
        })?;
        Ok(Load { channel, runtime })
    }
}

async fn ping(channel: &Channel) -> Result<()> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await?;
    let path = PathAndQuery::from_static(PING);
    let answer: Response<()> = grpc.unary(Request::new(()), path, ProstCodec::default()).await?;
    let () = answer.into_inner();
    Ok(())
}

impl Client for Load {
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
        self.runtime.block_on(async {
            let mut times = Vec::with_capacity(calls);
            for _ in 0..calls {
                let start = Instant::now();
                ping(&self.channel).await?;
                times.push(start.elapsed());
            }
            Ok(times)
        })
    }

    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()> {
        self.runtime.block_on(async {
            let pings = stream::iter(0..calls).map(|_| ping(&self.channel));
            pings.buffer_unordered(window).try_for_each(|()| async { Ok(()) }).await
        })
    }

    fn chain(&mut self, _: usize) -> Result<()> {
        Err("gRPC has no calls on results that are still to come".into())
    }

    fn stream(&mut self, chunks: usize) -> Result<u64> {
        self.runtime.block_on(async {
            let data = vec![7; CHUNK_BYTES];
            let chunks = stream::iter(std::iter::repeat_n(data, chunks));
            let mut grpc = tonic::client::Grpc::new(self.channel.clone());
            grpc.ready().await?;
            let path = PathAndQuery::from_static(PUSH);
            let total: Response<u64> =
                grpc.client_streaming(Request::new(chunks), path, ProstCodec::default()).await?;
            Ok(total.into_inner())
        })
    }
}
