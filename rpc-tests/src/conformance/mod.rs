//! This library's side of interoperation: a server of the conformance
//! interfaces, and a client that runs the behaviours of `peers/README.md` against
//! any such server.
//!
//! The interfaces are those of `schema/test.capnp` and
//! `schema/test-control.capnp`. Peers built with other implementations have the
//! same two halves, so each can be run against each.

pub mod client;
pub mod server;

use std::io;
use std::process::ExitCode;

use capnp_threads_transport::{Address, Transport, tap};

use self::client::Tally;
use self::server::Server;

const USAGE: &str = "usage: conformance serve ADDR | call ADDR [NAME...] | script ADDR SEED...
ADDR is host:port or unix:/path; port 0 picks one
With CONFORMANCE_TAP set, every message is printed to standard error";

/// The program `conformance`: `serve ADDR`, `call ADDR [NAME...]`, or `script ADDR
/// SEED...`, which runs [`client::run_script`].
pub fn main(arguments: &[String]) -> ExitCode {
    let outcome = match arguments {
        [verb, address] if verb == "serve" => serve(address),
        [verb, address, names @ ..] if verb == "call" => call(address, names),
        [verb, address, seeds @ ..] if verb == "script" => script(address, seeds),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("conformance: {error}");
        ExitCode::FAILURE
    })
}

fn serve(address: &str) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let server = Server::bind(&address.parse::<Address>()?)?;
    // Standard output is line-buffered also when it is a pipe.
    println!("ready {}", server.address());
    let faults = server.run();
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn call(address: &str, names: &[String]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let address = address.parse::<Address>()?;
    let called = client::call_all(&address, names, |verdict| println!("{verdict}"));
    let Tally { passed, failed, .. } = match called {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
            println!("FAIL connect: {error}");
            Tally { failed: 1, ..Tally::default() }
        }
        called => called?,
    };
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn script(address: &str, seeds: &[String]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let address = address.parse::<Address>()?;
    for seed in seeds {
        client::run_script(&address, seed.parse()?)?;
        println!("ok {seed}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what goes over a transport, if the environment asks for it.
fn tapped(transport: Transport) -> Transport {
    if std::env::var_os("CONFORMANCE_TAP").is_some() {
        tap::tap_to(transport, std::io::stderr())
    } else {
        transport
    }
}
