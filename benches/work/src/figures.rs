//! The figures that every peer is measured by, and the work behind them.
//!
//! | figure | work |
//! |---|---|
//! | `ping_us_p50`, `ping_us_p99` | one `ping` at a time, 20 000 after 2 000 to warm up |
//! | `pipelined_wN_calls_per_s`, `pipelined_wN_client_cpu_us` | 300 000 `ping`s with N = 16, 128, 1024 outstanding; the client's processor time for each |
//! | `chain10_us` | `next().next()…` ten deep without waiting, then `ping`, awaited; 5 000 times |
//! | `stream64k_MBps` | 16 384 `push`es of 64 KiB, then `total`, which is checked |
//!
//! Programs in other languages do the same work and print the same lines.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::{Failure, Result, cpu};

const WARM_UP_CALLS: usize = 2_000;
const PING_CALLS: usize = 20_000;
const PIPELINED_CALLS: usize = 300_000;
const CHAINS: usize = 5_000;

/// How many `next`s stand before the `ping` of a chain.
pub const CHAIN_DEPTH: usize = 10;

const CHUNKS: usize = 16_384;

/// The bytes of one `push`.
pub const CHUNK_BYTES: usize = 64 << 10;

/// How many chunks are under way at once where the protocol does not say: enough for
/// neither side to wait for the other, few enough for all the answers to fit into a
/// socket.
pub const STREAM_WINDOW: usize = 16;

/// A client of some implementation, connected to its server.
pub trait Client {
    /// Calls `ping` this many times, one after the other, and tells how long each
    /// took.
    ///
    /// # Errors
    /// A call failed.
    fn ping(&mut self, calls: usize) -> Result<Vec<Duration>>;

    /// Calls `ping` this many times with up to `window` outstanding.
    ///
    /// # Errors
    /// A call failed.
    fn pipeline(&mut self, calls: usize, window: usize) -> Result<()>;

    /// Calls `next` [`CHAIN_DEPTH`] times, each on the result of the one before
    /// without waiting for it, and then `ping`, and waits for that; again and
    /// again.
    ///
    /// # Errors
    /// A call failed.
    fn chain(&mut self, times: usize) -> Result<()>;

    /// Pushes this many chunks of [`CHUNK_BYTES`] to a fresh object and returns
    /// its `total`.
    ///
    /// # Errors
    /// A call failed.
    fn stream(&mut self, chunks: usize) -> Result<u64>;
}

/// A kind of work, which gives one or two figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Calls one at a time.
    Ping,
    /// This many calls at a time.
    Pipelined(usize),
    /// Calls on results that are still to come.
    Chain,
    /// Large calls without results.
    Stream,
}

impl Figure {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Figure; 6] = [
        Figure::Ping,
        Figure::Pipelined(16),
        Figure::Pipelined(128),
        Figure::Pipelined(1024),
        Figure::Chain,
        Figure::Stream,
    ];
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Ping => f.write_str("ping"),
            Figure::Pipelined(window) => write!(f, "pipelined_w{window}"),
            Figure::Chain => write!(f, "chain{CHAIN_DEPTH}"),
            Figure::Stream => write!(f, "stream{}k", CHUNK_BYTES >> 10),
        }
    }
}

impl FromStr for Figure {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let known = Figure::ALL.into_iter().find(|figure| figure.to_string() == text);
        known.ok_or_else(|| {
            let names: Vec<String> = Figure::ALL.iter().map(Figure::to_string).collect();
            format!("there is no figure {text:?}; there are {}", names.join(", ")).into()
        })
    }
}

/// What a client is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which figures, in order.
    pub figures: Vec<Figure>,
    /// The amount of work is divided by this, for a short run.
    pub divisor: usize,
}

impl Default for Work {
    /// Everything in full.
    fn default() -> Self {
        Work { figures: Figure::ALL.to_vec(), divisor: 1 }
    }
}

impl Work {
    fn amount(&self, full: usize) -> usize {
        (full / self.divisor).max(1)
    }

    /// Does the work, and passes each figure on as soon as it is known.
    ///
    /// # Errors
    /// A call failed, the server counted wrongly, or a figure was not taken.
    pub fn run(
        &self,
        client: &mut dyn Client,
        mut print: impl FnMut(Line) -> Result<()>,
    ) -> Result<()> {
        client.ping(self.amount(WARM_UP_CALLS))?;
        for figure in &self.figures {
            for line in self.measure(*figure, client)? {
                print(line)?;
            }
        }
        Ok(())
    }

