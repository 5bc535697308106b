//! The baseline: two blocking sockets that exchange as many bytes as the calls
//! of a figure do, in the same numbers and sizes, and nothing else. No message
//! is encoded or looked up, and no thread hands anything to another one.
//!
//! A request says in its first bytes how long it is and how long an answer it
//! wants. What a peer says after a call has returned, such as Finish and
//! Release, is counted into the request.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use capnp_threads_transport::Address;

use crate::Result;
use crate::figures::{CHUNK_BYTES, Client, STREAM_WINDOW};

/// What one call, or one chain of calls, sends and gets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exchange {
    request: usize,
    answer: usize,
}

const PING: Exchange = Exchange { request: 112, answer: 72 };
const CHAIN: Exchange = Exchange { request: 1992, answer: 1112 };
const PUSH: Exchange = Exchange { request: 136 + CHUNK_BYTES, answer: 72 };

/// The bytes at the front of a request.
const HEADER: usize = 8;

/// As much as the server reads at once. Holds several of the largest requests.
const BUFFER: usize = 256 << 10;

/// Answers clients one after the other until the process ends. `ready` gets the
/// address with the port that was chosen for port 0.
///
/// # Errors
/// Nobody can listen there.
pub fn serve(address: &Address, ready: impl FnOnce(&Address) -> Result<()>) -> Result<()> {
    match address {
        Address::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port))?;
            ready(&listener.local_addr()?.into())?;
            for stream in listener.incoming() {
                let stream = stream?;
                stream.set_nodelay(true)?;
                spawn_answering(stream)?;
            }
        }
        Address::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            ready(address)?;
            for stream in listener.incoming() {
                spawn_answering(stream?)?;
            }
        }
        _ => return Err(format!("{address} is no address for a raw socket").into()),
    }
    Ok(())
}

/// Answers one client, on a thread of its own, until the client has gone.
///
/// # Errors
/// The system has no thread to give.
pub fn answer_on_thread(stream: impl Read + Write + Send + 'static) -> Result<()> {
    Ok(spawn_answering(stream)?)
}

fn spawn_answering(mut stream: impl Read + Write + Send + 'static) -> io::Result<()> {
    let work = move || {
        if let Err(error) = answer(&mut stream) {
            eprintln!("a client was lost: {error}");
        }
    };
    std::thread::Builder::new().name("raw".into()).spawn(work).map(drop)
}

/// Answers whatever has arrived with one write, again and again.
fn answer(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut input = vec![0; BUFFER];
    let mut filled = 0;
    let mut output = Vec::new();
    loop {
        let count = stream.read(&mut input[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let mut start = 0;
        output.clear();
        while let Some((request, answer)) = header(&input[start..filled])? {
            if filled - start < request {
                break;
            }
            start += request;
            output.resize(output.len() + answer, 0);
        }
        input.copy_within(start..filled, 0);
        filled -= start;
        stream.write_all(&output)?;
    }
}

/// The lengths of a request and of its answer, if that much of it is there.
fn header(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + HEADER / 2)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    match (number(0), number(HEADER / 2)) {
        (Some(request), _) if !(HEADER..=BUFFER).contains(&request) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "not a request of this program"))
        }
        (Some(request), Some(answer)) => Ok(Some((request, answer))),
        _ => Ok(None),
    }
}

/// A connected socket that does the work of the figures.
pub struct Raw {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Raw {
    /// Connects to a server.
    ///
    /// # Errors
    /// Nobody serves there.
    pub fn connect(address: &Address) -> Result<Self> {
        let stream: Box<dyn Stream> = match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect::<&Path>(path)?),
            _ => return Err(format!("{address} is no address for a raw socket").into()),
        };
        Ok(Raw { stream, input: vec![0; BUFFER] })
    }

    /// Uses a stream that is connected to somebody who answers.
    pub fn over(stream: impl Read + Write + 'static) -> Self {
        Raw { stream: Box::new(stream), input: vec![0; BUFFER] }
    }

    /// Makes an exchange this many times with up to `window` under way: sends as
    /// many as there is room for with one write, and takes as many answers as
    /// have arrived with one read.
    fn exchange(&mut self, exchange: Exchange, count: usize, window: usize) -> Result<()> {
        let Exchange { request, answer } = exchange;
        let batch = requests(exchange, window)?;
        let (mut sent, mut received) = (0, 0);
        while received < count * answer {
            let answered = received / answer;
            let room = (window - (sent - answered)).min(count - sent);
            self.stream.write_all(&batch[..room * request])?;
            sent += room;
            match self.stream.read(&mut self.input)? {
                0 => return Err("the server closed the connection".into()),
                bytes => received += bytes,
            }
        }
        Ok(())
    }
}

/// This many requests, one behind the other.
fn requests(exchange: Exchange, count: usize) -> Result<Vec<u8>> {
    let mut one = vec![0; exchange.request];
    one[..HEADER / 2].copy_from_slice(&u32::try_from(exchange.request)?.to_le_bytes());
    one[HEADER / 2..HEADER].copy_from_slice(&u32::try_from(exchange.answer)?.to_le_bytes());
    Ok(one.repeat(count))
}

