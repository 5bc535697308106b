//! Messages of endpoints, and the same bytes over a raw socket, over the loopback
//! interface with both sides in one process.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnp_threads_endpoint::{
    ConnectHints, Connection, Dialect, Endpoint, Event, Incoming, Network, Parameters,
};

use crate::{Failure, Result};

/// The lengths of messages that are measured, in bytes.
pub const SIZES: [usize; 6] = [8, 512, 4 << 10, 64 << 10, 256 << 10, 1 << 20];

/// The length of a message that others have to get past, in bytes.
pub const LONG: usize = 64 << 20;

/// A message that gets past a long one.
const SHORT: &[u8] = b"short";

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Endpoints that begin in this dialect.
    Endpoints(Dialect),
    /// A TCP socket, which is written to and read from by those who send and
    /// receive.
    Socket,
}

impl Carrier {
    /// All of them.
    pub const ALL: [Carrier; 4] = [
        Carrier::Endpoints(Dialect::Multiplexed),
        Carrier::Endpoints(Dialect::Versioned),
        Carrier::Endpoints(Dialect::Original),
        Carrier::Socket,
    ];
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Carrier::Endpoints(Dialect::Multiplexed) => "multiplexed",
            Carrier::Endpoints(Dialect::Versioned) => "versioned",
            Carrier::Endpoints(Dialect::Original) => "original",
            Carrier::Endpoints(_) => "another dialect",
            Carrier::Socket => "socket",
        })
    }
}

/// Somebody who answers each message with itself. Dropping it ends that.
pub struct Echo {
    way: Way,
    message: Vec<u8>,
    answering: Option<JoinHandle<Result<()>>>,
    _pair: Option<Arc<Pair>>,
}

enum Way {
    Endpoints {
        to: Connection,
        back: Incoming,
    },
    Socket(TcpStream),
    /// It has ended.
    None,
}

impl Echo {
    /// Connects, for messages of `size` bytes.
    ///
    /// # Errors
    /// The system has no sockets or no threads to give.
    pub fn new(carrier: Carrier, size: usize) -> Result<Self> {
        Self::several(carrier, size, 1)?.pop().ok_or_else(|| "there is no echo".into())
    }

    /// Several, whose messages share a socket if they are those of endpoints.
    ///
    /// # Errors
    /// The system has no sockets or no threads to give.
    pub fn several(carrier: Carrier, size: usize, count: usize) -> Result<Vec<Self>> {
        let pair = match carrier {
            Carrier::Endpoints(dialect) => Some(Arc::new(Pair::new(dialect)?)),
            Carrier::Socket => None,
        };
        (0..count).map(|_| Self::over(pair.clone(), size)).collect()
    }

    /// Over a socket of its own if there are no endpoints.
    fn over(pair: Option<Arc<Pair>>, size: usize) -> Result<Self> {
        let message = vec![0; size];
        let (way, answering) = if let Some(pair) = &pair {
            let (to, asked) = connect(&pair.here, &pair.there)?;
            let (answer, back) = connect(&pair.there, &pair.here)?;
            let answering = thread::spawn(move || {
                while let Some(message) = asked.receive()? {
                    answer.send_vec(message)?;
                }
                Ok(())
            });
            (Way::Endpoints { to, back }, answering)
        } else {
            let (here, mut there) = sockets()?;
            let mut message = message.clone();
            let answering = thread::spawn(move || {
                while there.read_exact(&mut message).is_ok() {
                    there.write_all(&message)?;
                }
                Ok(())
            });
            (Way::Socket(here), answering)
        };
        Ok(Echo { way, message, answering: Some(answering), _pair: pair })
    }

    /// Sends a message and waits until it is back.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn round_trip(&mut self) -> Result<()> {
        match &mut self.way {
            Way::Endpoints { to, back } => {
                to.send_vec(std::mem::take(&mut self.message))?;
                self.message = back.receive()?.ok_or("the echo is gone")?;
            }
            Way::Socket(socket) => {
                socket.write_all(&self.message)?;
                socket.read_exact(&mut self.message)?;
            }
            Way::None => return Err("the echo is gone".into()),
        }
        Ok(())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.way = Way::None;
        let answered = self.answering.take().map(JoinHandle::join);
        if !matches!(answered, Some(Ok(Ok(())))) && !thread::panicking() {
            eprintln!("an echo ended in an unusual way");
        }
    }
}

/// Two endpoints of two networks.
pub struct Pair {
    here: Endpoint,
    there: Endpoint,
    _networks: [Network; 2],
}

