//! A catalogue of hostile cases: short sequences of messages that break a rule, or come close
//! to that, each with what must happen.
//!
//! A `Site` is a vat that serves over one [kind](Kind) of connections. Each case
//! gets a connection of its own to it. When it is over, what had to happen has happened and
//! nothing else, which a question behind it shows; the connection has ended and left nothing in
//! its tables; and an honest peer is still served. In the end no thread is left.
//!
//! The program `attack` makes all of them, and writes `docs/attack-catalogue.md`.

mod case;
mod cases;
mod page;
mod peer;
mod run;
mod says;
mod site;
mod streams;

pub use self::case::{Case, Chapter, Kind, Must};
pub use self::cases::CHAPTERS;
pub use self::page::page;
pub use self::run::{Verdict, Verdicts, run};
