//! The same scripts of calls against every server: results and order must be the
//! same everywhere, and are known beforehand. See `conformance::client::run_script`.

use std::process::Command;

use capnp_threads_transport::Address;
use rpc_tests::conformance::client::run_script;
use rpc_tests::peers::{Library, Peer, Serving, or_skip};

/// How many scripts each server is given.
const SCRIPTS: u64 = 25;

fn run_scripts(mut server: Serving) {
    let address: Address = server.address().parse().unwrap();
    for seed in 0..SCRIPTS {
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

#[test]
fn scripts_at_our_server() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(["serve", "127.0.0.1:0"]);
    run_scripts(Serving::start(command).unwrap());
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
