//! Figures of calls and messages that stay in one process.
//!
//! | figure | work |
//! |---|---|
//! | `local_call_us` | one `ping` at a time on an object of the same vat |
//! | `memory_call_us` | one `ping` at a time between two vats with the `memory` transport |
//! | `two_vats_call_us` | one `ping` at a time between two vats on one thread, which makes every step of both; messages are encoded, moved and decoded |
//! | `endpoint_round_trip_us` | a message of 8 bytes to an endpoint and back over TCP; the median |
//!
//! C++ takes those that it can, with an in-process pipe between two vats of one event
//! loop, and a raw socket takes the last one.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use capnp_threads_core::bench::TwoVats;
use capnp_threads_core::{Concurrency, Vat};
use capnp_threads_endpoint::Dialect;
use rpc_schema::echo_capnp::echo;

use crate::endpoints::{Carrier, Echo as EndpointEcho};
use crate::figures::{Line, number};
use crate::link::{Kind, Link};
use crate::service::Echo;
use crate::{Failure, Result, cli};

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Calls on an object of the same vat.
    Local,
    /// Calls over the `memory` transport.
    Memory,
    /// Calls between two vats on one thread.
    TwoVats,
    /// Short messages between endpoints.
    Endpoint,
}

/// The length of a message between endpoints, in bytes.
const MESSAGE: usize = 8;

impl Within {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Within; 4] = [Within::Local, Within::Memory, Within::TwoVats, Within::Endpoint];

    /// How many calls are made, after a tenth of that to warm up.
    fn calls(self) -> usize {
        match self {
            Within::Local | Within::Memory => 100_000,
            Within::TwoVats => 300_000,
            Within::Endpoint => 20_000,
        }
    }

    /// Takes the figure of this library, with that part of the work.
    ///
    /// # Errors
    /// A call failed.
    pub fn ours(self, divisor: usize) -> Result<Line> {
        match self {
            Within::Local => {
                let vat = Vat::new();
                let echo = Echo::client(&vat, Concurrency::Serial);
                self.mean(divisor, || {
                    echo.ping_request().call()?;
                    Ok(())
                })
            }
            Within::Memory => {
                let link = Link::new(Kind::Memory, Concurrency::Serial)?;
                self.mean(divisor, || {
                    link.echo().ping_request().call()?;
                    Ok(())
                })
            }
            Within::TwoVats => {
                let mut vats = TwoVatsLink::new()?;
                self.mean(divisor, || vats.ping())
            }
            Within::Endpoint => self.round_trips(divisor, Carrier::Endpoints(Dialect::Multiplexed)),
        }
    }

    /// Takes the figure of a raw socket, with that part of the work.
    ///
    /// # Errors
    /// There is none, or a message was lost.
    pub fn raw(self, divisor: usize) -> Result<Line> {
        match self {
            Within::Endpoint => self.round_trips(divisor, Carrier::Socket),
            _ => Err(format!("a raw socket has no figure {self}").into()),
        }
    }

    fn mean(self, divisor: usize, mut call: impl FnMut() -> Result<()>) -> Result<Line> {
        let calls = (self.calls() / divisor).max(1);
        for _ in 0..calls.div_ceil(10) {
            call()?;
        }
        let start = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        Ok(self.line(start.elapsed().div_f64(number(calls))))
    }

    fn round_trips(self, divisor: usize, carrier: Carrier) -> Result<Line> {
        let trips = (self.calls() / divisor).max(1);
        let mut echo = EndpointEcho::new(carrier, MESSAGE)?;
        for _ in 0..trips.div_ceil(10) {
            echo.round_trip()?;
        }
        let mut times = Vec::with_capacity(trips);
        for _ in 0..trips {
            let start = Instant::now();
            echo.round_trip()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(self.line(times[times.len() / 2]))
    }

    fn line(self, each: Duration) -> Line {
        Line::new(format!("{self}_us"), each.as_secs_f64() * 1e6, 3)
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Within::Local => "local_call",
            Within::Memory => "memory_call",
            Within::TwoVats => "two_vats_call",
            Within::Endpoint => "endpoint_round_trip",
        })
    }
}

impl FromStr for Within {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let known = Within::ALL.into_iter().find(|figure| figure.to_string() == text);
        known.ok_or_else(|| {
            let names: Vec<String> = Within::ALL.iter().map(Within::to_string).collect();
            format!("there is no figure {text:?}; there are {}", names.join(", ")).into()
        })
    }
}

/// Reads the options of a program that takes the figures within a process: which, and
/// which part of the work.
///
/// # Errors
/// Says what is wrong with them.
pub fn options(options: impl IntoIterator<Item = String>) -> Result<(Vec<Within>, usize)> {
    let mut options = options.into_iter();
    let (mut figures, mut divisor) = (Within::ALL.to_vec(), 1);
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--figures" => figures = value.split(',').map(str::parse).collect::<Result<_>>()?,
            "--divide" => divisor = cli::positive(&option, &value)?,
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    Ok((figures, divisor))
}

/// Takes figures within this process and prints them.
///
/// # Errors
/// One of them cannot be taken.
pub fn run(
    options: impl IntoIterator<Item = String>,
    measure: impl Fn(Within, usize) -> Result<Line>,
) -> Result<()> {
    let (figures, divisor) = self::options(options)?;
    let mut out = std::io::stdout().lock();
    for figure in figures {
        writeln!(out, "{}", measure(figure, divisor)?)?;
        out.flush()?;
    }
    Ok(())
}

/// Two vats on the thread that calls.
pub struct TwoVatsLink {
    vats: TwoVats,
    echo: echo::Client,
    /// Of the objects that are made in a call.
    _vat: Vat,
}

impl TwoVatsLink {
    /// Links them.
    ///
    /// # Errors
    /// A message is lost.
    pub fn new() -> Result<Self> {
        let vat = Vat::new();
        let (vats, echo) = TwoVats::new::<echo::Client, _>(Echo::new(&vat, Concurrency::Serial))?;
        Ok(TwoVatsLink { vats, echo, _vat: vat })
    }

    /// Makes a call.
    ///
    /// # Errors
    /// It fails.
    pub fn ping(&mut self) -> Result<()> {
        let promise = self.echo.ping_request().send();
        self.vats.settle()?;
        promise.try_response().ok_or("the call did not return")??;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_say_which_part_of_the_work() {
        let options = options(["--figures", "memory_call", "--divide", "5"].map(str::to_owned));
        assert_eq!(options.unwrap(), (vec![Within::Memory], 5));
    }

    #[test]
    fn every_figure_is_taken_and_named() {
        for figure in Within::ALL {
            assert_eq!(figure.to_string().parse::<Within>().unwrap(), figure);
            let line = figure.ours(10_000).unwrap();
            assert_eq!(line.name, format!("{figure}_us"));
            assert!(line.value > 0.0);
        }
        assert!(Within::Endpoint.raw(10_000).unwrap().value > 0.0);
        assert!(Within::Local.raw(10_000).is_err());
    }
}
