//! Every foreign peer's client against every peer's server, over both kinds of
//! socket: what fails between this project and a peer is not the peers' doing.

use std::collections::BTreeSet;

use rpc_tests::peers::{Library, Peer, Program, Verdict, or_skip};

fn call_each_over(serving: &Program, address: &str) {
    for client in Peer::ALL {
        let Some(client) = or_skip(client.find()) else { continue };
        let mut server = serving.serve(address).unwrap();
        let report = client.call(server.address(), &[]).unwrap();
        report.require_success();
        assert!(server.is_running().unwrap(), "{}: {}", serving.peer(), server.stderr());
    }
}

fn serve_each(peer: Peer) {
    let Some(program) = or_skip(peer.find()) else { return };
    call_each_over(&program, "127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    call_each_over(&program, &format!("unix:{}", folder.path().join("socket").display()));
}

#[test]
fn peers_agree_with_the_cxx_server_with_the_systems_library() {
    serve_each(Peer::Cxx(Library::System));
}

#[test]
fn peers_agree_with_the_cxx_server_with_the_wheels_library() {
    serve_each(Peer::Cxx(Library::Wheel));
}

#[test]
fn peers_agree_with_the_pycapnp_server() {
    serve_each(Peer::Pycapnp);
}

#[test]
fn peers_agree_with_the_capnp_rpc_server() {
    serve_each(Peer::CapnpRpc);
}

/// The names of the table in README.md.
fn names_of_the_readme() -> BTreeSet<String> {
    let readme = include_str!("../../peers/README.md");
    let (_, section) = readme.split_once("## Behaviours").unwrap();
    let (table, _) = section.split_once("\n## ").unwrap();
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn every_client_knows_the_behaviours_of_the_readme() {
    let expected = names_of_the_readme();
    assert!(!expected.is_empty());
    let Some(server) = or_skip(Peer::CapnpRpc.find()) else { return };
    let server = server.serve("127.0.0.1:0").unwrap();
    for client in Peer::ALL {
        let Some(client) = or_skip(client.find()) else { continue };
        let report = client.call(server.address(), &[]).unwrap();
        let names: BTreeSet<String> = report.lines.iter().map(|line| line.name.clone()).collect();
        assert_eq!(names, expected, "{}", client.peer());
    }
}

#[test]
fn a_client_fails_without_a_server() {
    // A port that nobody listens on any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for client in Peer::ALL {
        let Some(client) = or_skip(client.find()) else { continue };
        let report = client.call(&address.to_string(), &[]).unwrap();
        assert!(!report.status.success());
        assert_eq!(report.with(Verdict::Failed).count(), 1, "{}", client.peer());
    }
}
