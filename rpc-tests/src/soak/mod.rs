//! The program `soak`: everything at once, for hours, with both sides keeping books.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod account;
mod load;
mod slope;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::load::{Counts, Handoffs, Load, Shared};
use self::slope::{Line, Sample};
use crate::support::{vat, vat_that_shares_threads};

const USAGE: &str = "\
usage: soak [--minutes N | --seconds N] [--threads N] [--connections N] [--vats N] [--seed N] [--own-threads]

Threads (64) with connections (1000, together) to one vat call, are called back, cancel,
pass capabilities on, hand off, reconnect and kill connections, for so many minutes (10).
Both sides keep books, which are compared when a reference is not used any more: every call
that was answered has arrived once, none has arrived behind a later one, and every object was
dropped. In the second half, memory, descriptors and threads must not grow. The connections
share the threads of their vats, unless each is to have its own.";

struct Options {
    seconds: u64,
    threads: usize,
    connections: usize,
    vats: usize,
    seed: u64,
    shares: bool,
}

impl Options {
    fn read(arguments: &[String]) -> Option<Self> {
        let mut options = Options {
            seconds: 600,
            threads: 64,
            connections: 1000,
            vats: 4,
            seed: 1,
            shares: true,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if name == "--own-threads" {
                options.shares = false;
                continue;
            }
            let value: u64 = arguments.next()?.parse().ok()?;
            let count = usize::try_from(value).ok().filter(|count| *count > 0);
            match name.as_str() {
                "--seconds" => options.seconds = value,
                "--minutes" => options.seconds = value.checked_mul(60)?,
                "--seed" => options.seed = value,
                "--threads" => options.threads = count?,
                "--connections" => options.connections = count?,
                "--vats" => options.vats = count?,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Runs the program.
pub fn main(arguments: &[String]) -> ExitCode {
    let Some(options) = Options::read(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // Both ends of each connection are in this process.
    if let Err(error) = crate::attacks::raise_descriptors() {
        eprintln!("cannot raise the number of descriptors: {error}");
    }
    let make = if options.shares { vat_that_shares_threads } else { vat };
    let shared = Arc::new(Shared {
        hub: make("hub"),
        callers: (0..options.vats).map(|number| make(&format!("caller{number}"))).collect(),
        handoffs: Handoffs::new(),
        counts: Counts::default(),
        over: AtomicBool::new(false),
    });
    let each = options.connections.div_ceil(options.threads);
    let loads: Vec<_> = (0..options.threads as u64)
        .map(|number| {
            let shared = Arc::clone(&shared);
            let seed = options.seed << 16 | number;
            thread::spawn(move || Load::new(&shared, seed, each).run())
        })
        .collect();
    let samples = measure(Duration::from_secs(options.seconds), &shared);
    shared.over.store(true, Ordering::Relaxed);
    let mut wrong: Vec<String> = Vec::new();
    for load in loads {
        match load.join() {
            Ok(of_one) => wrong.extend(of_one),
            Err(_) => wrong.push("a thread has panicked".to_owned()),
        }
    }
    wrong.extend(shared.handoffs.wrong());
    println!("{:?}", shared.counts);
    wrong.extend(judge(&samples));
    if wrong.is_empty() {
        println!("nothing was lost or reordered, and nothing grows");
        return ExitCode::SUCCESS;
    }
    for what in &wrong {
        println!("WRONG: {what}");
    }
    ExitCode::FAILURE
}

/// Measures four times a second, and prints a line now and then.
fn measure(time: Duration, shared: &Shared) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::with_capacity(usize::try_from(4 * time.as_secs()).unwrap_or(0) + 4);
    let mut printed = 0;
    while began.elapsed() < time {
        thread::sleep(Duration::from_millis(250));
        let sample = Sample::now(began.elapsed().as_secs_f64());
        samples.push(sample);
        if began.elapsed().as_secs() / 20 > printed {
            printed = began.elapsed().as_secs() / 20;
            println!(
                "{:5.0} s: {:7.2} MB held, {:7.2} MB resident, {} descriptors, {} threads, {} calls",
                sample.at,
                sample.held / 1e6,
                sample.resident / 1e6,
                sample.descriptors,
                sample.threads,
                shared.counts.calls.load(Ordering::Relaxed),
            );
        }
    }
    samples
}

/// What is measured, how to get it from a sample, and its unit.
type Quantity = (&'static str, fn(&Sample) -> f64, f64);

/// The means of a few parts of the time. One sample says much of what the next one will be, so a
/// line through all of them would seem to be known better than it is.
fn means(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const PARTS: usize = 16;
    let mean = |part: &[(f64, f64)]| {
        let count = slope::number(part.len());
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(points.len().div_ceil(PARTS).max(1)).map(mean).collect()
}

/// What grows.
fn judge(samples: &[Sample]) -> Vec<String> {
    let half = &samples[samples.len() / 2..];
    let (Some(first), Some(last)) = (half.first(), half.last()) else {
        return vec!["nothing was measured".to_owned()];
    };
    let minutes = (last.at - first.at) / 60.0;
    let quantities: [Quantity; 4] = [
        ("MB held", |sample| sample.held, 1e6),
        ("MB resident", |sample| sample.resident, 1e6),
        ("descriptors", |sample| sample.descriptors, 1.0),
        ("threads", |sample| sample.threads, 1.0),
    ];
    let mut grows = Vec::new();
    for (name, value, unit) in quantities {
        let points =
            half.iter().map(|sample| (sample.at, value(sample) / unit)).collect::<Vec<_>>();
        let line = Line::through(means(&points).into_iter());
        let text = format!(
            "{name}: {:.2} in the mean, {:+.3} a minute, give or take {:.3}",
            line.mean, line.by_minute, line.error
        );
        println!("{text}");
        if line.rises(minutes) {
            grows.push(text);
        }
    }
    grows
}
