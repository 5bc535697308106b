//! Measures endpoints against raw sockets, in one process over the loopback
//! interface. Prints one line of comma-separated values per measurement.
//!
//! ```text
//! cargo run --release -p rpc-transport --example endpoint_bench [seconds per measurement [dialect]]
//! ```
//!
//! The figures of memory are only comparable if each dialect runs in a process of
//! its own.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rpc_transport::endpoint::{
    ConnectHints, Connection, Dialect, EndPoint, Event, Incoming, Network, Parameters,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const SIZES: [usize; 7] = [8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 1 << 20];
const DIALECTS: [(&str, Dialect); 3] = [
    ("original", Dialect::Original),
    ("versioned", Dialect::Versioned),
    ("multiplexed", Dialect::Multiplexed),
];

fn main() -> Outcome {
    let seconds = std::env::args().nth(1).map_or(Ok(1.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let only = std::env::args().nth(2);
    let dialects = || DIALECTS.iter().filter(|(name, _)| only.as_ref().is_none_or(|o| o == name));
    println!("measurement,carrier,bytes,value,unit");
    for dialect in dialects() {
        many_connections(*dialect, 10_000)?;
    }
    for size in SIZES {
        raw_round_trips(size, time)?;
        for dialect in dialects() {
            round_trips(*dialect, size, time)?;
        }
    }
    for size in SIZES {
        raw_throughput(size, time)?;
        for dialect in dialects() {
            throughput(*dialect, size, time)?;
        }
    }
    for dialect in dialects() {
        latency_beside_a_long_message(*dialect)?;
    }
    Ok(())
}

fn report(measurement: &str, carrier: &str, bytes: usize, value: f64, unit: &str) {
    println!("{measurement},{carrier},{bytes},{value:.3},{unit}");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Half of the measurements are shorter than this.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Repeats something for a while; says how long it usually took.
fn repeat(time: Duration, mut action: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        action()?;
        times.push(start.elapsed());
    }
    Ok(median(&mut times))
}

fn raw_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

fn raw_round_trips(size: usize, time: Duration) -> Outcome {
    let (mut one, mut other) = raw_pair()?;
    let echo = thread::spawn(move || -> io::Result<()> {
        let mut message = vec![0; size];
        while other.read_exact(&mut message).is_ok() {
            other.write_all(&message)?;
        }
        Ok(())
    });
    let mut message = vec![0; size];
    let usual = repeat(time, || {
        one.write_all(&message)?;
        Ok(one.read_exact(&mut message)?)
    })?;
    drop(one);
    joined(echo)??;
    report("round trip", "socket", size, micros(usual), "us");
    Ok(())
}

fn raw_throughput(size: usize, time: Duration) -> Outcome {
    let (mut one, mut other) = raw_pair()?;
    let sink = thread::spawn(move || io::copy(&mut other, &mut io::sink()));
    let message = vec![0; size];
    let start = Instant::now();
    while start.elapsed() < time {
        one.write_all(&message)?;
    }
    drop(one);
    let bytes = joined(sink)??;
    report("throughput", "socket", size, mib_per_second(bytes, start), "MiB/s");
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn mib_per_second(bytes: u64, start: Instant) -> f64 {
    bytes as f64 / f64::from(1 << 20) / start.elapsed().as_secs_f64()
}

fn joined<T>(thread: thread::JoinHandle<T>) -> Outcome<T> {
    thread.join().map_err(|_| "a thread panicked".into())
}

/// Two endpoints of two networks.
struct Pair {
    here: EndPoint,
    there: EndPoint,
    _networks: [Network; 2],
}

impl Pair {
    fn new(dialect: Dialect) -> Outcome<Self> {
        let mut parameters = Parameters::default();
        parameters.dialect = dialect;
        parameters.max_message = 128 << 20;
        let networks = [
            Network::bind("127.0.0.1", 0, parameters.clone())?,
            Network::bind("127.0.0.1", 0, parameters)?,
        ];
        Ok(Pair {
            here: networks[0].new_endpoint()?,
            there: networks[1].new_endpoint()?,
            _networks: networks,
        })
    }

    /// A connection with both of its ends.
    fn connection(&self) -> Outcome<(Connection, Incoming)> {
        connection(&self.here, &self.there)
    }
}

fn connection(from: &EndPoint, to: &EndPoint) -> Outcome<(Connection, Incoming)> {
    let sending = from.connect(to.address(), ConnectHints::new())?;
    loop {
        if let Event::ConnectionOpened { connection, .. } = to.receive()? {
            let incoming = to.claim(connection).ok_or("the connection is gone")?;
            return Ok((sending, incoming));
        }
    }
}

fn round_trips((name, dialect): (&str, Dialect), size: usize, time: Duration) -> Outcome {
    let pair = Pair::new(dialect)?;
    let (ping, pinged) = pair.connection()?;
    let (pong, ponged) = connection(&pair.there, &pair.here)?;
    let echo = thread::spawn(move || -> Outcome {
        while let Some(message) = pinged.receive()? {
            pong.send_vec(message)?;
        }
        Ok(())
    });
    let mut message = vec![0; size];
    let usual = repeat(time, || {
        ping.send_vec(std::mem::take(&mut message))?;
        message = ponged.receive()?.ok_or("the echo is gone")?;
        Ok(())
    })?;
    drop(ping);
    joined(echo)??;
    report("round trip", name, size, micros(usual), "us");
    Ok(())
}

fn throughput((name, dialect): (&str, Dialect), size: usize, time: Duration) -> Outcome {
    let pair = Pair::new(dialect)?;
    let (sending, receiving) = pair.connection()?;
    let sink = thread::spawn(move || -> Outcome<u64> {
        let mut bytes = 0;
        while let Some(message) = receiving.receive()? {
            bytes += message.len() as u64;
        }
        Ok(bytes)
    });
    let message = vec![0; size];
    let start = Instant::now();
    while start.elapsed() < time {
        sending.send(&[&message])?;
    }
    drop(sending);
    let bytes = joined(sink)??;
    report("throughput", name, size, mib_per_second(bytes, start), "MiB/s");
    Ok(())
}

/// How long a short message takes while messages of 64 MiB go to the same peer.
fn latency_beside_a_long_message((name, dialect): (&str, Dialect)) -> Outcome {
    const LONG: usize = 64 << 20;
    let pair = Pair::new(dialect)?;
    let (long, long_end) = pair.connection()?;
    let (short, short_end) = pair.connection()?;
    let done = AtomicBool::new(false);
    let mut times = thread::scope(|scope| -> Outcome<Vec<Duration>> {
        let sending = scope.spawn(|| -> Outcome {
            for _ in 0..8 {
                long.send_vec(vec![0; LONG])?;
            }
            long.close();
            Ok(())
        });
        let receiving = scope.spawn(|| -> Outcome {
            while long_end.receive()?.is_some() {}
            done.store(true, Ordering::Relaxed);
            Ok(())
        });
        let mut times = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            short.send(&[b"short"])?;
            short_end.receive()?;
            times.push(start.elapsed());
        }
        sending.join().map_err(|_| "a thread panicked")??;
        receiving.join().map_err(|_| "a thread panicked")??;
        Ok(times)
    })?;
    report("latency beside 64 MiB (median)", name, 5, micros(median(&mut times)), "us");
    let longest = times.last().copied().unwrap_or_default();
    report("latency beside 64 MiB (longest)", name, 5, micros(longest), "us");
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn many_connections((name, dialect): (&str, Dialect), count: usize) -> Outcome {
    let pair = Pair::new(dialect)?;
    let first = pair.here.connect(pair.there.address(), ConnectHints::new())?;
    let before = resident()?;
    let start = Instant::now();
    let mut connections = vec![first];
    while connections.len() < count {
        connections.push(pair.here.connect(pair.there.address(), ConnectHints::new())?);
    }
    for _ in 0..count {
        pair.there.receive()?;
    }
    let time = start.elapsed() / u32::try_from(count)?;
    report("opening one of many connections", name, count, micros(time), "us");
    let each = resident()?.saturating_sub(before) as f64 / count as f64;
    report("memory of one of many connections, both ends", name, count, each, "bytes");
    Ok(())
}

/// The memory of this process in bytes.
fn resident() -> Outcome<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).ok_or("no VmRSS")?;
    Ok(kib.parse::<usize>()? << 10)
}
