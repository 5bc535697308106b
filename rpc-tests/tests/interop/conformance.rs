//! This library against itself and against every foreign peer, as client and as
//! server, over both kinds of socket.
//!
//! Each test runs the behaviours of `peers/README.md`. Our client also looks at
//! the tables of both sides after each behaviour, and our server at its own when
//! a connection ends; it gives up if something is wrong with them.

use std::collections::BTreeSet;
use std::process::Command;

use capnp_threads_transport::Address;
use rpc_tests::conformance::client::{self, Outcome};
use rpc_tests::conformance::server::Server;
use rpc_tests::peers::{Library, Peer, Report, Serving, Verdict, or_skip};

/// What cannot be shown at an address, whoever the two are.
fn limits_at(address: &str) -> &'static [&'static str] {
    if address.starts_with("unix:") { &[] } else { &["file-descriptors"] }
}

/// What a foreign peer cannot show, as a client or as a server.
fn limits(peer: Peer) -> &'static [&'static str] {
    match peer {
        Peer::Cxx(_) => &["tables-at-rest"],
        Peer::Pycapnp => &[
            "file-descriptors",
            "unimplemented-type",
            "throw-exception",
            "throw-remote-exception",
            "pipeline-only",
            "membrane",
            "membrane-at-server",
            "caller-id",
            "tables-at-rest",
        ],
        Peer::CapnpRpc => &[
            "file-descriptors",
            "tail-call",
            "tail-call-back",
            "tail-call-cancel",
            "membrane-tail-calls",
            "membrane",
            "membrane-at-server",
            "enormous-parameters-fail-alone",
            "enormous-result-fails-alone",
            "tables-at-rest",
        ],
    }
}

fn require(report: &Report, peer: Peer, address: &str) {
    report.require_success();
    let known: BTreeSet<&str> = limits_at(address).iter().chain(limits(peer)).copied().collect();
    for line in report.with(Verdict::Skipped) {
        assert!(known.contains(&*line.name), "nobody knows why this should be skipped: {line}");
    }
    let ran: BTreeSet<&str> = report.lines.iter().map(|line| &*line.name).collect();
    assert_eq!(ran, client::names().collect());
}

fn conformance(verb: &str, address: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args([verb, address]);
    command
}

/// Does the same over both kinds of socket.
fn over_each_socket(test: impl Fn(&str)) {
    test("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    test(&format!("unix:{}", folder.path().join("socket").display()));
}

fn call_ours_from(peer: Peer) {
    let Some(program) = or_skip(peer.find()) else { return };
    over_each_socket(|address| {
        let mut server = Serving::start(conformance("serve", address)).unwrap();
        let report = program.call(server.address(), &[]).unwrap();
        assert!(server.is_running().unwrap(), "our server gave up: {}", server.stderr());
        require(&report, peer, server.address());
    });
}

fn call_from_ours(peer: Peer) {
    let Some(program) = or_skip(peer.find()) else { return };
    over_each_socket(|address| {
        let mut server = program.serve(address).unwrap();
        let report = Report::of(conformance("call", server.address())).unwrap();
        assert!(server.is_running().unwrap(), "the server crashed: {}", server.stderr());
        require(&report, peer, server.address());
    });
}

#[test]
fn ours_calls_ours() {
    over_each_socket(|address| {
        let server = Server::bind(&address.parse::<Address>().unwrap()).unwrap();
        let (address, closer) = (server.address().clone(), server.closer());
        let serving = std::thread::spawn(move || server.run());
        let mut verdicts = Vec::new();
        client::call_all(&address, &[], |verdict| verdicts.push(verdict.clone())).unwrap();
        closer.close();
        assert_eq!(serving.join().unwrap(), [""; 0], "faults of the server");
        assert_eq!(verdicts.len(), client::names().count());
        for verdict in verdicts {
            let expected = limits_at(&address.to_string()).contains(&verdict.name);
            match verdict.outcome {
                Outcome::Passed => {}
                Outcome::Skipped(_) if expected => {}
                Outcome::Skipped(_) | Outcome::Failed(_) => panic!("{verdict}"),
            }
        }
    });
}

#[test]
fn our_program_calls_itself() {
    over_each_socket(|address| {
        let mut server = Serving::start(conformance("serve", address)).unwrap();
        let report = Report::of(conformance("call", server.address())).unwrap();
        assert!(server.is_running().unwrap(), "our server gave up: {}", server.stderr());
        report.require_success();
    });
}

#[test]
fn cxx_calls_ours_with_the_systems_library() {
    call_ours_from(Peer::Cxx(Library::System));
}

#[test]
fn cxx_calls_ours_with_the_wheels_library() {
    call_ours_from(Peer::Cxx(Library::Wheel));
}

#[test]
fn pycapnp_calls_ours() {
    call_ours_from(Peer::Pycapnp);
}

#[test]
fn capnp_rpc_calls_ours() {
    call_ours_from(Peer::CapnpRpc);
}

#[test]
fn ours_calls_cxx_with_the_systems_library() {
    call_from_ours(Peer::Cxx(Library::System));
}

#[test]
fn ours_calls_cxx_with_the_wheels_library() {
    call_from_ours(Peer::Cxx(Library::Wheel));
}

#[test]
fn ours_calls_pycapnp() {
    call_from_ours(Peer::Pycapnp);
}

#[test]
fn ours_calls_capnp_rpc() {
    call_from_ours(Peer::CapnpRpc);
}

#[test]
fn our_client_fails_without_a_server() {
    // A port that nobody listens on any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = Report::of(conformance("call", &address.to_string())).unwrap();
    assert!(!report.status.success());
    assert_eq!(report.with(Verdict::Failed).count(), 1);
}

#[test]
fn our_client_refuses_a_behaviour_that_does_not_exist() {
    let mut server = Serving::start(conformance("serve", "127.0.0.1:0")).unwrap();
    let mut command = conformance("call", server.address());
    command.arg("no-such-behaviour");
    let report = Report::of(command).unwrap();
    assert!(!report.status.success() && report.stderr.contains("no-such-behaviour"));
    assert!(server.is_running().unwrap());
}
