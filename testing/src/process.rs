//! Programs that tests run.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A program that takes longer than this hangs.
const FAR_TOO_LONG: Duration = Duration::from_secs(120);

/// Runs a program to its end.
pub fn finished(command: &mut Command) -> Output {
    let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = process.spawn().unwrap();
    let id = process.id();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(process.wait_with_output()));
    let Ok(output) = receive.recv_timeout(FAR_TOO_LONG) else {
        Command::new("kill").args(["-9", &id.to_string()]).status().unwrap();
        panic!("{command:?} does not end");
    };
    output.unwrap()
}

/// Runs a program to its end, which has to be a success, and returns what it
/// printed.
pub fn output(command: &mut Command) -> String {
    let output = finished(command);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{printed}{complaints}", output.status);
    printed
}

/// A program that prints `ready ADDR` when it serves. Dropping this kills it.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Where it serves.
    pub address: String,
}

impl Server {
    /// Starts it, and waits until it serves.
    pub fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(lines.next()));
        let line = receive.recv_timeout(FAR_TOO_LONG);
        let mut server = Server { process, address: String::new() };
        let line = line.unwrap_or_else(|_| panic!("the server says nothing"));
        let line = line.unwrap_or_else(|| panic!("the server ended")).unwrap();
        let address = line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line}"));
        address.clone_into(&mut server.address);
        server
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub fn has_not_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
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
pub fn installed(what: &str, probe: &mut Command) -> bool {
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
