//! Makes the cases, one after the other.

use std::panic::{self, AssertUnwindSafe};

use capnp_threads_core::Connection;

use super::case::{Case, Kind, Must};
use super::cases::CHAPTERS;
use super::site::Site;
use crate::support::{LONG, watchdog};

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What had to.
    Passed,
    /// Something else.
    Failed(String),
    /// It was not made.
    NotMade,
}

/// What became of the cases on connections of one kind.
#[derive(Debug)]
pub struct Verdicts {
    /// The kind of the connections.
    pub kind: Kind,
    /// Each case that was looked at.
    pub cases: Vec<(&'static Case, Verdict)>,
    /// What is wrong with the vat after all of them.
    pub end: Option<String>,
}

impl Verdicts {
    /// How many cases were made.
    pub fn made(&self) -> usize {
        self.cases.iter().filter(|(_, verdict)| *verdict != Verdict::NotMade).count()
    }

    /// What is wrong, a line each.
    pub fn faults(&self) -> Vec<String> {
        let failed = self.cases.iter().filter_map(|(case, verdict)| match verdict {
            Verdict::Failed(why) => Some(format!("{} ({}): {why}", case.name, self.kind)),
            Verdict::Passed | Verdict::NotMade => None,
        });
        let end = self.end.iter().map(|why| format!("the end ({}): {why}", self.kind));
        failed.chain(end).collect()
    }
}

/// Makes the cases on connections of a kind whose names contain `filter`. `tell` is told of
/// each as soon as it is over.
///
/// # Errors
/// There is no vat to be attacked.
pub fn run(kind: Kind, filter: &str, tell: impl Fn(&Case, &Verdict)) -> Result<Verdicts, String> {
    let mut site = Site::new(kind).map_err(|error| error.to_string())?;
    let all = CHAPTERS.iter().flat_map(|chapter| chapter.cases);
    let cases = all
        .map(|case| {
            let must = case.must(kind).filter(|_| case.name.contains(filter));
            let verdict = must.map_or(Verdict::NotMade, |must| match make(&mut site, case, must) {
                Ok(()) => Verdict::Passed,
                Err(why) => Verdict::Failed(why),
            });
            tell(case, &verdict);
            (case, verdict)
        })
        .collect();
    let end = site.end().err().map(|error| error.to_string());
    Ok(Verdicts { kind, cases, end })
}

fn make(site: &mut Site, case: &Case, must: Must) -> Result<(), String> {
    let _doing = watchdog::doing(case.name);
    let attacked = caught(|| site.attacked(case.is_first).map_err(|error| error.to_string()));
    let (mut peer, connection) = attacked.map_err(|error| format!("no connection: {error}"))?;
    let verdict = caught(|| {
        (case.play)(&mut peer);
        peer.verdict(&must)
    });
    let verdict = verdict.map_err(|why| format!("{why}; it has said {:?}", peer.heard()));
    // Whatever it was, the vat gets over it.
    caught(|| peer.leave())?;
    ended(&connection)?;
    let served = site.bystander_is_served();
    verdict.and_then(|()| served.map_err(|error| format!("an honest peer is not served: {error}")))
}

/// The vat's end of a connection whose peer is gone ends, too, and leaves nothing.
fn ended(connection: &Connection) -> Result<(), String> {
    if !connection.join_timeout(LONG).map_err(|error| error.to_string())? {
        return Err("the connection does not end".to_owned());
    }
    let left = connection.snapshot();
    if !left.is_empty() {
        return Err(format!("the connection has left {left:?}"));
    }
    connection.check().map_err(|why| format!("the tables are not sound: {why}"))
}

/// What goes wrong for one case is told, and the others are made nevertheless.
fn caught<T>(make: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|panicked| {
        let text = panicked.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panicked.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("a panic").to_owned())
    })
}
