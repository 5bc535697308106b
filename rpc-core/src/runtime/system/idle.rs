//! The thread that closes connections that have not been used for a while.

use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Shared;
use crate::error::{Error, Result};
use crate::network::VatNetwork;
use crate::runtime::connection::Connection;

/// Shortest and longest pause between two looks.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// The thread that closes unused connections.
pub(super) struct Idler {
    /// Dropped to stop the thread.
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Idler {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start<N: VatNetwork>(system: &Arc<Shared<N>>, timeout: Duration) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let system = Arc::downgrade(system);
        let thread = std::thread::Builder::new()
            .name("rpc-idle".into())
            .spawn(move || run(&system, timeout, &stopped))
            .map_err(|error| Error::overloaded(format!("no thread to watch with: {error}")))?;
        Ok(Idler { stop, thread })
    }

    /// Stops the thread and waits for its end.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.thread().id() != std::thread::current().id() && self.thread.join().is_err() {
            tracing::error!("the thread that closes idle connections panicked");
        }
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
                connection.end_if_unused();
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
