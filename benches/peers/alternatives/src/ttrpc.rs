//! ttrpc as a server and as a client of the benchmarks' calls, with threads and without
//! a runtime. A client's call blocks, so as many threads call as there are to be calls
//! outstanding.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches_work::address::Address;
use benches_work::figures::{CHUNK_BYTES, Client, STREAM_WINDOW};
use benches_work::{Result, cli};
use protobuf::Message;
use protobuf::well_known_types::empty::Empty;
use protobuf::well_known_types::wrappers::{BytesValue, UInt64Value};
use socket2::SockRef;
use ttrpc::{MethodHandler, Request, Server, TtrpcContext};

const SERVICE: &str = "benches.Echo";

fn main() -> ExitCode {
    cli::peer("bench-ttrpc", serve, Load::connect)
}

fn serve(address: &Address) -> Result<()> {
    let mut server = match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            // Its connections inherit this.
            SockRef::from(&listener).set_tcp_nodelay(true)?;
            cli::ready(&listener.local_addr()?)?;
            Server::new().add_listener(listener.into_raw_fd())?
        }
        Address::Unix(path) => Server::new().bind(&format!("unix://{}", path.display()))?,
    };
    server = server.register_service(methods());
    server.start()?;
    if matches!(address, Address::Unix(_)) {
        cli::ready(address)?;
    }
    loop {
        thread::park();
    }
}

fn methods() -> HashMap<String, Box<dyn MethodHandler + Send + Sync>> {
    let service = Arc::new(Echo::default());
    let ping = Ping { service: Arc::clone(&service) };
    let push = Push { service: Arc::clone(&service) };
    let total = Total { service };
    let methods: [(&str, Box<dyn MethodHandler + Send + Sync>); 3] =
        [("Ping", Box::new(ping)), ("Push", Box::new(push)), ("Total", Box::new(total))];
    methods.map(|(name, method)| (format!("/{SERVICE}/{name}"), method)).into()
}

/// The object that is called.
#[derive(Default)]
struct Echo {
    bytes: AtomicU64,
}

// Methods have the form that ttrpc calls.
#[allow(clippy::unnecessary_wraps, clippy::unused_self)]
impl Echo {
    fn ping(&self, _: &TtrpcContext, request: Empty) -> ttrpc::Result<Empty> {
        Ok(request)
    }

    fn push(&self, _: &TtrpcContext, request: BytesValue) -> ttrpc::Result<Empty> {
        self.bytes.fetch_add(request.value.len() as u64, Ordering::Relaxed);
        Ok(Empty::new())
    }

    /// What was pushed since the last time.
    fn total(&self, _: &TtrpcContext, _: Empty) -> ttrpc::Result<UInt64Value> {
        let mut total = UInt64Value::new();
        total.value = self.bytes.swap(0, Ordering::Relaxed);
        Ok(total)
    }
}

/// As the generator of ttrpc writes it.
macro_rules! method {
    ($name:ident, $request:ident, $method:ident) => {
        struct $name {
            service: Arc<Echo>,
        }

        impl MethodHandler for $name {
            fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<()> {
                ttrpc::request_handler!(self, context, request, $request, $method);
                Ok(())
            }
        }
    };
}

method!(Ping, Empty, ping);
method!(Push, BytesValue, push);
method!(Total, Empty, total);

/// A connection that does the work of the figures.
#[derive(Clone)]
struct Load {
    client: ttrpc::Client,
}

impl Load {
    fn connect(address: &Address) -> Result<Self> {
        let client = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                ttrpc::Client::new(stream.into_raw_fd())?
            }
            Address::Unix(path) => ttrpc::Client::connect(&format!("unix://{}", path.display()))?,
        };
        Ok(Load { client })
    }

    fn call<A: Message>(&self, method: &str, request: &impl Message) -> Result<A> {
        let mut envelope = Request::new();
        envelope.service = SERVICE.to_owned();
        envelope.method = method.to_owned();
        envelope.payload = request.write_to_bytes()?;
        Ok(A::parse_from_bytes(&self.client.request(envelope)?.payload)?)
    }

    /// Has `window` threads share the calls.
    fn by_threads(
        &self,
        calls: usize,
        window: usize,
        call: impl Fn(&Load) -> Result<()> + Sync,
    ) -> Result<()> {
        thread::scope(|scope| {
            let callers: Vec<_> = (0..window)
                .map(|index| {
                    let share = calls / window + usize::from(index < calls % window);
                    let (load, call) = (self.clone(), &call);
                    scope.spawn(move || (0..share).try_for_each(|_| call(&load)))
                })
                .collect();
            callers
                .into_iter()
                .try_for_each(|caller| caller.join().unwrap_or(Err("a caller panicked".into())))
        })
    }
}

impl Client for Load {
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            self.call::<Empty>("Ping", &Empty::new())?;
            times.push(start.elapsed());
        }
        Ok(times)
    }

    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()> {
        self.by_threads(calls, window, |load| {
            load.call::<Empty>("Ping", &Empty::new())?;
            Ok(())
        })
    }

    fn chain(&mut self, _: usize) -> Result<()> {
        Err("ttrpc has no calls on results that are still to come".into())
    }

    fn stream(&mut self, chunks: usize) -> Result<u64> {
        let mut chunk = BytesValue::new();
        chunk.value = vec![7; CHUNK_BYTES];
        self.by_threads(chunks, STREAM_WINDOW, |load| {
            load.call::<Empty>("Push", &chunk)?;
            Ok(())
        })?;
        Ok(self.call::<UInt64Value>("Total", &Empty::new())?.value)
    }
}
