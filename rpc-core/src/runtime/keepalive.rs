//! Noticing that a peer is gone without a word.
//!
//! # State model
//!
//! ```text
//! Heard ──silence for an interval, asked──► Asked ──silence for another──► the end
//!   ▲                                         │
//!   └────────────────a message came───────────┘
//! ```
//!
//! - **Heard**: the peer has sent something in the last interval, or nothing is held on the
//!   connection: Note [probe].
//! - **Asked**: the peer owes a sign of life. Any message is one.
//!
//! No thread waits: once in an interval the process's timer looks (Note [timer]). It leaves
//! the end to the connection's coordinator. The end drops what is the application's, and
//! the timer is there for all connections of the process.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::deadline::{Deadline, PAUSE};
use crate::error::Error;
use crate::log::tell;
use crate::protocol::Machine;
use crate::sync::Mutex;
use crate::work::timer::{self, Expire, Ticket};

/// Looks after one connection until it is dropped.
pub(crate) struct Keepalive {
    machine: Weak<Machine>,
    /// Ends the connection, on another thread.
    give_up: Box<dyn Fn(Error) + Send + Sync>,
    interval: Duration,
    /// The lock is a leaf.
    state: Mutex<State>,
}

struct State {
    /// The number of messages that had come at the last look.
    received: usize,
    phase: Phase,
    next_look: Option<Ticket>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Heard,
    Asked,
}

impl Keepalive {
    pub(crate) fn begin(
        machine: &Arc<Machine>,
        interval: Duration,
        give_up: impl Fn(Error) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let state = State { received: 0, phase: Phase::Heard, next_look: None };
        let keepalive = Arc::new(Keepalive {
            machine: Arc::downgrade(machine),
            give_up: Box::new(give_up),
            interval: interval.max(PAUSE),
            state: Mutex::new(state),
        });
        keepalive.look_again();
        keepalive
    }

    fn look_again(self: &Arc<Self>) {
        let Some(time) = Deadline::after(self.interval).time() else { return };
        let this: Arc<dyn Expire> = Arc::clone(self) as _;
        match timer::at(time, Arc::downgrade(&this)) {
            Ok(ticket) => {
                let before = self.state.lock().next_look.replace(ticket);
                drop(before);
            }
            Err(error) => tell!(WARN, %error, "nobody looks whether a peer is gone"),
        }
    }
}

impl Expire for Keepalive {
    fn expire(self: Arc<Self>) {
        let Some(machine) = self.machine.upgrade() else { return };
        if machine.room().is_closed() {
            return;
        }
        let received = machine.received();
        let phase = {
            let mut state = self.state.lock();
            if state.received != received {
                state.phase = Phase::Heard;
            }
            state.received = received;
            state.phase
        };
        match phase {
            Phase::Asked => {
                let silence = self.interval.saturating_mul(2);
                let error = format!(
                    "the peer has given no sign of life for {silence:?}, though it was asked"
                );
                (self.give_up)(Error::disconnected(error));
            }
            Phase::Heard => {
                if machine.probe() {
                    self.state.lock().phase = Phase::Asked;
                }
                self.look_again();
            }
        }
    }
}
