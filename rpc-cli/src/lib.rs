//! The program `capnp-threads`: what people do by hand with servers of Cap'n Proto RPC.
//! This is no library for others: it is apart from the program so that it can be tested.
//!
//! Each subcommand has a module. `schema` reads schemas when the program runs, and
//! `dynamic` turns content whose schema was read so into JSON and back.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod call;
mod dynamic;
mod failure;
/// What a target in `fuzz/` calls.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod json;
mod key;
mod reach;
mod recording;
mod said;
mod schema;
mod tap;
mod trace;

/// Generated: objects that are there to be measured. `rpc-schema` includes this file, too.
#[allow(unreachable_pub, missing_docs, dead_code, reason = "not all of it is used here")]
#[rustfmt::skip]
#[path = "generated/echo_capnp.rs"]
mod echo_capnp;
/// Generated: recordings.
#[allow(unreachable_pub, missing_docs, dead_code, reason = "not all of it is used here")]
#[rustfmt::skip]
#[path = "generated/recording_capnp.rs"]
mod recording_capnp;

use failure::{Failure, Result};

/// Calls, watches and measures servers of Cap'n Proto RPC.
///
/// Exit codes: 0 all was done, 1 the object that was called answered with an exception,
/// 2 the command has to be written differently, 3 the server was not reached, or did not
/// answer in time.
#[derive(Parser)]
#[command(name = "capnp-threads", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Call a method of a server's object
    Call(call::Arguments),
    /// Show or record what a client and a server say to each other
    Tap(tap::Arguments),
    /// Draw a recording of `tap` as a sequence diagram
    Trace(trace::Arguments),
    /// Measure a server of the project's echo.capnp
    Bench(bench::Arguments),
    /// Make a key for `tls:` addresses, and print the id of the vat that has it
    Key(key::Arguments),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Call(arguments) => call::run(&arguments),
        Command::Tap(arguments) => tap::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("capnp-threads: {failure}");
            failure.exit_code()
        }
    }
}

/// Prints to the standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::command(format_args!("cannot write the output: {error}")))
        }
        _ => Ok(()),
    }
}
