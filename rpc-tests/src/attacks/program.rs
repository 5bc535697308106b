//! The program `attack`.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::catalogue::{self, Kind, Verdict, Verdicts};
use super::{Attack, Share, Siege, Sizes, all, memory, named};

const USAGE: &str = "\
usage: attack list
       attack NAME|all [SECONDS] [small]
       attack cases [FILTER]
       attack page

Attacks a vat in this process, again and again, for so many seconds (10). Fails if an
attack takes more than what bounds it, if something is left of it, or if others are not
served meanwhile. The vat has the default limits, or `small` ones.

`cases` makes each of the cases of docs/attack-catalogue.md once, or those whose names
contain FILTER, on each kind of connections. `page` makes them, too, and writes that page.";

/// How often the program looks at what an attack takes.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the program.
pub fn main(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, seconds, sizes) = match arguments.as_slice() {
        ["list"] => {
            list();
            return ExitCode::SUCCESS;
        }
        ["cases"] => return cases(""),
        ["cases", filter] => return cases(filter),
        ["page"] => return write_page(),
        [name] => (name, "10", Sizes::default_limits()),
        [name, seconds] => (name, *seconds, Sizes::default_limits()),
        [name, seconds, "small"] => (name, *seconds, Sizes::small()),
        _ => return usage(),
    };
    let Ok(seconds) = seconds.parse().map(Duration::from_secs) else { return usage() };
    let attacks: Vec<&Attack> = match *name {
        "all" => all().collect(),
        name => named(name).into_iter().collect(),
    };
    if attacks.is_empty() {
        return usage();
    }
    // Both ends of each connection are in this process.
    if let Err(error) = raise_descriptors() {
        eprintln!("cannot raise the number of descriptors: {error}");
    }
    let mut failed = Vec::new();
    for attack in attacks {
        if let Err(error) = run(attack, seconds, &sizes) {
            println!("  FAILED: {error}");
            failed.push(attack.name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// The page that shows the cases, in the folder of the workspace.
const PAGE: &str = "docs/attack-catalogue.md";

/// Makes cases on each kind of connections, and tells what is wrong.
fn made(filter: &str) -> Result<Vec<Verdicts>, String> {
    let mut runs = Vec::new();
    for kind in Kind::ALL {
        let began = Instant::now();
        // At once, because each that waits in vain does so for long.
        let run = catalogue::run(kind, filter, |case, verdict| {
            if let Verdict::Failed(why) = verdict {
                println!("FAILED {} ({kind}): {why}", case.name);
            }
        })?;
        if let Some(why) = &run.end {
            println!("FAILED the end ({kind}): {why}");
        }
        let failed = run.faults().len();
        println!("{kind}: {} cases, {failed} failed, {:.1?}", run.made(), began.elapsed());
        runs.push(run);
    }
    Ok(runs)
}

fn cases(filter: &str) -> ExitCode {
    match made(filter) {
        Ok(runs) if runs.iter().all(|run| run.made() == 0) => usage(),
        Ok(runs) if runs.iter().all(|run| run.faults().is_empty()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write_page() -> ExitCode {
    let written = made("").and_then(|runs| {
        std::fs::write(PAGE, catalogue::page(&runs)).map_err(|error| format!("{PAGE}: {error}"))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}

fn list() {
    for attack in all() {
        println!("{:30} {}\n{:30} bounded by {}", attack.name, attack.about, "", attack.bounds());
    }
}

pub(crate) fn raise_descriptors() -> rustix::io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
}

fn run(attack: &Attack, time: Duration, sizes: &Sizes) -> Result<(), String> {
    println!("{}: {}", attack.name, attack.about);
    let siege = Siege::lay(sizes.clone()).map_err(|error| error.to_string())?;
    let allowed = attack.allowed(sizes);
    println!("  bounded by {}: {}", attack.bounds(), figures(&allowed));
    let deadline = Instant::now() + time;
    let mut rounds = 0;
    let (mut most, mut longest, mut calls) = (Share::default(), Duration::ZERO, 0);
    let outcome = thread::scope(|scope| {
        let (over, is_over) = mpsc::channel::<()>();
        let watched = &siege;
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(LOOK) {
                watched.look();
            }
        });
        let attacked = panic::catch_unwind(AssertUnwindSafe(|| {
            loop {
                let report = siege.attack(attack)?;
                rounds += 1;
                most = most.most(report.peak);
                longest = longest.max(report.longest);
                calls += report.honest_calls;
                if rounds == 1 {
                    println!("  {}", report.seen);
                }
                if Instant::now() > deadline {
                    return Ok(report.left);
                }
            }
        }));
        drop(over);
        attacked.unwrap_or_else(|_| Err("the attacker panicked".to_owned()))
    });
    println!("  {rounds} rounds; at most {}, {} MiB resident", figures(&most), resident() >> 20);
    println!("  an honest client made {calls} calls, the longest took {longest:?}");
    let left = outcome?;
    println!("  left: {}; held in all: {} KiB", figures(&left), memory::held() >> 10);
    siege.lift().map_err(|error| error.to_string())
}

fn figures(share: &Share) -> String {
    let Share { memory, threads, descriptors } = share;
    format!("{} KiB, {threads} threads, {descriptors} descriptors", memory >> 10)
}

/// The most memory that the process had, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
