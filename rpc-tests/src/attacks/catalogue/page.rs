//! The page about the cases.

use std::fmt::Write as _;

use super::case::{Case, Kind};
use super::cases::CHAPTERS;
use super::run::{Verdict, Verdicts};

const HEAD: &str = "\
# Attack catalogue

Each of these cases is a peer that breaks a rule, or comes close to that, with a few messages
on a connection of its own. What must happen is all that may happen: the peer hears nothing else.
Afterwards the connection has ended and left nothing in its tables, an honest peer of the same
vat is served, and in the end no thread is left. [Attacks](attacks.md) tells of peers that go on
and on instead.

Connections are of four kinds: *plain* over a Unix socket, *TLS* between two vats with keys,
*endpoint* in a network of endpoints, and *handoff* over a Unix socket of a network that
introduces its vats to each other, as that of endpoints does here. A case that makes no sense on
a kind of connections is not made there.

This page is written by the run that it shows:

```sh
cargo run --release -p rpc-tests --bin attack -- cases
cargo run --release -p rpc-tests --bin attack -- page
```

A reason is given by what it must contain.
";

/// The page that shows what became of all cases.
pub fn page(runs: &[Verdicts]) -> String {
    let mut page = HEAD.to_owned();
    let count: usize = CHAPTERS.iter().map(|chapter| chapter.cases.len()).sum();
    let made: usize = runs.iter().map(Verdicts::made).sum();
    // Writing to a string does not fail.
    let _ = writeln!(page, "\nThere are {count} cases, which make {made} on all connections.");
    for chapter in CHAPTERS {
        let _ = write!(page, "\n## {}\n\n| case | the peer | what must happen |", chapter.title);
        for kind in Kind::ALL {
            let _ = write!(page, " {kind} |");
        }
        let _ = writeln!(page, "\n|---|---|---|{}", "---|".repeat(Kind::ALL.len()));
        for case in chapter.cases {
            let _ = write!(page, "| {} |", row(case));
            for kind in Kind::ALL {
                let _ = write!(page, " {} |", shown(case, kind, runs));
            }
            page.push('\n');
        }
    }
    page
}

/// What the page says of a case, whatever became of it.
fn row(case: &Case) -> String {
    let Case { name, about, .. } = case;
    format!("`{name}` | {about} | {}", case.musts())
}

fn shown(case: &Case, kind: Kind, runs: &[Verdicts]) -> &'static str {
    let run = runs.iter().find(|run| run.kind == kind);
    let verdict = run.and_then(|run| run.cases.iter().find(|(made, _)| made.name == case.name));
    match verdict {
        Some((_, Verdict::Passed)) => "passed",
        Some((_, Verdict::Failed(_))) => "**failed**",
        Some((_, Verdict::NotMade)) | None => "-",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::fs;

    use super::*;

    /// As if every case that makes sense on a kind of connections had passed there.
    fn passed(kind: Kind) -> Verdicts {
        let all = CHAPTERS.iter().flat_map(|chapter| chapter.cases);
        let verdict = |case: &Case| match case.must(kind) {
            Some(_) => Verdict::Passed,
            None => Verdict::NotMade,
        };
        Verdicts { kind, cases: all.map(|case| (case, verdict(case))).collect(), end: None }
    }

    #[test]
    fn the_page_is_that_of_these_cases_and_all_have_passed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attack-catalogue.md");
        let written = fs::read_to_string(path).unwrap();
        let expected = page(&Kind::ALL.map(passed));
        for (line, expected) in written.lines().zip(expected.lines()) {
            assert_eq!(line, expected, "`attack page` writes docs/attack-catalogue.md");
        }
        assert_eq!(written, expected);
    }

    #[test]
    fn each_case_has_a_name_of_its_own_and_is_made_somewhere() {
        let mut names = HashSet::new();
        for case in CHAPTERS.iter().flat_map(|chapter| chapter.cases) {
            assert!(names.insert(case.name), "two cases are called {}", case.name);
            assert!(Kind::ALL.iter().any(|kind| case.must(*kind).is_some()), "{}", case.name);
            assert!(!row(case).replace(" | ", "").contains('|'), "{} breaks its table", case.name);
        }
        assert!(names.len() >= 200, "there are only {} cases", names.len());
    }
}
