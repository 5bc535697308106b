//! `capnp-threads tap`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};

use rpc_testing::process::finished;

use crate::support::{Served, compiler, complaint, far_away, printed, tool};

/// A tap that runs, and ends after some connections.
pub(crate) struct Tap {
    process: Child,
    lines: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Tap {
    pub(crate) fn start(target: &str, options: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", target, options)
    }

    pub(crate) fn start_at(address: &str, target: &str, options: &[&str]) -> Self {
        let arguments = [&["tap", address, target], options].concat();
        let mut process =
            tool(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("ready ").expect(&first).to_owned();
        Tap { process, lines, address }
    }

    /// What it printed, without times, once it has ended by itself; and its complaints.
    pub(crate) fn end(mut self) -> (Vec<String>, String) {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        let mut complaints = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        assert!(self.process.wait().unwrap().success(), "{complaints}");
        let without_time = |line: &str| line[line.find('[').unwrap()..].to_owned();
        (text.lines().map(without_time).collect(), complaints)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It has ended, unless the test fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_both_sides_say_is_printed_by_the_schema_and_handed_on() {
    if !compiler() {
        return;
    }
    let server = Served::calculator();
    let far = far_away(&server, 3);
    let tap = Tap::start(&far, &["calculator.capnp", "--connections", "1"]);
    let path = r#"Calculator.getOperator({"op": "add"}).func.call"#;
    let params = r#"{"params": [1, 2.5]}"#;
    let result = printed(&["call", &tap.address, "calculator.capnp", path, params]);
    assert_eq!(result, "{\"value\": 3.5}\n");
    let (lines, complaints) = tap.end();
    assert_eq!(complaints, "");
    for (arrow, parts) in [
        ("--", &["connected by 127.0.0.1:"][..]),
        ("->", &["bootstrap #0"]),
        ("->", &["call #1", ": Calculator.getOperator {\"op\": \"add\"}"]),
        ("->", &["call #2 to question #1.0", ": Calculator.Function.call {\"params\": [1, 2.5]}"]),
        ("<-", &["return #0 results"]),
        (
            "<-",
            &[
                "return #1",
                ": Calculator.getOperator {\"func\": {\"$capability\": \"Calculator.Function: the sender's ",
            ],
        ),
        ("<-", &["return #2", ": Calculator.Function.call {\"value\": 3.5}"]),
        ("->", &["end of stream"]),
        ("<-", &["end of stream"]),
    ] {
        let found = lines.iter().any(|line| {
            line.starts_with(&format!("[1] {arrow} "))
                && parts.iter().all(|part| line.contains(part))
        });
        assert!(found, "{arrow} {parts:?} in {lines:#?}");
    }
}

#[test]
fn capabilities_are_told_from_each_other() {
    if !compiler() {
        return;
    }
    let server = Served::calculator();
    let far = far_away(&server, 4);
    let tap = Tap::start(&far, &["calculator.capnp", "--connections", "1"]);
    let expression = r#"{"call": {"function": "$add", "params": [{"previousResult": "$it"}, {"previousResult": "$bootstrap"}]}}"#;
    let path = format!("Calculator.evaluate({{\"expression\": {expression}}})");
    let add = r#"--let=add=Calculator.getOperator({"op": "add"}).func"#;
    let it = r#"--let=it=Calculator.evaluate({"expression": {"literal": 1}}).value"#;
    complaint(&["call", &tap.address, "calculator.capnp", &path, add, it]);
    let (lines, _) = tap.end();
    let call = lines.iter().find(|line| line.contains("\"params\": [")).unwrap();
    for part in [
        "\"Calculator.Function: in the answer to #1\"",
        "\"Calculator.Value: in the answer to #2\"",
        "\"Calculator.Value: in the answer to #0\"",
    ] {
        assert!(call.contains(part), "{call}");
    }
}

#[test]
fn without_a_schema_messages_are_printed_in_numbers_and_failures_with_their_reasons() {
    if !compiler() {
        return;
    }
    let server = Served::calculator();
    let tap = Tap::start(&far_away(&server, 3), &["--connections", "1"]);
    let path = r#"Calculator.getOperator({"op": "add"}).func.call"#;
    let (code, _) = complaint(&["call", &tap.address, "calculator.capnp", path]);
    assert_eq!(code, 1);
    let (lines, _) = tap.end();
    let reason = "an operator takes two numbers";
    assert!(
        lines.iter().any(|line| line.contains("return #2") && line.contains(reason)),
        "{lines:#?}"
    );
    let call = "[1] -> call #1 to question #0 0x97983392df35cc36/2 params 1 words";
    assert!(lines.iter().any(|line| line == call), "{lines:#?}");
}

#[test]
fn whatever_passes_is_handed_on_until_either_side_ends() {
    // The client says what no vat says: the server, which is none, gets nothing of it that
    // is no message, and both are ended.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap().to_string();
    let tap = Tap::start(&target, &["--connections", "2"]);
    for garbage in [&[255_u8; 64][..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = TcpStream::connect(&tap.address).unwrap();
        let (mut reached, _) = server.accept().unwrap();
        client.write_all(garbage).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut arrived = Vec::new();
        // It may be reset.
        let _ = reached.read_to_end(&mut arrived);
        assert!(arrived.is_empty());
        drop(reached);
        let _ = client.read_to_end(&mut arrived);
    }
    let (lines, _) = tap.end();
    for number in 1..=2 {
        let start = format!("[{number}] -> failed: ");
        assert!(lines.iter().any(|line| line.starts_with(&start)), "{lines:#?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_and_the_client_is_ended() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let tap = Tap::start(&gone, &["--connections", "1"]);
    let mut client = TcpStream::connect(&tap.address).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
    let (_, complaints) = tap.end();
    assert!(
        complaints.contains("connection 1: ") && complaints.contains("refused"),
        "{complaints}"
    );
    let (code, text) =
        complaint(&["tap", "127.0.0.1:0", &gone, "--record", "/no/such/folder/file"]);
    assert!(code == 2 && text.contains("cannot record in /no/such/folder/file"), "{text}");
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    let output = finished(&mut tool(&["tap", &address, &gone]));
    assert_eq!(output.status.code(), Some(3));
}
