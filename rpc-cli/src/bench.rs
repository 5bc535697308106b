//! `capnp-threads bench`: what a server of `echo.capnp` can do, measured from here.
//!
//! The figures have the names that the project's own load program gives them.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, Instant};

use capnp_threads_core::{ConnConfig, Limits, Vat};

use crate::echo_capnp::echo;
use crate::failure::{Failure, Result};
use crate::reach::{Destination, Identity};

/// How many `next`s stand before the `ping` of a chain.
const CHAIN_DEPTH: usize = 10;

/// The bytes of one `push`.
const CHUNK_BYTES: usize = 64 << 10;

/// The limit on outstanding calls, which no figure reaches.
const QUESTIONS: u32 = 4096;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the server is: `host:port`, `unix:/path`, `unix-abstract:name` or
    /// `tls:VATID@host:port`. Its bootstrap object has the interface Echo of the project's
    /// echo.capnp
    address: Destination,
    /// How long each figure is measured for, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// Which figures, separated by commas
    #[arg(
        long,
        default_value = "ping,threads8,pipelined_w16,pipelined_w128,pipelined_w1024,chain10,stream64k",
        value_delimiter = ','
    )]
    figures: Vec<Figure>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    identity: Identity,
}

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    /// Calls one at a time.
    Ping,
    /// From this many threads, each with one call at a time.
    Threads(usize),
    /// This many calls at a time, from one thread.
    Pipelined(usize),
    /// Calls on results that are still to come.
    Chain,
    /// Large calls without results.
    Stream,
}

impl FromStr for Figure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |prefix: &str| -> Option<usize> {
            let count = text.strip_prefix(prefix)?.parse().ok()?;
            (1..QUESTIONS as usize).contains(&count).then_some(count)
        };
        match text {
            "ping" => Ok(Figure::Ping),
            "chain10" => Ok(Figure::Chain),
            "stream64k" => Ok(Figure::Stream),
            _ => count("threads")
                .map(Figure::Threads)
                .or_else(|| count("pipelined_w").map(Figure::Pipelined))
                .ok_or_else(|| {
                    "figures are ping, threadsN, pipelined_wN, chain10 and stream64k, where N is \
                     a number below 4096"
                        .to_owned()
                }),
        }
    }
}

/// Measures, and prints each figure once it is there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let time = Duration::try_from_secs_f64(arguments.seconds)
        .map_err(|_| Failure::command("--seconds has to be a number of seconds"))?;
    let vat = Vat::new();
    let mut limits = Limits::default();
    limits.questions = QUESTIONS;
    let transport = arguments.identity.connect(&arguments.address, None)?;
    let connection = vat.connect(transport, ConnConfig::new().limits(limits))?;
    let echo: echo::Client = connection.bootstrap();
    // Whether the server is one, and connected, is no matter of a figure.
    echo.ping_request().call()?;
    let mut all = serde_json::Map::new();
    for figure in &arguments.figures {
        for (name, value) in measure(&echo, *figure, time)? {
            if arguments.json {
                all.insert(name, value.into());
            } else {
                crate::print(&format!("{name:<28} {value:>14.1}\n"))?;
            }
        }
    }
    drop(echo);
    connection.close();
    if arguments.json {
        crate::print(&format!("{}\n", serde_json::Value::Object(all)))?;
    }
    Ok(())
}

/// The figures of one kind of work that goes on for so long.
fn measure(echo: &echo::Client, figure: Figure, time: Duration) -> Result<Vec<(String, f64)>> {
    let end = Instant::now() + time;
    Ok(match figure {
        Figure::Ping => {
            let mut times = calls_until(echo, end)?;
            times.sort_unstable();
            let at = |part: f64| micros(times[portion(times.len() - 1, part)]);
            vec![
                ("ping_us_p50".to_owned(), at(0.5)),
                ("ping_us_p99".to_owned(), at(0.99)),
                ("ping_us_max".to_owned(), at(1.0)),
            ]
        }
        Figure::Threads(threads) => {
            let start = Instant::now();
            let calls = std::thread::scope(|scope| {
                let callers: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(|| calls_until(echo, end).map(|times| times.len())))
                    .collect();
                let joined = callers.into_iter().map(|caller| match caller.join() {
                    Ok(calls) => calls,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                joined.sum::<Result<usize>>()
            })?;
            vec![(format!("threads{threads}_calls_per_s"), per_second(calls, start))]
        }
        Figure::Pipelined(window) => {
            let start = Instant::now();
            let mut calls = 0;
            let mut outstanding = VecDeque::with_capacity(window);
            while Instant::now() < end || calls == 0 {
                // The clock is looked at between windows.
                for _ in 0..window {
                    if outstanding.len() == window
                        && let Some(oldest) = outstanding.pop_front()
                    {
                        wait(&oldest)?;
                    }
                    outstanding.push_back(echo.ping_request().send());
                    calls += 1;
                }
            }
            outstanding.iter().try_for_each(wait)?;
            vec![(format!("pipelined_w{window}_calls_per_s"), per_second(calls, start))]
        }
        Figure::Chain => {
            let start = Instant::now();
            let mut chains = 0;
            while Instant::now() < end || chains == 0 {
                let mut echo = echo.clone();
                for _ in 0..CHAIN_DEPTH {
                    echo = echo.next_request().send().pipeline().get_echo();
                }
                echo.ping_request().call()?;
                chains += 1;
            }
            vec![(format!("chain{CHAIN_DEPTH}_us"), 1e6 / per_second(chains, start))]
        }
        Figure::Stream => {
            let data = vec![7; CHUNK_BYTES];
            let fresh = echo.next_request().call()?.get()?.get_echo()?;
            let start = Instant::now();
            let mut chunks = 0;
            while Instant::now() < end || chunks == 0 {
                let mut request = fresh.push_request();
                request.get().set_data(&data);
                request.send()?;
                chunks += 1;
            }
            let arrived = fresh.total_request().call()?.get()?.get_bytes();
            if arrived != (chunks * CHUNK_BYTES) as u64 {
                return Err(Failure::call(format_args!(
                    "{} bytes were pushed, and the server counted {arrived}",
                    chunks * CHUNK_BYTES
                )));
            }
            let name = format!("stream{}k_MBps", CHUNK_BYTES >> 10);
            #[expect(clippy::cast_precision_loss, reason = "a size")]
            let megabytes = CHUNK_BYTES as f64 / 1e6;
            vec![(name, megabytes * per_second(chunks, start))]
        }
    })
}

/// Calls `ping` one after the other, at least once, and tells how long each took.
fn calls_until(echo: &echo::Client, end: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        echo.ping_request().call()?;
        let now = Instant::now();
        times.push(now - start);
        if now >= end {
            return Ok(times);
        }
    }
}

fn wait(call: &capnp_threads_core::Promise<echo::ping_results::Owned>) -> Result<()> {
    call.wait()?;
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a count of calls")]
fn per_second(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64().max(1e-9)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list"
)]
fn portion(last: usize, part: f64) -> usize {
    ((last as f64 * part) as usize).min(last)
}
