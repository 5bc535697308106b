//! The tools with servers of other implementations.

use std::path::Path;
use std::process::Command;

use rpc_testing::process::{Server, installed};
use rpc_tests::peers::{Library, Peer, cxx_extras, or_skip};

use crate::support::{compiler, complaint, printed};
use crate::tap::Tap;

/// A call that every conformance server answers.
const FOO: [&str; 3] = ["test.capnp", "TestInterface.foo", r#"{"i": 123, "j": true}"#];

/// One that every conformance server refuses.
const BAR: [&str; 2] = ["test.capnp", "TestInterface.bar"];

#[test]
fn servers_of_every_implementation_are_called_listened_to_and_drawn() {
    if !compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (number, peer) in Peer::ALL.into_iter().enumerate() {
        let Some(program) = or_skip(peer.find()) else { continue };
        let mut serving = program.serve("127.0.0.1:0").unwrap();
        let call = |address: &str| printed(&[&["call", address], &FOO[..]].concat());
        assert_eq!(call(serving.address()), "{\"x\": \"foo\"}\n", "{peer}");

        let recording = folder.path().join(number.to_string());
        let recording = recording.to_str().unwrap();
        let options = ["test.capnp", "--connections", "2", "--record", recording];
        let tap = Tap::start(serving.address(), &options);
        assert_eq!(call(&tap.address), "{\"x\": \"foo\"}\n", "{peer}");
        let (_, failed) = complaint(&[&["call", &tap.address], &BAR[..]].concat());
        assert!(failed.contains("mplemented"), "{peer}: {failed}");
        let (lines, complaints) = tap.end();
        assert_eq!(complaints, "", "{peer}");
        for (start, part) in [
            ("[1] -> bootstrap", ""),
            ("[1] -> call ", "TestInterface.foo {\"i\": 123, \"j\": true}"),
            ("[1] <- return ", "TestInterface.foo {\"x\": \"foo\"}"),
            ("[2] -> call ", "TestInterface.bar {}"),
            ("[2] <- return ", "exception"),
        ] {
            let found = lines.iter().any(|line| line.starts_with(start) && line.contains(part));
            assert!(found, "{peer}: {start}…{part} in {lines:#?}");
        }

        let page = printed(&["trace", recording, "test.capnp"]);
        let page = std::fs::read_to_string(page.trim()).unwrap();
        assert!(page.contains("TestInterface.foo") && page.contains("TestInterface.bar"), "{peer}");
        assert!(serving.is_running().unwrap(), "{peer} crashed: {}", serving.stderr());
    }
}

/// Measures a server, and requires that all figures are there.
fn measured(address: &str, who: &str) {
    let figures = "ping,threads2,pipelined_w16,chain10,stream64k";
    let arguments = ["bench", address, "--seconds", "0.01", "--figures", figures, "--json"];
    let object = printed(&arguments);
    let object: serde_json::Map<_, _> = serde_json::from_str(&object).unwrap();
    assert_eq!(object.len(), 7, "{who}: {object:?}");
    assert!(object.values().all(|figure| figure.as_f64().unwrap() > 0.0), "{who}: {object:?}");
}

#[test]
fn servers_in_cpp_are_measured() {
    for library in Library::ALL {
        let Some(mut program) = or_skip(cxx_extras(library)) else { continue };
        let server = Server::start(program.args(["echo-serve", "127.0.0.1"]));
        measured(&server.address, &library.to_string());
    }
}

#[test]
fn servers_in_python_are_measured() {
    if !installed("pycapnp", Command::new("python3").args(["-c", "import capnp"])) {
        return;
    }
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rpc-tests/peers");
    let program = peers.join("python-echo/echo.py");
    let server = Server::start(Command::new("python3").arg(program).args(["serve", "127.0.0.1:0"]));
    measured(&server.address, "pycapnp");
}
