//! The examples do what they say, and the calculator works with calculators in
//! other languages.
//!
//! Cargo builds the examples along with the tests of this package; with
//! `--test examples` alone it does not, so build them first then.
//!
//! What the other languages need may be missing: then their tests say so and
//! pass, unless the environment has `REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rpc_tests::peers::{Library, cxx_calculator, or_skip};

/// A program that takes longer than this hangs.
const FAR_TOO_LONG: Duration = Duration::from_secs(120);

/// What every calculator client prints, whoever serves it.
const CALCULATIONS: &str = "\
a number: 7
2 * 3 + 4 in one expression: 10
(that - 4) / 3, pipelined: 2
f(3, 4), defined there: 25
g(5), which calls f: 28
the square root of f(3, 4), worked out here: 5
calls back: 1
add with one argument: failed
";

#[test]
fn hello() {
    assert_eq!(output(&mut example("hello")), "Hello, threads!\n");
}

#[test]
fn callbacks() {
    let expected = "the server asks for the name\nGood evening, Grace.\n";
    assert_eq!(output(&mut example("callbacks")), expected);
}

#[test]
fn promises() {
    let expected = "the guest is announced; answered so far: false\nAt last, Godot!\n";
    assert_eq!(output(&mut example("promises")), expected);
}

#[test]
fn pass_fd() {
    let expected = "a letter is waiting in the pipe\nDear guest, make yourself at home.\n";
    assert_eq!(output(&mut example("pass_fd")), expected);
}

#[test]
fn membrane() {
    let expected = "\
in:  greetGuest
out: the guest is asked
Good evening, Grace.
greet: failed: bring a guest
greetGuest: failed: the party is over
";
    assert_eq!(output(&mut example("membrane")), expected);
}

#[test]
fn reconnect() {
    let expected = "\
Hello, Ada! This is connection 1.
Hello, Grace! This is connection 2.
Hello, Barbara! This is connection 3.
";
    assert_eq!(output(&mut example("reconnect")), expected);
}

#[test]
fn upload() {
    assert_eq!(output(&mut example("upload")), "64 MiB arrived\n");
}

#[test]
fn chat() {
    let mut expected = "8 guests said 3 things each\n".to_owned();
    expected.push_str(&"one heard 24 of them\n".repeat(8));
    assert_eq!(output(&mut example("chat")), expected);
}

#[test]
fn threads() {
    let expected = "64 threads made 6400 calls through one client\n";
    assert_eq!(output(&mut example("threads")), expected);
}

#[test]
fn ring() {
    let names = ["alice", "bob", "carol", "dan", "erin"];
    let mut expected = String::new();
    for (start, name) in names.iter().enumerate() {
        let way = names.iter().cycle().skip(start).take(names.len() + 1).copied();
        let way = way.collect::<Vec<_>>().join(" -> ");
        writeln!(expected, "{way}: asked 5 times; {name} has 2 connections").unwrap();
    }
    assert_eq!(output(&mut example("ring")), expected);
}

#[test]
fn calculator_in_one_process() {
    let printed = output(&mut example("calculator"));
    let (first, rest) = printed.split_once('\n').unwrap();
    assert!(first.starts_with("A calculator is served at 127.0.0.1:"), "{first}");
    assert_eq!(rest, CALCULATIONS);
}

#[test]
fn calculators_in_two_processes() {
    check_both_ways(&|| example("calculator"), "rust");
}

#[test]
fn calculators_in_rust_and_cpp() {
    for library in Library::ALL {
        let Some(cxx) = or_skip(cxx_calculator(library)) else { continue };
        check_both_ways(&|| Command::new(cxx.get_program()), "cxx");
    }
}

#[test]
fn calculators_in_rust_and_python() {
    if !installed("pycapnp", Command::new("python3").args(["-c", "import capnp"])) {
        return;
    }
    let program = peers().join("python-calculator/calculator.py");
    let python = || {
        let mut command = Command::new("python3");
        command.arg(&program);
        command
    };
    check_both_ways(&python, "python");
}

/// Runs our example and another program as client and server of each other, over
/// both kinds of sockets.
fn check_both_ways(other: &dyn Fn() -> Command, name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join(name).display());
    for address in ["127.0.0.1:0", &socket] {
        let server = Server::start(other().args(["serve", address]));
        let mut client = example("calculator");
        assert_eq!(output(client.args(["call", &server.address])), CALCULATIONS, "{name} serves");
        drop(server);

        let server = Server::start(example("calculator").args(["serve", address]));
        let printed = output(other().args(["call", &server.address]));
        assert_eq!(printed, CALCULATIONS, "{name} calls");
    }
}

/// A program that prints `ready ADDR` when it serves. Dropping this kills it.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(lines.next()));
        let line = receive.recv_timeout(FAR_TOO_LONG);
        let mut server = Server { process, address: String::new() };
        let line = line.expect("the server says nothing").expect("the server ended").unwrap();
        line.strip_prefix("ready ").expect(&line).clone_into(&mut server.address);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test finds out otherwise.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a program to its end, which has to be a success, and returns what it
/// printed.
fn output(command: &mut Command) -> String {
    let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = process.spawn().unwrap();
    let id = process.id();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(process.wait_with_output()));
    let Ok(output) = receive.recv_timeout(FAR_TOO_LONG) else {
        Command::new("kill").args(["-9", &id.to_string()]).status().unwrap();
        panic!("{command:?} does not end");
    };
    let output = output.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{printed}{complaints}", output.status);
    printed
}

/// An example of this package, as Cargo has built it for this run.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "build the examples first: cargo build -p capnp-threads-transport --examples"
    );
    Command::new(program)
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rpc-tests/peers")
}

/// Whether what a test needs is there; `probe` tells by its success.
fn installed(what: &str, probe: &mut Command) -> bool {
    let probed = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if probed.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(
        std::env::var_os("REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "REQUIRE_PEERS=1, but {what} is not installed: {probe:?} fails"
    );
    eprintln!("skipped: {what} is not installed");
    false
}
