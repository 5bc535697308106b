//! What a call costs the processor, apart from waiting: allocations, counted by this
//! program's allocator, and instructions, counted by callgrind.
//!
//! The client's and the server's side are processes of their own. Each count is the
//! difference between two runs of different length, so that what begins and ends a run
//! is left out.
#![allow(missing_docs)]

use std::alloc::System;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use benches::figures::{Client as _, number};
use benches::load::{self, Load};
use benches::table::markdown;
use benches::within::TwoVatsLink;
use benches::{Result, cli};
use capnp_threads_core::{Concurrency, ConnConfig};
use capnp_threads_transport::Address;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The lengths of the two runs, in calls.
const RUNS: [usize; 2] = [1_000, 3_000];

/// As long as it takes to see that the program works.
const MOMENT: [usize; 2] = [10, 30];

const WINDOW: usize = 128;

/// The work of a run.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// Calls between two processes, one at a time.
    Ping,
    /// Calls between two processes, [`WINDOW`] at a time.
    Pipelined,
    /// Chains between two processes: ten calls, each on the results of the one before, and
    /// one more.
    Chain,
    /// Calls between two vats on one thread.
    TwoVats,
}

impl Work {
    const ALL: [Work; 4] = [Work::Ping, Work::Pipelined, Work::Chain, Work::TwoVats];

    fn name(self) -> &'static str {
        match self {
            Work::Ping => "ping",
            Work::Pipelined => "pipelined_w128",
            Work::Chain => "chain10",
            Work::TwoVats => "two_vats_call",
        }
    }

    fn named(name: &str) -> Result<Work> {
        let work = Work::ALL.into_iter().find(|work| work.name() == name);
        work.ok_or_else(|| format!("there is no work {name:?}").into())
    }
}

