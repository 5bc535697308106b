//! What attackers saw of the vat.

use std::collections::BTreeMap;
use std::fmt;

use crate::support::raw::{Outcome, Said};

/// What vats said to attackers, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Why the vat ended connections.
    pub aborts: BTreeMap<String, u64>,
    /// Why it refused calls.
    pub exceptions: BTreeMap<String, u64>,
    /// How many calls it answered otherwise.
    pub answers: u64,
}

/// A text without its numbers, so that texts of a kind are the same.
fn kind(text: &str) -> String {
    let mut kind = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_digit() { 'N' } else { c };
        if c != 'N' || !kind.ends_with('N') {
            kind.push(c);
        }
    }
    kind
}

impl Seen {
    /// Notes what the vat said.
    pub fn note(&mut self, said: &Said) {
        match said {
            Said::Abort(reason) => *self.aborts.entry(kind(reason)).or_default() += 1,
            Said::Return { outcome: Outcome::Exception(reason), .. } => {
                *self.exceptions.entry(kind(reason)).or_default() += 1;
            }
            Said::Return { .. } => self.answers += 1,
            _ => {}
        }
    }

    /// Adds what another attacker saw.
    pub fn add(&mut self, other: Seen) {
        for (reason, count) in other.aborts {
            *self.aborts.entry(reason).or_default() += count;
        }
        for (reason, count) in other.exceptions {
            *self.exceptions.entry(reason).or_default() += count;
        }
        self.answers += other.answers;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.answers)?;
        for (reason, count) in &self.exceptions {
            write!(f, "\n    {count} x exception: {reason}")?;
        }
        for (reason, count) in &self.aborts {
            write!(f, "\n    {count} x abort: {reason}")?;
        }
        Ok(())
    }
}