impl Client for Raw {
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(calls);
        let request = requests(PING, 1)?;
        let mut answer = [0; PING.answer];
        for _ in 0..calls {
            let start = Instant::now();
            self.stream.write_all(&request)?;
            self.stream.read_exact(&mut answer)?;
            times.push(start.elapsed());
        }
        Ok(times)
    }

    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()> {
        self.exchange(PING, calls, window)
    }

    fn chain(&mut self, times: usize) -> Result<()> {
        self.exchange(CHAIN, times, 1)
    }

    fn stream(&mut self, chunks: usize) -> Result<u64> {
        self.exchange(PUSH, chunks, STREAM_WINDOW)?;
        Ok((chunks * CHUNK_BYTES) as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use capnp_threads_core::message::Message;
    use capnp_threads_core::transport::{
        FrameLimits, MessageReader, MessageWriter, TransportError,
    };
    use capnp_threads_core::{Concurrency, ConnConfig, FromClient, Vat};
    use capnp_threads_transport::{Transport, memory};
    use parking_lot::{Condvar, Mutex};
    use rpc_schema::echo_capnp::echo;

    use super::*;
    use crate::figures::{CHAIN_DEPTH, Work};
    use crate::service::Echo;

    #[test]
    fn every_figure_can_be_exchanged() {
        let (client, mut server) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || answer(&mut server));
        let mut raw = Raw { stream: Box::new(client), input: vec![0; BUFFER] };
        let mut lines = 0;
        let work = Work { divisor: 1000, ..Work::default() };
        let print = |_| {
            lines += 1;
            Ok(())
        };
        work.run(&mut raw, print).unwrap();
        assert_eq!(lines, 10);
        drop(raw);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_request_ends_the_exchange() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        client.write_all(&[0; HEADER]).unwrap();
        assert!(answer(&mut server).is_err());
    }

    #[test]
    fn as_many_bytes_are_exchanged_as_calls_take() {
        let nothing = bytes_of(|_, _| ());
        let ping = bytes_of(|echo, _| drop(echo.ping_request().call().unwrap()));
        assert_eq!(ping.0 - nothing.0, PING.request);
        assert_eq!(ping.1 - nothing.1, PING.answer);

        let push = bytes_of(|echo, _| {
            let mut request = echo.push_request();
            request.get().set_data(&vec![7; CHUNK_BYTES]);
            request.send().unwrap();
        });
        assert_eq!(push.0 - nothing.0, PUSH.request);
        assert_eq!(push.1 - nothing.1, PUSH.answer);

        let chain = bytes_of(|echo, gate| {
            gate.close();
            let mut echo = echo.clone();
            for _ in 0..CHAIN_DEPTH {
                echo = echo.next_request().send().pipeline().get_echo();
            }
            let ping = echo.ping_request().send();
            gate.open();
            ping.wait().unwrap();
        });
        assert_eq!(chain.0 - nothing.0, CHAIN.request);
        // A call whose Finish came first may be answered with less.
        assert!(chain.1 - nothing.1 <= CHAIN.answer, "{}", chain.1 - nothing.1);
    }

    /// How many bytes a client sends and gets on a connection on which it does
    /// this, and some more that always is the same.
    fn bytes_of(work: impl FnOnce(&echo::Client, &Gate)) -> (usize, usize) {
        let (here, there) = memory::pair();
        let (sent, got, gate) = (Arc::default(), Arc::default(), Arc::<Gate>::default());
        let here = Transport {
            reader: Box::new(Gated(here.reader, Arc::clone(&gate))),
            writer: Box::new(Counted(here.writer, Arc::clone(&sent))),
            control: here.control,
        };
        let there =
            Transport { writer: Box::new(Counted(there.writer, Arc::clone(&got))), ..there };
        let vat = Vat::new();
        let echo = Echo::client(&vat, Concurrency::Serial);
        let server = vat.connect(there, ConnConfig::new().bootstrap(echo.into_client())).unwrap();
        let client = vat.connect(here, ConnConfig::new()).unwrap();
        let echo: echo::Client = client.bootstrap();
        echo.ping_request().call().unwrap();
        work(&echo, &gate);
        // What the work releases is queued before this returns, and an end writes
        // what is queued.
        echo.ping_request().call().unwrap();
        client.close();
        assert!(client.join_timeout(Duration::from_secs(60)).unwrap());
        assert!(server.join_timeout(Duration::from_secs(60)).unwrap());
        (sent.load(Ordering::Relaxed), got.load(Ordering::Relaxed))
    }

    /// Counts the bytes that messages take on a socket.
    struct Counted(Box<dyn MessageWriter>, Arc<AtomicUsize>);

    impl MessageWriter for Counted {
        fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
            for message in &*batch {
                let table = (4 + 4 * message.segment_count()).next_multiple_of(8);
                self.1.fetch_add(table + 8 * message.size_in_words(), Ordering::Relaxed);
            }
            self.0.write(batch)
        }
        fn finish(&mut self) -> Result<(), TransportError> {
            self.0.finish()
        }
    }

    /// Lets messages in only while the gate is open.
    struct Gated(Box<dyn MessageReader>, Arc<Gate>);

    impl MessageReader for Gated {
        fn read(&mut self) -> Result<Option<Message>, TransportError> {
            let message = self.0.read();
            self.1.pass();
            message
        }
        fn has_buffered(&self) -> bool {
            false
        }
        fn set_limits(&mut self, limits: FrameLimits) {
            self.0.set_limits(limits);
        }
    }

    #[derive(Default)]
    struct Gate {
        closed: Mutex<bool>,
        opened: Condvar,
    }

    impl Gate {
        fn close(&self) {
            *self.closed.lock() = true;
        }
        fn open(&self) {
            *self.closed.lock() = false;
            self.opened.notify_all();
        }
        fn pass(&self) {
            self.opened.wait_while(&mut self.closed.lock(), |closed| *closed);
        }
    }
}
