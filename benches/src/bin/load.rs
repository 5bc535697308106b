//! Serves `echo.capnp`, or loads a server of it and prints the figures.

use std::process::ExitCode;

use benches::load::{self, Load};
use benches::within::{self, Within};
use benches::{Result, cli, raw};
use capnp_threads_core::Concurrency;
use capnp_threads_transport::Address;

const USAGE: &str = "usage: load server ADDR
       load inline-server ADDR
       load client ADDR [--figures NAME,NAME...] [--divide N]
       load within [--figures NAME,NAME...] [--divide N]
       load raw-server ADDR
       load raw-client ADDR [--figures NAME,NAME...] [--divide N]
       load raw-within [--figures NAME,NAME...] [--divide N]
ADDR is host:port or unix:/path; port 0 lets the system choose one for a server.
An inline server runs the methods on the thread that serves the connection.
What is taken within one process needs no server.
The raw ones exchange the same bytes over blocking sockets without a protocol.";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let role = arguments.next().ok_or(USAGE)?;
    match role.as_str() {
        "within" => return within::run(arguments, Within::ours),
        "raw-within" => return within::run(arguments, Within::raw),
        _ => {}
    }
    let address: Address = arguments.next().ok_or(USAGE)?.parse()?;
    match role.as_str() {
        "server" => load::serve(&address, Concurrency::Serial, cli::ready),
        "inline-server" => load::serve(&address, Concurrency::Inline, cli::ready),
        "client" => {
            let work = cli::work(arguments)?;
            let mut load = Load::connect(&address)?;
            cli::run(&work, &mut load)?;
            load.close()
        }
        "raw-server" => raw::serve(&address, cli::ready),
        "raw-client" => {
            let work = cli::work(arguments)?;
            cli::run(&work, &mut raw::Raw::connect(&address)?)
        }
        _ => Err(USAGE.into()),
    }
}