impl Pair {
    /// Makes them; nothing is connected yet.
    ///
    /// # Errors
    /// The system has no sockets or no threads to give.
    pub fn new(dialect: Dialect) -> Result<Self> {
        let mut parameters = Parameters::default();
        parameters.dialect = dialect;
        parameters.max_message = 2 * u32::try_from(LONG)?;
        let network = || Network::bind("127.0.0.1", 0, parameters.clone());
        let networks = [network()?, network()?];
        let [here, there] = [networks[0].new_endpoint()?, networks[1].new_endpoint()?];
        Ok(Pair { here, there, _networks: networks })
    }

    /// Opens a connection, and waits until the other side knows it.
    ///
    /// # Errors
    /// It is not possible.
    pub fn open(&self) -> Result<(Connection, Incoming)> {
        connect(&self.here, &self.there)
    }

    /// Opens so many connections, waits until the other side knows them all, and
    /// returns them.
    ///
    /// # Errors
    /// It is not possible.
    pub fn open_many(&self, count: usize) -> Result<Vec<Connection>> {
        let connections = (0..count)
            .map(|_| Ok(self.here.connect(self.there.address(), ConnectHints::new())?))
            .collect::<Result<_>>()?;
        let mut opened = 0;
        while opened < count {
            opened += usize::from(matches!(self.there.receive()?, Event::ConnectionOpened { .. }));
        }
        Ok(connections)
    }
}

fn connect(from: &Endpoint, to: &Endpoint) -> Result<(Connection, Incoming)> {
    let sending = from.connect(to.address(), ConnectHints::new())?;
    loop {
        if let Event::ConnectionOpened { connection, .. } = to.receive()? {
            let incoming = to.claim(connection).ok_or("the connection is gone")?;
            return Ok((sending, incoming));
        }
    }
}

fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = TcpStream::connect(listener.local_addr()?)?;
    let (there, _) = listener.accept()?;
    for socket in [&here, &there] {
        socket.set_nodelay(true)?;
    }
    Ok((here, there))
}

/// How many bytes a second arrive if each of `senders` threads sends messages of `size` bytes
/// for this long, one after the other, all on one connection.
///
/// # Errors
/// It could not be measured.
pub fn throughput(carrier: Carrier, size: usize, senders: usize, time: Duration) -> Result<f64> {
    let message = vec![0; size];
    let start;
    let bytes = match carrier {
        Carrier::Endpoints(dialect) => {
            let pair = Pair::new(dialect)?;
            let (to, arriving) = pair.open()?;
            let counting = thread::spawn(move || -> Result<u64> {
                let mut bytes = 0;
                while let Some(message) = arriving.receive()? {
                    bytes += message.len() as u64;
                }
                Ok(bytes)
            });
            start = Instant::now();
            send_from(senders, start + time, || Ok(to.send(&[&message])?))?;
            drop(to);
            joined(counting)??
        }
        Carrier::Socket => {
            let (here, mut there) = sockets()?;
            let counting = thread::spawn(move || -> io::Result<u64> {
                let (mut bytes, mut room) = (0, vec![0; 256 << 10]);
                loop {
                    match there.read(&mut room)? {
                        0 => return Ok(bytes),
                        count => bytes += count as u64,
                    }
                }
            });
            start = Instant::now();
            // Short ones are written in one piece, and what they are is not looked at.
            send_from(senders, start + time, || Ok((&here).write_all(&message)?))?;
            drop(here);
            joined(counting)??
        }
    };
    // Far below 2^52.
    #[allow(clippy::cast_precision_loss)]
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}

/// Lets threads send until then, each at least once.
fn send_from(senders: usize, end: Instant, send: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let send_until_the_end = || {
        send()?;
        while Instant::now() < end {
            send()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let senders: Vec<_> = (0..senders).map(|_| scope.spawn(send_until_the_end)).collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(panicked)?)
    })
}

