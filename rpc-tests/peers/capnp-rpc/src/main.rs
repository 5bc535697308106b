//! A conformance peer on the `capnp-rpc` crate.
//!
//! - `peer-capnp-rpc serve ADDR` serves the conformance interfaces.
//! - `peer-capnp-rpc call ADDR [NAME...]` runs the behaviours of
//!   `rpc-tests/peers/README.md` against a server.
//! - `peer-capnp-rpc script ADDR SEED...` runs the random scripts of these seeds against a
//!   server.
//!
//! ADDR is `host:port` or `unix:/path`.

mod address;
mod bulk;
mod calls;
mod generated;
mod harness;
mod lifetimes;
mod objects;
mod ours;
mod promises;
mod scripts;
mod serve;
mod state;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, address, names) = match arguments.as_slice() {
        [command, address, names @ ..] => (command.as_str(), address.as_str(), names),
        _ => return usage(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    match command {
        "serve" => match local.block_on(&runtime, serve::serve(address)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot serve {address}: {error}");
                ExitCode::FAILURE
            }
        },
        "call" => local.block_on(&runtime, harness::call(address, names)),
        "script" => local.block_on(&runtime, scripts::run_all(address, names)),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: peer-capnp-rpc serve ADDR | call ADDR [NAME...] | script ADDR SEED...");
    ExitCode::from(2)
}