/// Who a count is of.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
    /// Both sides are one process.
    Both,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["serve", address] => serve(address),
        ["call", work, calls, address] => call(work, calls, address),
        _ => report(&words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints everything. `cargo bench` gives options, and what a benchmark's name should
/// contain to be run.
fn report(arguments: &[&str]) -> Result<()> {
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-'));
    if names.any(|name| !"cost".contains(name)) {
        return Ok(());
    }
    if arguments.contains(&"--list") {
        println!("cost: benchmark");
        return Ok(());
    }
    let moment = arguments.contains(&"--test");
    let valgrind = Command::new("valgrind").arg("--version").output();
    let callgrind = !moment && valgrind.is_ok_and(|output| output.status.success());
    let runs = if moment { MOMENT } else { RUNS };
    if !callgrind && !moment {
        eprintln!("valgrind is not installed, so no instructions are counted");
    }
    let mut lines =
        vec![["a call of", "side", "allocations", "instructions"].map(str::to_owned).into()];
    for work in Work::ALL {
        let sides = match work {
            Work::TwoVats => &[Side::Both][..],
            _ => &[Side::Client, Side::Server],
        };
        for side in sides {
            let allocations = per_call(runs, |calls| allocations(work, *side, calls))?;
            let instructions = if callgrind {
                format!("{:.0}", per_call(runs, |calls| instructions(work, *side, calls))?)
            } else {
                "–".to_owned()
            };
            let side = match side {
                Side::Client => "client",
                Side::Server => "server",
                Side::Both => "both",
            };
            let allocations = format!("{allocations:.2}");
            lines.push(vec![work.name().to_owned(), side.to_owned(), allocations, instructions]);
        }
    }
    let mut text = String::new();
    markdown(&mut text, &lines)?;
    print!("{text}");
    Ok(())
}

/// What each call adds, of what a run of so many calls counts in all.
fn per_call(runs: [usize; 2], count: impl Fn(usize) -> Result<u64>) -> Result<f64> {
    let [short, long] = runs;
    let added = count(long)?.saturating_sub(count(short)?);
    Ok(number(usize::try_from(added)?) / number(long - short))
}

/// The allocations of a side in a run.
fn allocations(work: Work, side: Side, calls: usize) -> Result<u64> {
    let (mut server, mut caller) = start(work, None, calls)?;
    let of_caller = caller.line()?.parse()?;
    caller.end()?;
    match (&mut server, side) {
        (Some(server), Side::Server) => Ok(server.ask()?.parse()?),
        _ => Ok(of_caller),
    }
}

/// The instructions of a side in a run.
fn instructions(work: Work, side: Side, calls: usize) -> Result<u64> {
    let (server, mut caller) = start(work, Some(side), calls)?;
    caller.line()?;
    let of_caller = caller.end()?;
    let count = match (server, side) {
        (Some(server), Side::Server) => server.end()?,
        _ => of_caller,
    };
    count.ok_or_else(|| "callgrind did not say how much it collected".into())
}

/// Starts a server, if the work wants one, and a client; one of them under callgrind.
fn start(work: Work, watched: Option<Side>, calls: usize) -> Result<(Option<Program>, Program)> {
    let folder = tempfile::tempdir()?;
    let address = format!("unix:{}", folder.path().join("socket").display());
    let server = if work == Work::TwoVats {
        None
    } else {
        let watched = matches!(watched, Some(Side::Server));
        let mut server = Program::start(watched, &["serve", &address])?;
        server.line()?;
        Some(server)
    };
    let watched = matches!(watched, Some(Side::Client | Side::Both));
    let mut caller = Program::start(watched, &["call", work.name(), &calls.to_string(), &address])?;
    // The folder has to last until the client is connected, which it says.
    caller.line()?;
    Ok((server, caller))
}

/// How connections are counted: without spinning, of which there is more or less as time
/// passes.
fn config() -> ConnConfig {
    ConnConfig::new().spin(Duration::ZERO)
}

/// Serves until the input ends, and prints how often memory was allocated so far when
/// there is a line of input.
fn serve(address: &str) -> Result<()> {
    let address = address.parse()?;
    thread::spawn(move || {
        let served = load::serve_with(&address, Concurrency::Serial, config, cli::ready);
        if let Err(error) = served {
            eprintln!("cost: {error}");
        }
    });
    for line in std::io::stdin().lines() {
        line?;
        println!("{}", INSTRUMENTED_SYSTEM.stats().allocations);
    }
    Ok(())
}

/// Makes the calls of a run, and prints how often memory was allocated.
fn call(work: &str, calls: &str, address: &str) -> Result<()> {
    let calls = calls.parse()?;
    let work = Work::named(work)?;
    if work == Work::TwoVats {
        println!("ready");
        let mut vats = TwoVatsLink::new()?;
        for _ in 0..calls {
            vats.ping()?;
        }
    } else {
        let address: Address = address.parse()?;
        let mut load = Load::with(address.connect()?, config())?;
        println!("ready");
        match work {
            Work::Pipelined => load.pipeline(calls, WINDOW)?,
            Work::Chain => load.chain(calls)?,
            _ => drop(load.ping(calls)?),
        }
    }
    println!("{}", INSTRUMENTED_SYSTEM.stats().allocations);
    Ok(())
}

/// This program, started once more.
struct Program {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(callgrind: bool, arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = if callgrind {
            let mut command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
            command.stderr(Stdio::piped());
            command
        } else {
            Command::new(program)
        };
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take().ok_or("no input")?;
        let output = process.stdout.take().ok_or("no output")?;
        Ok(Program { process, input, output: BufReader::new(output) })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a process ended before it had done its work".into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn ask(&mut self) -> Result<String> {
        self.input.write_all(b"\n")?;
        self.line()
    }

    /// Waits for its end. Returns the instructions, if callgrind counted any.
    fn end(self) -> Result<Option<u64>> {
        let Program { process, input, output } = self;
        drop((input, output));
        let output = process.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("a process failed: {}\n{said}", output.status).into());
        }
        let collected = said.lines().find_map(|line| line.split_once("Collected : "));
        Ok(collected.map(|(_, count)| count.trim().parse()).transpose()?)
    }
}
