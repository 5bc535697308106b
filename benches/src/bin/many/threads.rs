//! Many threads on one connection, each of which waits for its own calls, beside one
//! thread that does not wait for each.

use std::time::Instant;

use benches::Result;
use benches::figures::{Line, number};
use benches::link::{Kind, Link};
use benches::load::{calls_by_threads, pings};
use benches::table::Table;
use capnp_threads_core::Concurrency;

use crate::{Options, in_turns};

const CALLS: usize = 300_000;

/// Who makes the calls.
#[derive(Clone, Copy)]
enum Callers {
    /// One thread with this many outstanding.
    Window(usize),
    /// This many threads, each with one.
    Threads(usize),
}

pub(crate) fn table(options: &Options) -> Result<Table> {
    let callers = [Callers::Window(1024), Callers::Threads(64), Callers::Threads(1000)];
    let mut cases: Vec<_> = callers.map(|callers| (callers.name(), callers)).into();
    let calls = (CALLS / options.divisor).max(1);
    in_turns("threads", options, &mut cases, |callers| {
        let link = Link::new(Kind::Unix, Concurrency::Serial)?;
        let time = match *callers {
            Callers::Window(window) => {
                let start = Instant::now();
                pings(link.echo(), calls, window)?;
                start.elapsed()
            }
            Callers::Threads(threads) => calls_by_threads(link.echo(), calls, threads)?,
        };
        let rate = number(calls) / time.as_secs_f64();
        Ok(vec![Line::new("calls_per_s".to_owned(), rate, 0)])
    })
}

impl Callers {
    fn name(self) -> String {
        match self {
            Callers::Window(window) => format!("one with {window}"),
            Callers::Threads(threads) => format!("{threads} threads"),
        }
    }
}
