//! The examples do what they say, and the calculator works with calculators in
//! other languages.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rpc_tests::peers::{Library, cxx_calculator, or_skip};

use rpc_testing::process::{Server, installed, output};

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
fn tls() {
    let expected = "Good evening, Grace.\nMallory was refused.\n";
    assert_eq!(output(&mut example("tls")), expected);
}

#[test]
fn identity() {
    let expected = "\
Ada: Good evening, friend.
Mallory: refused
Another vat at that address: InvalidData
Ada: I will know you by your new key.
Ada with the new key: Good evening, friend.
Whoever has the old key: refused
";
    assert_eq!(output(&mut example("identity")), expected);
}

#[test]
fn handoff() {
    let expected = "\
Hello, Ada, from the worker.
The factory is killed.
Hello, Grace, from the worker.
";
    assert_eq!(output(&mut example("handoff")), expected);
    assert_eq!(output(example("handoff").arg("unix")), expected);
}

#[test]
fn same_object() {
    let expected = "\
Is the gift the ticket for seat 1? no
Is the gift the ticket for seat 2? yes
Welcome, Ada!
";
    assert_eq!(output(&mut example("same_object")), expected);
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
Hello, Ada! This is server 1.
1 is gone: disconnected
Hello, Grace! This is server 2.
2 is gone: disconnected
Hello, Barbara! This is server 3.
3 is gone: disconnected
";
    assert_eq!(output(&mut example("reconnect")), expected);
}

#[test]
fn notify() {
    let expected = "\
19 listeners know the last price
one has not answered: 10 prices wait for it, 989 were dropped
";
    assert_eq!(output(&mut example("notify")), expected);
}

#[test]
fn upload() {
    let expected = "server 2 got the rest: true\n16 MiB arrived, as they were\n";
    assert_eq!(output(&mut example("upload")), expected);
}

#[test]
fn download() {
    let expected = "server 2 sent the rest: true\n16 MiB arrived, as they were\n";
    assert_eq!(output(&mut example("download")), expected);
}

#[test]
fn pull() {
    let expected = "found error 3999\nfound error 7999\n10000 entries from 2 servers\n";
    assert_eq!(output(&mut example("pull")), expected);
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
#[cfg(target_os = "linux")]
fn persistent_object() {
    let expected = "\
Good evening, Grace!
saved; the server is killed
Good evening, Grace!
revoked: there is no such reference, or it is sealed for somebody else
";
    assert_eq!(output(&mut example("persistent_object")), expected);
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

/// An example of this package, as Cargo has built it for this run.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "build the examples first: cargo build --examples");
    Command::new(program)
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rpc-tests/peers")
}
