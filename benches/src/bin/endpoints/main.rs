//! Measures endpoints in their three dialects and raw sockets side by side, in
//! turns, and prints what each needed and the ratios.
//!
//! A machine that does other work at the same time makes every absolute figure
//! doubtful; so, as in `compare`, what counts are the ratios within a round.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use benches::cli::positive;
use benches::endpoints::{
    Carrier, Echo, LONG, SIZES, beside_a_long_message, echoes, many_connections, throughput,
};
use benches::figures::Line;
use benches::table::{Table, median};
use benches::{Failure, Result};
use capnp_threads_endpoint::Dialect;

const USAGE: &str = "endpoints [--rounds N] [--milliseconds N] [--figures PREFIX]
Measures each figure N times (default 5), each for so long (default 300); only those
whose names begin so, and the cost of connections";

/// Prints the cost of connections of a dialect and ends; for a process of its own.
const COST: &str = "--cost-of-connections";

/// How many connections are opened to see what one costs.
const MANY: usize = 10_000;

/// How many threads send at once, where several do.
const THREADS: usize = 8;

/// How many long messages go while short ones are sent.
const LONG_MESSAGES: usize = 8;

const DIALECTS: [Dialect; 3] = [Dialect::Multiplexed, Dialect::Versioned, Dialect::Original];

struct Options {
    rounds: usize,
    time: Duration,
    /// How the names of those begin that are measured.
    figures: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [option] if option == "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        [option, dialect] if option == COST => print_cost(dialect),
        _ => parse(&arguments).and_then(|options| measure(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("endpoints: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options =
        Options { rounds: 5, time: Duration::from_millis(300), figures: String::new() };
    for pair in arguments.chunks(2) {
        match pair {
            [option, value] if option == "--rounds" => options.rounds = positive(option, value)?,
            [option, value] if option == "--milliseconds" => {
                options.time = Duration::from_millis(positive(option, value)? as u64);
            }
            [option, value] if option == "--figures" => options.figures.clone_from(value),
            _ => return Err(format!("usage: {USAGE}").into()),
        }
    }
    Ok(options)
}

fn measure(options: &Options) -> Result<()> {
    let mut table = Table::new("messages", Carrier::ALL.iter().map(Carrier::to_string).collect());
    for size in SIZES {
        let name = format!("round_trip_{}_us", readable(size));
        in_turns(&mut table, options, &name, &Carrier::ALL, |carrier| {
            round_trip(carrier, size, options.time)
        })?;
    }
    for size in SIZES {
        let name = format!("throughput_{}_MBps", readable(size));
        in_turns(&mut table, options, &name, &Carrier::ALL, |carrier| {
            Ok(throughput(carrier, size, 1, options.time)? / 1e6)
        })?;
    }
    let name = format!("throughput_8B_from_{THREADS}_MBps");
    in_turns(&mut table, options, &name, &Carrier::ALL, |carrier| {
        Ok(throughput(carrier, 8, THREADS, options.time)? / 1e6)
    })?;
    let name = format!("echoes_8B_of_{THREADS}_per_s");
    in_turns(&mut table, options, &name, &Carrier::ALL, |carrier| {
        echoes(carrier, THREADS, options.time)
    })?;
    println!("{table}");

    let mut table = Table::new("beside", Carrier::ALL.iter().map(Carrier::to_string).collect());
    for (name, percent) in [("p50", 50), ("max", 100)] {
        let name = format!("beside_{}_{name}_us", readable(LONG));
        in_turns(&mut table, options, &name, &Carrier::ALL, |carrier| {
            let times = beside_a_long_message(carrier, LONG_MESSAGES)?;
            let mut times: Vec<f64> = times.into_iter().map(micros).collect();
            times.sort_unstable_by(f64::total_cmp);
            Ok(times.get((times.len() - 1) * percent / 100).copied().unwrap_or(f64::NAN))
        })?;
    }
    println!("{table}");

    let carriers = DIALECTS.map(Carrier::Endpoints);
    let mut table = Table::new("connections", carriers.iter().map(Carrier::to_string).collect());
    for round in 0..options.rounds {
        for turn in 0..carriers.len() {
            let index = (turn + round) % carriers.len();
            for line in cost(carriers[index])? {
                table.add(index, round, &line);
            }
        }
    }
    println!("{table}");
    Ok(())
}

fn in_turns(
    table: &mut Table,
    options: &Options,
    name: &str,
    carriers: &[Carrier],
    measure: impl Fn(Carrier) -> Result<f64>,
) -> Result<()> {
    if !name.starts_with(&options.figures) {
        return Ok(());
    }
    for round in 0..options.rounds {
        eprintln!("{name}, round {} of {}", round + 1, options.rounds);
        for turn in 0..carriers.len() {
            let index = (turn + round) % carriers.len();
            table.add(index, round, &line(name, measure(carriers[index])?)?);
        }
    }
    Ok(())
}

/// The median, in microseconds.
fn round_trip(carrier: Carrier, size: usize, time: Duration) -> Result<f64> {
    let mut echo = Echo::new(carrier, size)?;
    echo.round_trip()?;
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        echo.round_trip()?;
        times.push(micros(start.elapsed()));
    }
    Ok(median(&times))
}

/// What a connection of a dialect costs, in a process that does nothing else.
fn cost(carrier: Carrier) -> Result<Vec<Line>> {
    let carrier = carrier.to_string();
    let output = Command::new(std::env::current_exe()?).args([COST, &carrier]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    String::from_utf8(output.stdout)?.lines().map(str::parse).collect()
}

fn print_cost(name: &str) -> Result<()> {
    let dialect = DIALECTS
        .into_iter()
        .find(|dialect| Carrier::Endpoints(*dialect).to_string() == name)
        .ok_or_else(|| Failure::from(format!("there is no dialect {name}")))?;
    let cost = many_connections(dialect, MANY)?;
    println!("{}", line("connection_open_us", micros(cost.time))?);
    println!("{}", line("connection_bytes", cost.bytes)?);
    Ok(())
}

fn line(name: &str, value: f64) -> Result<Line> {
    format!("{name} {value:.3}").parse()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn readable(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{}MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}
