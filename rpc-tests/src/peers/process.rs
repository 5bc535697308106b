//! Peers as processes: a server that is waited for and killed, a client whose
//! verdicts are read.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a server may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may take for one behaviour. It stops by itself before that.
const LINE_WITHIN: Duration = Duration::from_secs(60);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: String,
    running: Running,
}

impl Serving {
    /// Starts any program that prints `ready ADDR` when it listens, and blocks
    /// until it does.
    ///
    /// # Errors
    /// As [`Program::serve`](super::Program::serve).
    pub fn start(command: Command) -> io::Result<Self> {
        let running = Running::start(command)?;
        match running.lines.recv_timeout(READY_WITHIN) {
            Ok(line) => match line.strip_prefix("ready ") {
                Some(address) => Ok(Self { address: address.to_owned(), running }),
                None => Err(running.complaint(&format!("printed {line:?}, not `ready ADDR`"))),
            },
            Err(RecvTimeoutError::Timeout) => Err(running.complaint("does not come to listen")),
            Err(RecvTimeoutError::Disconnected) => {
                Err(running.complaint("ended before it listened"))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.child.id()
    }

    /// What it has printed on its standard error so far.
    pub fn stderr(&self) -> String {
        self.running.stderr().clone()
    }

    /// Whether the process is still there. A server that ended by itself has
    /// crashed.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.running.child.try_wait()?.is_none())
    }
}

/// What a client found of one behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was shown.
    Passed,
    /// It was not tried, for a limit of the client's or the server's
    /// implementation.
    Skipped,
    /// It was not shown.
    Failed,
}

/// A client's line about one behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What was found.
    pub verdict: Verdict,
    /// The behaviour's name, as in `peers/README.md`.
    pub name: String,
    /// Why it was skipped or failed.
    pub reason: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Passed => "ok",
            Verdict::Skipped => "skip",
            Verdict::Failed => "FAIL",
        };
        write!(f, "{verdict} {}", self.name)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (verdict, rest) = line.split_once(' ')?;
        let verdict = match verdict {
            "ok" => Verdict::Passed,
            "skip" => Verdict::Skipped,
            "FAIL" => Verdict::Failed,
            _ => return None,
        };
        let (name, reason) = rest.split_once(": ").unwrap_or((rest, ""));
        Some(Self { verdict, name: name.to_owned(), reason: reason.to_owned() })
    }
}

/// Everything that a client said.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its verdicts, in order.
    pub lines: Vec<Line>,
    /// Its last line, `N passed, M failed`. Empty if it ended without one.
    pub summary: String,
    /// What it printed on its standard error.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Report {
    /// Runs any program that prints the lines of a client, and blocks until it is
    /// done.
    ///
    /// # Errors
    /// As [`Program::call`](super::Program::call).
    pub fn of(command: Command) -> io::Result<Self> {
        let mut running = Running::start(command)?;
        let mut lines = Vec::new();
        let mut summary = String::new();
        loop {
            match running.lines.recv_timeout(LINE_WITHIN) {
                Ok(line) => match Line::parse(&line) {
                    Some(line) => lines.push(line),
                    None => summary = line,
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let last = lines.last().map_or_else(String::new, ToString::to_string);
                    return Err(running.complaint(&format!("hangs after {last:?}")));
                }
            }
        }
        let status = running.child.wait()?;
        let stderr = running.all_of_stderr();
        Ok(Self { lines, summary, stderr, status })
    }

    /// The lines of one verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.verdict == verdict)
    }

    /// Requires that behaviours passed, that none failed and that the client
    /// ended well.
    ///
    /// # Panics
    /// With what failed, if something did.
    #[track_caller]
    pub fn require_success(&self) {
        let failed: Vec<String> = self.with(Verdict::Failed).map(ToString::to_string).collect();
        assert!(
            failed.is_empty()
                && self.status.success()
                && self.with(Verdict::Passed).next().is_some(),
            "{} ({}):\n{}\n{}",
            self.summary,
            self.status,
            failed.join("\n"),
            self.stderr
        );
    }
}

