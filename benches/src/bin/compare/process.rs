//! The peers at work.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use benches::Result;
use benches::figures::Line;

/// A server that runs until this is dropped.
pub(crate) struct Server {
    process: Process,
    address: String,
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only if the process has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(command: &[String], address: &str) -> Result<Self> {
        let mut process = Process(spawn(command, &[address.to_owned()])?);
        let output = process.0.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match line.trim_end().strip_prefix("ready ") {
            Some(address) => Ok(Server { address: address.to_owned(), process }),
            None => {
                Err(format!("{} said {line:?} and not that it is ready", command.join(" ")).into())
            }
        }
    }

    /// Where clients reach it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} at {}", self.process.0.id(), self.address)
    }
}

/// Runs a client to its end and returns the figures that it printed.
pub(crate) fn client(command: &[String], options: &[String]) -> Result<Vec<Line>> {
    let mut process = Process(spawn(command, options)?);
    let output = process.0.stdout.take().ok_or("the client has no output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        lines.push(line?.parse()?);
    }
    let status = process.0.wait()?;
    if !status.success() {
        return Err(format!("{} failed: {status}", command.join(" ")).into());
    }
    Ok(lines)
}

fn spawn(command: &[String], options: &[String]) -> Result<Child> {
    let (program, arguments) = command.split_first().ok_or("there is no program to run")?;
    Command::new(program)
        .args(arguments)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} could not be run: {error}").into())
}
