//! Why a command did not do what it was asked to.

use std::fmt;
use std::process::ExitCode;

/// The text says what to do; the kind decides on the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The object that was called, which answered with an exception.
    Call,
    /// The command: what it names does not exist, or is not written as it has to be.
    Command,
    /// The way there: nobody listens, the connection broke, no answer came in time.
    Connection,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn call(text: impl fmt::Display) -> Self {
        Failure { kind: Kind::Call, text: text.to_string() }
    }

    pub(crate) fn command(text: impl fmt::Display) -> Self {
        Failure { kind: Kind::Command, text: text.to_string() }
    }

    pub(crate) fn connection(text: impl fmt::Display) -> Self {
        Failure { kind: Kind::Connection, text: text.to_string() }
    }

    /// The same failure, with where it happened before it.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Failure { text: format!("{place}: {}", self.text), ..self }
    }

    /// A failure of the command, for which this says what to do, unless the way to the
    /// server is at fault.
    pub(crate) fn unless_connection(self, advice: &str) -> Self {
        match self.kind {
            Kind::Connection => self,
            _ => Failure { kind: Kind::Command, ..self }.at(advice),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Call => 1,
            Kind::Command => 2,
            Kind::Connection => 3,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A peer's text, so that it can neither start a new line nor steer a terminal.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a terminal may do something else with a character than to show it: control
/// characters, and those that turn the direction of what follows.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A schema or a message that cannot be read.
impl From<capnp::Error> for Failure {
    fn from(error: capnp::Error) -> Self {
        Failure::call(format_args!("malformed content: {error}"))
    }
}

impl From<capnp::NotInSchema> for Failure {
    fn from(error: capnp::NotInSchema) -> Self {
        capnp::Error::from(error).into()
    }
}

impl From<capnp_threads_core::Error> for Failure {
    fn from(error: capnp_threads_core::Error) -> Self {
        let kind = match error.kind() {
            capnp_threads_core::ErrorKind::Disconnected => Kind::Connection,
            _ if error.is_timeout() => Kind::Connection,
            _ => Kind::Call,
        };
        Failure { kind, text: harmless(&error.to_string()) }
    }
}
