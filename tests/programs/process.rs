//! Programs that tests run.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A program that takes longer than this hangs.
const FAR_TOO_LONG: Duration = Duration::from_secs(120);

/// Runs a program to its end, which has to be a success, and returns what it
/// printed.
pub(crate) fn output(command: &mut Command) -> String {
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

/// A program that prints `ready ADDR` when it serves. Dropping this kills it.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
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

/// Whether what a test needs is there; `probe` tells by its success.
pub(crate) fn installed(what: &str, probe: &mut Command) -> bool {
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
