//! Ends a test that hangs, and says where.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

/// Aborts the process if it is not dropped in time.
#[derive(Debug)]
pub struct Watchdog {
    state: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches the current test for a minute, or `WATCHDOG_SECONDS`, beyond the
    /// time that it was asked to run.
    #[must_use = "the test is watched until the watchdog is dropped"]
    pub fn start() -> Self {
        let seconds = std::env::var("WATCHDOG_SECONDS").map_or(60, |seconds| {
            seconds.parse().expect("WATCHDOG_SECONDS must be a whole number")
        });
        let limit = Duration::from_secs(seconds) + super::stress_time();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let state = Arc::new((Mutex::new(false), Condvar::new()));
        let watched = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                let done = watched.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (done, _) = watched
                    .1
                    .wait_timeout_while(done, limit, |done| !*done)
                    .unwrap_or_else(PoisonError::into_inner);
                if !*done {
                    report(&test, limit);
                    std::process::abort();
                }
            })
            .expect("a thread for the watchdog");
        Watchdog { state, thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.state.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.1.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watchdog does not panic");
        }
    }
}

static DOING: LazyLock<Mutex<BTreeMap<String, usize>>> = LazyLock::new(Mutex::default);

/// What a thread waits for, to be printed if it waits for ever.
#[derive(Debug)]
pub struct Doing(String);

/// Notes what the current thread waits for.
pub fn doing(what: &str) -> Doing {
    let note = format!("{:?} waits for {what}", thread_name());
    let mut doing = DOING.lock().unwrap_or_else(PoisonError::into_inner);
    *doing.entry(note.clone()).or_default() += 1;
    Doing(note)
}

impl Drop for Doing {
    fn drop(&mut self) {
        let mut doing = DOING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = doing.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                doing.remove(&self.0);
            }
        }
    }
}

fn thread_name() -> String {
    thread_local! {
        static NAME: RefCell<Option<(ThreadId, String)>> = const { RefCell::new(None) };
    }
    NAME.with_borrow_mut(|name| {
        let current = std::thread::current();
        let unnamed = || (current.id(), current.name().unwrap_or("a thread").to_owned());
        name.get_or_insert_with(unnamed).1.clone()
    })
}

/// A thread of this process.
#[derive(Debug)]
pub struct Thread {
    /// Its number.
    pub id: String,
    /// The first fifteen bytes of its name.
    pub name: String,
    /// One letter: `R` if it runs, `S` if it sleeps.
    pub state: String,
}

/// The threads of this process, as the system lists them.
pub fn threads() -> Vec<Thread> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            // A thread that has just ended has no files any more.
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            Some(Thread {
                id: task.file_name().to_string_lossy().into_owned(),
                name: name.to_owned(),
                state: rest.chars().take(1).collect(),
            })
        })
        .collect()
}

fn report(test: &str, limit: Duration) {
    let mut text = format!("{test} hangs: it did not end within {limit:?}\n");
    for (note, count) in DOING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = writeln!(text, "  {note} ({count})");
    }
    for thread in threads() {
        let _ = writeln!(text, "  thread {} {} {}", thread.id, thread.state, thread.name);
    }
    // Not by a macro: what those print is lost with the test.
    let _ = std::io::stderr().write_all(text.as_bytes());
    // With a debugger at hand the stacks can be had, too.
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-ex", "thread apply all backtrace 30", "-p"]);
    gdb.arg(std::process::id().to_string());
    gdb.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::null());
    if let Err(error) = gdb.status() {
        let _ = writeln!(std::io::stderr(), "  no stacks without gdb: {error}");
    }
}