/// How many round trips of 8 bytes are made in a second by so many threads, each of which has
/// somebody of its own who answers. Endpoints share one socket; without endpoints each thread
/// has a socket.
///
/// # Errors
/// It could not be measured.
pub fn echoes(carrier: Carrier, threads: usize, time: Duration) -> Result<f64> {
    let mut echoes = Echo::several(carrier, 8, threads)?;
    let start = Instant::now();
    let count = thread::scope(|scope| -> Result<u64> {
        let threads: Vec<_> = echoes
            .iter_mut()
            .map(|echo| {
                scope.spawn(move || -> Result<u64> {
                    let mut count = 0;
                    while start.elapsed() < time {
                        echo.round_trip()?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        threads.into_iter().try_fold(0, |all, thread| Ok(all + thread.join().map_err(panicked)??))
    })?;
    // Far below 2^52.
    #[allow(clippy::cast_precision_loss)]
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// How long a short message takes that is sent right after a message of [`LONG`]
/// bytes to the same peer, which is on another connection; over a raw socket there
/// is only one. This `count` times.
///
/// # Errors
/// It could not be measured.
pub fn beside_a_long_message(carrier: Carrier, count: usize) -> Result<Vec<Duration>> {
    match carrier {
        Carrier::Endpoints(dialect) => beside_on_endpoints(dialect, count),
        Carrier::Socket => behind_on_a_socket(count),
    }
}

fn beside_on_endpoints(dialect: Dialect, count: usize) -> Result<Vec<Duration>> {
    let pair = Pair::new(dialect)?;
    let (long, long_end) = pair.open()?;
    let (short, short_end) = pair.open()?;
    let arrived = Arc::new(AtomicUsize::new(0));
    let counting = {
        let arrived = arrived.clone();
        thread::spawn(move || -> Result<()> {
            while long_end.receive()?.is_some() {
                arrived.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        })
    };
    let mut times = Vec::new();
    for number in 0..count {
        long.send_vec(vec![0; LONG])?;
        let start = Instant::now();
        short.send(&[SHORT])?;
        short_end.receive()?;
        times.push(start.elapsed());
        // The next one has the way for itself again.
        while arrived.load(Ordering::SeqCst) == number {
            thread::yield_now();
        }
    }
    drop(long);
    joined(counting)??;
    Ok(times)
}

fn behind_on_a_socket(count: usize) -> Result<Vec<Duration>> {
    let (mut here, mut there) = sockets()?;
    let receiving = thread::spawn(move || -> Result<Vec<Instant>> {
        let (mut long, mut short) = (vec![0; LONG], [0; SHORT.len()]);
        let mut arrived = Vec::new();
        for _ in 0..count {
            there.read_exact(&mut long)?;
            there.read_exact(&mut short)?;
            arrived.push(Instant::now());
            there.write_all(&short)?;
        }
        Ok(arrived)
    });
    let message = vec![0; LONG];
    let mut sent = Vec::new();
    for _ in 0..count {
        sent.push(Instant::now());
        here.write_all(&message)?;
        here.write_all(SHORT)?;
        here.read_exact(&mut [0; SHORT.len()])?;
    }
    let arrived = joined(receiving)??;
    Ok(arrived.iter().zip(sent).map(|(arrived, sent)| *arrived - sent).collect())
}

/// What one of many connections costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From its `connect` to the other side's knowing it.
    pub time: Duration,
    /// Memory of both ends together, in bytes.
    pub bytes: f64,
}

/// Opens so many connections. The memory is only right in a process that has done
/// nothing else.
///
/// # Errors
/// It could not be measured.
pub fn many_connections(dialect: Dialect, count: usize) -> Result<Cost> {
    let pair = Pair::new(dialect)?;
    let first = pair.open()?;
    let before = resident()?;
    let start = Instant::now();
    let connections = pair.open_many(count)?;
    let time = start.elapsed() / u32::try_from(count)?;
    #[allow(clippy::cast_precision_loss)]
    let bytes = resident()?.saturating_sub(before) as f64 / count as f64;
    drop((first, connections));
    Ok(Cost { time, bytes })
}

/// The memory of this process, in bytes.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).ok_or("no VmRSS")?;
    Ok(kib.parse::<usize>()? << 10)
}

fn joined<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(panicked)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Failure {
    "a thread panicked".into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_carrier_can_be_measured() {
        for carrier in Carrier::ALL {
            for size in [SIZES[0], SIZES[5]] {
                let mut echo = Echo::new(carrier, size).unwrap();
                for _ in 0..3 {
                    echo.round_trip().unwrap();
                    assert_eq!(echo.message.len(), size);
                }
                assert!(throughput(carrier, size, 2, Duration::from_millis(1)).unwrap() > 0.0);
            }
        }
        let cost = many_connections(Dialect::Multiplexed, 100).unwrap();
        assert!(cost.time > Duration::ZERO);
        for carrier in Carrier::ALL {
            assert!(!beside_a_long_message(carrier, 1).unwrap().is_empty());
            assert!(echoes(carrier, 2, Duration::from_millis(1)).unwrap() > 0.0);
        }
    }
}
