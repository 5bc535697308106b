//! Many threads on one connection, each of which waits for its own calls, beside one
//! thread that does not wait for each; and beside threads that are only woken for each call, by one
//! other thread, which is the least that the former cost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

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
    /// This many threads, without any connection.
    OnlyWoken(usize),
}

pub(crate) fn table(options: &Options) -> Result<Table> {
    let callers = [
        Callers::Window(1024),
        Callers::Threads(64),
        Callers::Threads(1000),
        Callers::OnlyWoken(64),
        Callers::OnlyWoken(1000),
    ];
    let mut cases: Vec<_> = callers.map(|callers| (callers.name(), callers)).into();
    let calls = (CALLS / options.divisor).max(1);
    in_turns("threads", options, &mut cases, |callers| {
        let link = || Link::new(Kind::Unix, Concurrency::Serial);
        let time = match *callers {
            Callers::Window(window) => {
                let link = link()?;
                let start = Instant::now();
                pings(link.echo(), calls, window)?;
                start.elapsed()
            }
            Callers::Threads(threads) => calls_by_threads(link()?.echo(), calls, threads)?,
            Callers::OnlyWoken(threads) => only_woken(calls, threads),
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
            Callers::OnlyWoken(threads) => format!("{threads} threads, only woken"),
        }
    }
}

/// What a thread asks for that is only woken.
struct Asked<'a> {
    thread: Thread,
    answered: &'a AtomicBool,
}

/// So many threads ask one for so many answers, together, and park until they have each.
fn only_woken(calls: usize, threads: usize) -> Duration {
    let answered: Vec<_> = (0..threads).map(|_| AtomicBool::new(false)).collect();
    let (ask, asked) = mpsc::channel::<Asked<'_>>();
    let start = Instant::now();
    thread::scope(|scope| {
        for answered in &answered {
            let ask = ask.clone();
            scope.spawn(move || (0..calls / threads).try_for_each(|_| one(&ask, answered)));
        }
        drop(ask);
        for Asked { thread, answered } in asked {
            answered.store(true, Ordering::SeqCst);
            thread.unpark();
        }
    });
    start.elapsed()
}

/// `None` when nobody answers any more.
fn one<'a>(ask: &Sender<Asked<'a>>, answered: &'a AtomicBool) -> Option<()> {
    answered.store(false, Ordering::SeqCst);
    ask.send(Asked { thread: thread::current(), answered }).ok()?;
    while !answered.load(Ordering::SeqCst) {
        thread::park();
    }
    Some(())
}
