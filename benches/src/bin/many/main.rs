//! Measures what many of a kind cost: many threads on one connection, many outstanding
//! calls, many exports, many idle connections.
//!
//! Both sides are in this process, over a Unix socket. As in `compare`, what is compared
//! is measured in turns, and what counts are the ratios within a round.

mod idle;
mod tables;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use benches::cli::positive;
use benches::figures::{Line, number};
use benches::table::Table;
use benches::{Result, record};
use rpc_schema::echo_capnp::echo;

const USAGE: &str = "usage: many [OPTION...]
  --figures NAME,...  which, of threads, outstanding, exports and idle (default: all)
  --rounds N          how often each is measured (default 7)
  --divide N          do that part of the calls
  --outstanding N     how many calls are outstanding (default 100000)
  --exports N         how many capabilities are exported (default 1000000)
  --connections N     how many connections are idle (default 10000)
  --out FOLDER        also writes every value as many.csv there, and draws pictures";

struct Options {
    figures: Vec<String>,
    rounds: usize,
    divisor: usize,
    outstanding: usize,
    exports: usize,
    connections: usize,
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [option, count, threads] if option == idle::OPTION => idle::print_cost(count, threads),
        _ => parse(&arguments).and_then(|options| measure(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("many: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        figures: ["threads", "outstanding", "exports", "idle"].map(str::to_owned).into(),
        rounds: 7,
        divisor: 1,
        outstanding: 100_000,
        exports: 1_000_000,
        connections: 10_000,
        out: None,
    };
    for pair in arguments.chunks(2) {
        let [option, value] = pair else { return Err(USAGE.into()) };
        let number = || positive(option, value);
        match option.as_str() {
            "--figures" => options.figures = value.split(',').map(str::to_owned).collect(),
            "--rounds" => options.rounds = number()?,
            "--divide" => options.divisor = number()?,
            "--outstanding" => options.outstanding = number()?,
            "--exports" => options.exports = number()?,
            "--connections" => options.connections = number()?,
            "--out" => options.out = Some(value.into()),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

fn measure(options: &Options) -> Result<()> {
    let mut tables = Vec::new();
    for figure in &options.figures {
        let table = match figure.as_str() {
            "threads" => threads::table(options)?,
            "outstanding" => tables::outstanding(options)?,
            "exports" => tables::exports(options)?,
            "idle" => idle::table(options)?,
            _ => return Err(format!("there is no figure {figure:?}\n{USAGE}").into()),
        };
        println!("## {}\n\n{table}", table.name());
        tables.push(table);
    }
    if let Some(folder) = &options.out {
        record::write(folder, "many", &tables)?;
    }
    Ok(())
}

/// Measures cases in turns, each as often as there are rounds.
fn in_turns<C>(
    name: &str,
    options: &Options,
    cases: &mut [(String, C)],
    mut measure: impl FnMut(&mut C) -> Result<Vec<Line>>,
) -> Result<Table> {
    let mut table = Table::new(name, cases.iter().map(|(name, _)| name.clone()).collect());
    for round in 0..options.rounds {
        for turn in 0..cases.len() {
            let index = (turn + round) % cases.len();
            let (case, context) = &mut cases[index];
            eprintln!("{name}, round {} of {}: {case}", round + 1, options.rounds);
            for line in measure(context)? {
                table.add(index, round, &line);
            }
        }
    }
    Ok(table)
}

/// The mean time of a call, one after the other.
fn ping(echo: &echo::Client, calls: usize) -> Result<Line> {
    let start = Instant::now();
    for _ in 0..calls {
        echo.ping_request().call()?;
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / number(calls);
    Ok(Line::new("ping_us".to_owned(), each, 3))
}
