//! The server of an example: the example itself, in a process of its own, that is killed
//! at the latest when this is dropped.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use capnp_threads::prelude::*;

pub(crate) struct Process {
    child: Child,
    /// What it prints after its first line.
    pub(crate) printed: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the example with these arguments, and waits until it has said that it serves.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take();
        let output = output.ok_or_else(|| Error::failed("the server's output was asked for"))?;
        let mut process = Process { child, printed: BufReader::new(output) };
        if process.printed.read_line(&mut String::new())? == 0 {
            return Err(Error::failed("the server has ended before it served"));
        }
        Ok(process)
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("the server could not be ended: {error}");
        }
    }
}
