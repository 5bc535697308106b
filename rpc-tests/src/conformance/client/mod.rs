//! Runs the behaviours of `peers/README.md` against a conformance server.

mod bulk;
mod calls;
mod context;
mod lifetimes;
mod membranes;
mod ours;
mod promises;
mod script;

use std::fmt;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use capnp_threads_transport::Address;

use self::context::{Context, DEADLINE, Failure, ServerFacts};
pub use self::script::run_script;

/// What a behaviour is known by and what it does.
type Behaviour = (&'static str, fn(&Context) -> Result<(), Failure>);

/// How long a behaviour may go on after its deadline before it is taken to hang.
const GRACE: Duration = Duration::from_secs(10);

/// What came of one behaviour. Displayed as the program prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The behaviour's name.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server shows it.
    Passed,
    /// It does not, or this client does not: why.
    Failed(String),
    /// One of the two says that it cannot: why.
    Skipped(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match &self.outcome {
            Outcome::Passed => write!(f, "ok {name}"),
            Outcome::Failed(reason) => write!(f, "FAIL {name}: {}", one_line(reason)),
            Outcome::Skipped(reason) => write!(f, "skip {name}: {}", one_line(reason)),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// How many behaviours came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Behaviours that the server shows.
    pub passed: u32,
    /// Behaviours that it does not.
    pub failed: u32,
    /// Behaviours that one of the two says it cannot show.
    pub skipped: u32,
}

/// The names of all behaviours, in the order in which they are run.
pub fn names() -> impl Iterator<Item = &'static str> {
    behaviours().map(|(name, _)| name)
}

fn behaviours() -> impl Iterator<Item = Behaviour> {
    [
        calls::BEHAVIOURS,
        promises::BEHAVIOURS,
        lifetimes::BEHAVIOURS,
        membranes::BEHAVIOURS,
        bulk::BEHAVIOURS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Runs the selected behaviours, all if none is selected, each over a connection
/// of its own, and reports each when it is done.
///
/// # Errors
/// A name is none of a behaviour, or the server does not answer at all.
pub fn call_all(
    address: &Address,
    selected: &[String],
    mut report: impl FnMut(&Verdict),
) -> io::Result<Tally> {
    if let Some(unknown) = selected.iter().find(|name| !names().any(|known| known == *name)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("no behaviour is called {unknown:?}"),
        ));
    }
    let server = ServerFacts::ask(address).map_err(io::Error::other)?;
    let mut tally = Tally::default();
    for (name, run) in behaviours() {
        if !selected.is_empty() && !selected.iter().any(|selected| selected == name) {
            continue;
        }
        let outcome = match server.limit(name) {
            Some(why) => Outcome::Skipped(why),
            None => run_one(address, &server, name, run),
        };
        match outcome {
            Outcome::Passed => tally.passed += 1,
            Outcome::Failed(_) => tally.failed += 1,
            Outcome::Skipped(_) => tally.skipped += 1,
        }
        report(&Verdict { name, outcome });
    }
    Ok(tally)
}

/// Runs one behaviour on a thread of its own, so that not even one that hangs
/// stops the others.
fn run_one(
    address: &Address,
    server: &ServerFacts,
    name: &str,
    run: fn(&Context) -> Result<(), Failure>,
) -> Outcome {
    let (done, outcome) = channel();
    let (address, server) = (address.clone(), server.clone());
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody listens when the time is over.
        let _ = done.send(Context::run(&address, &server, run));
    });
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Outcome::Failed(format!("no thread could be started: {error}")),
    };
    match outcome.recv_timeout(DEADLINE + GRACE) {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(Failure::Failed(reason))) => Outcome::Failed(reason),
        Ok(Err(Failure::Skipped(reason))) => Outcome::Skipped(format!("this client: {reason}")),
        Err(RecvTimeoutError::Timeout) => Outcome::Failed("it hangs".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Outcome::Failed(match thread.join() {
            Ok(()) => "it ended without an outcome".to_owned(),
            Err(panic) => format!(
                "it panicked: {}",
                panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("for reasons of its own")
            ),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_behaviours_are_those_of_the_table() {
        let readme = include_str!("../../../peers/README.md");
        let section = readme.split("## Behaviours").nth(1).unwrap();
        let table = section.split("\n## ").next().unwrap();
        let listed: BTreeSet<&str> =
            table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let ours: BTreeSet<&str> = names().collect();
        assert_eq!(ours, listed);
        assert_eq!(ours.len(), names().count(), "a behaviour is there twice");
    }
}