    fn measure(&self, figure: Figure, client: &mut dyn Client) -> Result<Vec<Line>> {
        let start = Instant::now();
        match figure {
            Figure::Ping => {
                let mut times = client.ping(self.amount(PING_CALLS))?;
                times.sort_unstable();
                let at = |percent: usize| {
                    let time = times.get(times.len() * percent / 100);
                    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
                };
                Ok(vec![
                    Line::new(format!("{figure}_us_p50"), at(50), 2),
                    Line::new(format!("{figure}_us_p99"), at(99), 2),
                ])
            }
            Figure::Pipelined(window) => {
                let calls = self.amount(PIPELINED_CALLS);
                let cpu = cpu::time();
                client.pipeline(calls, window)?;
                let cpu = cpu::time().saturating_sub(cpu);
                let rate = number(calls) / start.elapsed().as_secs_f64();
                let cpu = cpu.as_secs_f64() * 1e6 / number(calls);
                Ok(vec![
                    Line::new(format!("{figure}_calls_per_s"), rate, 0),
                    Line::new(format!("{figure}_client_cpu_us"), cpu, 3),
                ])
            }
            Figure::Chain => {
                let times = self.amount(CHAINS);
                client.chain(times)?;
                let each = start.elapsed().as_secs_f64() * 1e6 / number(times);
                Ok(vec![Line::new(format!("{figure}_us"), each, 2)])
            }
            Figure::Stream => {
                let chunks = self.amount(CHUNKS);
                let total = client.stream(chunks)?;
                let rate = number(chunks * CHUNK_BYTES) / start.elapsed().as_secs_f64() / 1e6;
                if total != (chunks * CHUNK_BYTES) as u64 {
                    return Err(
                        format!("{chunks} chunks were pushed and {total} bytes came").into()
                    );
                }
                Ok(vec![Line::new(format!("{figure}_MBps"), rate, 0)])
            }
        }
    }
}

/// A count as a value. Counts here stay far below 2^52, where this would begin to round.
#[allow(clippy::cast_precision_loss)]
pub fn number(count: usize) -> f64 {
    count as f64
}

/// A figure by its full name.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Such as `ping_us_p50`; the unit is part of it.
    pub name: String,
    /// In that unit.
    pub value: f64,
    decimals: usize,
}

impl Line {
    /// A value, printed with so many decimals.
    pub fn new(name: String, value: f64, decimals: usize) -> Self {
        Line { name, value, decimals }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.*}", self.name, self.decimals, self.value)
    }
}

impl FromStr for Line {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(' ').and_then(|(name, value)| {
            let decimals = value.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            Some(Line::new(name.to_owned(), value.parse().ok()?, decimals))
        });
        parts.ok_or_else(|| format!("{text:?} is not a figure").into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Fake(u64);

    impl Client for Fake {
        fn ping(&mut self, calls: usize) -> Result<Vec<Duration>> {
            Ok((0..calls as u64).rev().map(Duration::from_micros).collect())
        }
        fn pipeline(&mut self, _: usize, _: usize) -> Result<()> {
            Ok(())
        }
        fn chain(&mut self, _: usize) -> Result<()> {
            Ok(())
        }
        fn stream(&mut self, chunks: usize) -> Result<u64> {
            Ok(chunks as u64 * self.0)
        }
    }

    #[test]
    fn every_figure_has_its_name() {
        let mut names = Vec::new();
        let print = |line: Line| {
            names.push(line.name);
            Ok(())
        };
        Work::default().run(&mut Fake(65536), print).unwrap();
        assert_eq!(
            names,
            [
                "ping_us_p50",
                "ping_us_p99",
                "pipelined_w16_calls_per_s",
                "pipelined_w16_client_cpu_us",
                "pipelined_w128_calls_per_s",
                "pipelined_w128_client_cpu_us",
                "pipelined_w1024_calls_per_s",
                "pipelined_w1024_client_cpu_us",
                "chain10_us",
                "stream64k_MBps",
            ]
        );
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let work = Work { figures: vec![Figure::Ping], divisor: 1 };
        let mut lines = Vec::new();
        let print = |line: Line| {
            lines.push(line.to_string());
            Ok(())
        };
        work.run(&mut Fake(0), print).unwrap();
        assert_eq!(lines, ["ping_us_p50 10000.00", "ping_us_p99 19800.00"]);
    }

    #[test]
    fn bytes_that_got_lost_are_noticed() {
        let work = Work { figures: vec![Figure::Stream], divisor: 1 };
        assert!(work.run(&mut Fake(65535), |_| Ok(())).is_err());
    }

    #[test]
    fn figures_and_lines_are_read_as_they_are_printed() {
        for figure in Figure::ALL {
            assert_eq!(figure.to_string().parse::<Figure>().unwrap(), figure);
        }
        assert!("pipelined_w17".parse::<Figure>().is_err());
        let line: Line = "chain10_us 12.50".parse().unwrap();
        assert_eq!(
            (line.name.as_str(), line.to_string().as_str()),
            ("chain10_us", "chain10_us 12.50")
        );
        assert!("chain10_us".parse::<Line>().is_err());
    }
}