/// A process whose output is read as it comes, killed when dropped.
#[derive(Debug)]
struct Running {
    what: String,
    child: Child,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(mut command: Command) -> io::Result<Self> {
        let what = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))?;
        let (sender, lines) = channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(thread::spawn(move || {
                // Nobody reads on once the receiver is gone; the pipe is emptied
                // all the same, so that the process does not block.
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            }));
        }
        if let Some(pipe) = child.stderr.take() {
            let stderr = stderr.clone();
            readers.push(thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut stderr = stderr.lock().unwrap_or_else(PoisonError::into_inner);
                    stderr.push_str(&line);
                    stderr.push('\n');
                }
            }));
        }
        Ok(Self { what, child, lines, stderr, readers })
    }

    fn stderr(&self) -> MutexGuard<'_, String> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standard error of a process that has ended.
    fn all_of_stderr(&mut self) -> String {
        for reader in self.readers.drain(..) {
            // A reader cannot panic.
            let _ = reader.join();
        }
        self.stderr().clone()
    }

    /// Ends the process and tells what it said.
    fn complaint(mut self, what: &str) -> io::Error {
        let _ = self.child.kill();
        let stderr = self.all_of_stderr();
        io::Error::other(format!("{} {what}\n{stderr}", self.what))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_and_without_a_reason() {
        let line = |verdict, name: &str, reason: &str| {
            Some(Line { verdict, name: name.into(), reason: reason.into() })
        };
        assert_eq!(Line::parse("ok call-order"), line(Verdict::Passed, "call-order", ""));
        assert_eq!(
            Line::parse("FAIL hold: a.rs:1: not so: x"),
            line(Verdict::Failed, "hold", "a.rs:1: not so: x")
        );
        assert_eq!(
            Line::parse("skip caller-id: the server: why"),
            line(Verdict::Skipped, "caller-id", "the server: why")
        );
        assert_eq!(Line::parse("47 passed, 0 failed"), None);
    }

    #[test]
    fn a_report_has_lines_summary_and_status() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo ok a; echo FAIL b: c; echo 1 passed, 1 failed; echo d >&2; exit 1"]);
        let report = Report::of(command).expect("sh runs");
        assert_eq!(report.with(Verdict::Passed).count(), 1);
        assert_eq!(
            report.with(Verdict::Failed).map(|line| &*line.reason).collect::<Vec<_>>(),
            ["c"]
        );
        assert_eq!(report.summary, "1 passed, 1 failed");
        assert_eq!(report.stderr, "d\n");
        assert_eq!(report.status.code(), Some(1));
        assert!(std::panic::catch_unwind(|| report.require_success()).is_err());
    }

    #[test]
    fn a_client_that_says_nothing_is_no_success() {
        let report = Report::of(Command::new("true")).expect("true runs");
        assert!(report.status.success());
        assert!(std::panic::catch_unwind(|| report.require_success()).is_err());
    }

    #[test]
    fn a_server_is_ready_runs_and_ends_with_its_owner() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready here:1; exec tail -f /dev/null"]);
        let mut serving = Serving::start(command).expect("sh runs");
        assert_eq!(serving.address(), "here:1");
        assert!(serving.is_running().expect("the system tells"));
        let there = |id: u32| {
            let mut kill = Command::new("kill");
            kill.args(["-0", &id.to_string()]).stderr(Stdio::null());
            kill.status().expect("kill runs").success()
        };
        let id = serving.id();
        assert!(there(id));
        drop(serving);
        assert!(!there(id));
    }

    #[test]
    fn a_server_that_does_not_listen_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no port >&2"]);
        let error = Serving::start(command).expect_err("it never listened");
        assert!(error.to_string().ends_with("ended before it listened\nno port\n"), "{error}");
    }
}
