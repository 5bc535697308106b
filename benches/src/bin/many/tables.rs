//! What a call costs when a connection's tables are long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use benches::Result;
use benches::figures::{Line, number};
use benches::link::{Kind, Link};
use benches::load::pings;
use benches::service::{Echo, Gate, Gated};
use benches::table::Table;
use capnp_threads_core::{Concurrency, Limits, Promise};
use rpc_schema::echo_capnp::echo;

use crate::{Options, in_turns, ping};

const CALLS: usize = 20_000;

/// What a long table is compared with.
const FEW: usize = 100;

/// How many calls fill a table at once.
const WINDOW: usize = 256;

/// Enough for every table here.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.questions = u32::MAX;
    limits.answers = u32::MAX;
    limits.exports = u32::MAX;
    limits.backlog_bytes = u64::MAX;
    limits.budget_bytes = u64::MAX;
    limits
}

/// Calls to an object beside many to another one, the first of which has not returned.
pub(crate) fn outstanding(options: &Options) -> Result<Table> {
    let count = options.outstanding;
    let mut cases = vec![
        (format!("{count} calls"), Outstanding::new(count)?),
        (format!("{FEW} calls"), Outstanding::new(FEW)?),
    ];
    let calls = (CALLS / options.divisor).max(1);
    in_turns("outstanding", options, &mut cases, |case| Ok(vec![ping(&case.other, calls)?]))
}

struct Outstanding {
    other: echo::Client,
    calls: Vec<Promise<echo::ping_results::Owned>>,
    gate: Arc<Gate>,
    _link: Link,
}

impl Outstanding {
    fn new(count: usize) -> Result<Self> {
        let gate = Arc::new(Gate::default());
        let link = Link::serving(Kind::Unix, &limits(), |vat| Gated::client(vat, &gate))?;
        let other = link.echo().next_request().call()?.get()?.get_echo()?;
        gate.close();
        let calls = (0..count).map(|_| link.echo().ping_request().send()).collect();
        // All of them have arrived when this one returns.
        other.ping_request().call()?;
        Ok(Outstanding { other, calls, gate, _link: link })
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.gate.open();
        for call in &self.calls {
            if let Err(error) = call.wait() {
                eprintln!("an outstanding call failed: {error}");
            }
        }
    }
}

/// Calls on a connection with many exports, and making and releasing one more.
pub(crate) fn exports(options: &Options) -> Result<Table> {
    let count = options.exports;
    let mut cases = vec![
        (format!("{count} exports"), Exports::new(count)?),
        (format!("{FEW} exports"), Exports::new(FEW)?),
    ];
    let calls = (CALLS / options.divisor).max(1);
    in_turns("exports", options, &mut cases, |case| {
        Ok(vec![ping(case.link.echo(), calls)?, case.next_and_drop(calls)?])
    })
}

struct Exports {
    link: Link,
    _held: Vec<echo::Client>,
}

impl Exports {
    fn new(count: usize) -> Result<Self> {
        let link =
            Link::serving(Kind::Unix, &limits(), |vat| Echo::client(vat, Concurrency::Serial))?;
        let mut held = Vec::with_capacity(count);
        let mut coming = VecDeque::with_capacity(WINDOW);
        while held.len() < count {
            while coming.len() < WINDOW.min(count - held.len()) {
                coming.push_back(link.echo().next_request().send());
            }
            if let Some(next) = coming.pop_front() {
                held.push(next.wait()?.get()?.get_echo()?);
            }
        }
        pings(link.echo(), WINDOW, WINDOW)?;
        Ok(Exports { link, _held: held })
    }

    fn next_and_drop(&self, calls: usize) -> Result<Line> {
        let start = Instant::now();
        for _ in 0..calls {
            drop(self.link.echo().next_request().call()?.get()?.get_echo()?);
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / number(calls);
        Ok(Line::new("next_and_drop_us".to_owned(), each, 3))
    }
}
