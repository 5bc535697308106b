//! The thread that closes connections that have not been used for a while.

use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use super::Shared;
use super::ended::Ended;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::panics;
use crate::runtime::connection::Connection;
use crate::transport::network::VatNetwork;

/// Shortest and longest pause between two looks.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// The thread that closes unused connections.
pub(super) struct Idler {
    /// Dropped to stop the thread.
    stop: mpsc::Sender<()>,
    thread: Ended,
}

impl Idler {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start<N: VatNetwork>(system: &Arc<Shared<N>>, timeout: Duration) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let system = Arc::downgrade(system);
        let thread = Ended::start("rpc-idle", move || run(&system, timeout, &stopped))?;
        Ok(Idler { stop, thread })
    }

    /// Stops the thread, and waits for its end but not beyond the deadline.
    pub(super) fn stop(self, deadline: Deadline) {
        drop(self.stop);
        self.thread.wait(deadline);
    }
}

/// The last activity that was seen on a connection.
struct Seen {
    connection: u64,
    activity: usize,
    since: Instant,
}

fn run<N: VatNetwork>(system: &Weak<Shared<N>>, timeout: Duration, stopped: &mpsc::Receiver<()>) {
    let [shortest, longest] = PAUSES;
    let pause = (timeout / 4).clamp(shortest, longest);
    let mut seen: HashMap<N::VatId, Seen> = HashMap::new();
    while stopped.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(system) = system.upgrade() else { return };
        let up = system.up();
        drop(system);
        let now = Instant::now();
        let mut still = HashMap::with_capacity(up.len());
        for (peer, connection) in up {
            let current = look(&connection, seen.remove(&peer), now);
            if now.duration_since(current.since) >= timeout {
                let _ = panics::caught("the end of a connection", || connection.end_if_unused());
            }
            still.insert(peer, current);
        }
        seen = still;
    }
}

fn look(connection: &Connection, before: Option<Seen>, now: Instant) -> Seen {
    let current =
        Seen { connection: connection.number(), activity: connection.activity(), since: now };
    match before {
        Some(before)
            if (before.connection, before.activity) == (current.connection, current.activity) =>
        {
            before
        }
        _ => current,
    }
}
