//! The same scripts of calls against every server, and those of every foreign client against
//! ours: results and order must be the same everywhere, and are known beforehand. See
//! `conformance::client::run_script`, and in `peers` the files `cxx/scripts.c++`,
//! `python/scripts.py` and `capnp-rpc/src/scripts.rs`.
//!
//! `SCRIPT_RUNS=1000` runs so many with each, and `SCRIPT_FROM` is the first seed.

use std::ops::Range;
use std::process::Command;

use capnp_threads_transport::Address;
use rpc_tests::conformance::client::run_script;
use rpc_tests::peers::{Library, Peer, Serving, or_skip};

/// The seeds of the scripts that each server is given.
fn seeds() -> Range<u64> {
    let setting = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let from = setting("SCRIPT_FROM").unwrap_or(0);
    from..from + setting("SCRIPT_RUNS").unwrap_or(25)
}

fn run_scripts(mut server: Serving) {
    let address: Address = server.address().parse().unwrap();
    for seed in seeds() {
        if let Err(failure) = run_script(&address, seed) {
            panic!("{failure}\nserver: {}", server.stderr());
        }
    }
    assert!(server.is_running().unwrap(), "the server gave up: {}", server.stderr());
}

fn run_scripts_at(peer: Peer) {
    if let Some(program) = or_skip(peer.find()) {
        run_scripts(program.serve("127.0.0.1:0").unwrap());
    }
}

fn our_server() -> Serving {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(["serve", "127.0.0.1:0"]);
    Serving::start(command).unwrap()
}

/// A foreign client's scripts at our server.
fn run_scripts_of(peer: Peer) {
    let Some(program) = or_skip(peer.find()) else { return };
    let mut server = our_server();
    let mut scripts = program.command();
    scripts.args(["script", server.address()]).args(seeds().map(|seed| seed.to_string()));
    let output = scripts.output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}{errors}\nserver: {}", server.stderr());
    let passed = report.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, seeds().count(), "{report}");
    // It ends if the tables of a connection that has ended are not empty.
    assert!(server.is_running().unwrap(), "the server gave up: {}", server.stderr());
}

#[test]
fn scripts_at_our_server() {
    run_scripts(our_server());
}

#[test]
fn scripts_at_the_cxx_server_with_the_systems_library() {
    run_scripts_at(Peer::Cxx(Library::System));
}

#[test]
fn scripts_at_the_cxx_server_with_the_wheels_library() {
    run_scripts_at(Peer::Cxx(Library::Wheel));
}

#[test]
fn scripts_at_the_pycapnp_server() {
    run_scripts_at(Peer::Pycapnp);
}

#[test]
fn scripts_at_the_capnp_rpc_server() {
    run_scripts_at(Peer::CapnpRpc);
}

#[test]
fn scripts_of_the_cxx_client_with_the_systems_library_at_our_server() {
    run_scripts_of(Peer::Cxx(Library::System));
}

#[test]
fn scripts_of_the_cxx_client_with_the_wheels_library_at_our_server() {
    run_scripts_of(Peer::Cxx(Library::Wheel));
}

#[test]
fn scripts_of_the_pycapnp_client_at_our_server() {
    run_scripts_of(Peer::Pycapnp);
}

#[test]
fn scripts_of_the_capnp_rpc_client_at_our_server() {
    run_scripts_of(Peer::CapnpRpc);
}
