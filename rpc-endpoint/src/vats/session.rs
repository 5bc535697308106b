//! One connection of a pair of vats: a half that this one opened, and a half that
//! the other one opened.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::hello::{self, Hello, Kind};
use crate::deadline::{self, Deadline};
use crate::error::Unreached;
use crate::handle::{Connection, Incoming};
use crate::{ConnectHints, ConnectionId, EndpointAddress, SendError, TrySendError};

// Note [halves]
//
// Either side opens its half when it wants to talk, without asking. If both do so
// at the same time, the two halves belong together, as they do when one side
// answers: so there is nothing to decide between. For this both must mean the same
// two. A side therefore opens a half only after it has seen both halves of the
// session before closed, its own and the other's; then at most one half of each
// side is under way that the other does not know of. Halves that answer also say
// which one, so that those which come too late for a session that was given up are
// recognised.
//
// A side that has closed its half, and waits for the other's to be closed, may
// meet a new one instead: the other has seen both closed, and of connections that
// share a socket the younger may be the faster. The old session is out of the way
// then, but what it still brings is received.

/// The two halves. Its number tells its half from others of this vat.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<str>,
    pub(super) serial: u64,
    halves: Mutex<Halves>,
    changed: Condvar,
}

struct Halves {
    ours: Ours,
    theirs: Theirs,
    /// What they bring.
    reading: Reading,
    /// The sockets that they depend on.
    links: Vec<u32>,
}

enum Ours {
    /// It will lead there.
    Unopened(EndpointAddress),
    /// A thread is at it.
    Opening,
    Open(Arc<Connection>),
    Closed,
}

enum Theirs {
    Awaited,
    Here {
        incoming: Arc<Incoming>,
        serial: u64,
        end: End,
    },
    /// It does not come. Why is for people.
    Over(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    /// It does not matter any more whether it is. What it brings is still read.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Wanted,
    Unwanted,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Ours is not closed, and theirs has not come.
    Alone,
    /// Ours is not closed, and theirs has come.
    Together,
    /// Ours is closed, and theirs has not come.
    LeavingAlone,
    /// Ours is closed, and theirs has come but is not closed.
    Leaving,
    /// Both are closed, or it has failed.
    Over,
}

impl Session {
    pub(super) fn new(shared: &Arc<Shared>, peer: Arc<str>, address: EndpointAddress) -> Arc<Self> {
        Arc::new(Session {
            serial: shared.next_serial(),
            shared: shared.clone(),
            peer,
            halves: Mutex::new(Halves {
                ours: Ours::Unopened(address),
                theirs: Theirs::Awaited,
                reading: Reading::Wanted,
                links: Vec::new(),
            }),
            changed: Condvar::new(),
        })
    }

    pub(super) fn progress(&self) -> Progress {
        let halves = self.halves.lock();
        match (&halves.ours, &halves.theirs) {
            (_, Theirs::Over(_) | Theirs::Here { end: End::Over, .. })
            | (Ours::Closed, Theirs::Here { end: End::Closed, .. }) => Progress::Over,
            (Ours::Closed, Theirs::Awaited) => Progress::LeavingAlone,
            (Ours::Closed, Theirs::Here { .. }) => Progress::Leaving,
            (_, Theirs::Awaited) => Progress::Alone,
            (_, Theirs::Here { .. }) => Progress::Together,
        }
    }

    pub(super) fn depends_on(&self, link: u32) -> bool {
        self.halves.lock().links.contains(&link)
    }

    /// Where the half of the other vat came from, if it has come.
    pub(super) fn came_from(&self) -> Option<EndpointAddress> {
        match &self.halves.lock().theirs {
            Theirs::Here { incoming, .. } => Some(incoming.from().clone()),
            Theirs::Awaited | Theirs::Over(_) => None,
        }
    }
}

/// Our half.
impl Session {
    /// Opens it, at an address instead of the one that was given first.
    ///
    /// # Errors
    /// There is no connection to be had. Another address may be tried.
    pub(super) fn dial(&self, address: &EndpointAddress) -> Result<(), Unreached> {
        self.halves.lock().ours = Ours::Opening;
        let outcome = self.open(address);
        if outcome.is_err() {
            self.halves.lock().ours = Ours::Closed;
            self.changed.notify_all();
        }
        outcome.map(drop)
    }

    /// It, which is opened if it is not open yet.
    ///
    /// # Errors
    /// It cannot be opened, or is closed.
    pub(super) fn ours(&self) -> io::Result<Arc<Connection>> {
        self.shared.owner().check()?;
        let mut halves = self.halves.lock();
        let address = loop {
            match std::mem::replace(&mut halves.ours, Ours::Opening) {
                Ours::Unopened(_)
                    if matches!(
                        halves.theirs,
                        Theirs::Over(_) | Theirs::Here { end: End::Over, .. }
                    ) =>
                {
                    halves.ours = Ours::Closed;
                }
                Ours::Unopened(address) => break address,
                Ours::Opening => self.changed.wait(&mut halves),
                Ours::Open(connection) => {
                    halves.ours = Ours::Open(connection.clone());
                    return Ok(connection);
                }
                Ours::Closed => {
                    halves.ours = Ours::Closed;
                    let reason = match &halves.theirs {
                        Theirs::Over(reason) => reason.clone(),
                        Theirs::Awaited | Theirs::Here { .. } => "it was closed".to_owned(),
                    };
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason));
                }
            }
        };
        drop(halves);
        self.open(&address).map_err(|error| {
            self.halves.lock().ours = Ours::Closed;
            self.over(&error.reason);
            io::Error::new(io::ErrorKind::NotConnected, error.at(&address))
        })
    }

    /// It, if it is open.
    pub(super) fn ours_now(&self) -> Option<Arc<Connection>> {
        match &self.halves.lock().ours {
            Ours::Open(connection) => Some(connection.clone()),
            Ours::Unopened(_) | Ours::Opening | Ours::Closed => None,
        }
    }

    /// What `Ours::Opening` stands for.
    fn open(&self, address: &EndpointAddress) -> Result<Arc<Connection>, Unreached> {
        let connection = Arc::new(self.shared.endpoint.open(address, ConnectHints::new())?);
        let answers = {
            let mut halves = self.halves.lock();
            // Before anything is sent: either the loss of the socket is seen by
            // whoever looks for it here, or sending fails.
            halves.links.push(connection.link());
            match &halves.theirs {
                Theirs::Here { serial, .. } => *serial,
                Theirs::Awaited | Theirs::Over(_) => 0,
            }
        };
        let hello = Hello {
            kind: Kind::Half,
            serial: self.serial,
            answers,
            to: self.peer.to_string(),
            from: self.shared.id.to_string(),
        };
        connection.send_vec(hello::encode(&hello)).map_err(|error| Unreached::failed(&error))?;
        let mut halves = self.halves.lock();
        // It may have been closed in the meantime. It was opened all the same: the
        // other side waits for it to be able to go on.
        if let Ours::Opening = halves.ours {
            halves.ours = Ours::Open(connection.clone());
        } else {
            connection.close();
        }
        drop(halves);
        self.changed.notify_all();
        Ok(connection)
    }

    /// Closes it, or sees to it that it is closed as soon as it is open.
    fn close_ours(self: &Arc<Self>) {
        let old = std::mem::replace(&mut self.halves.lock().ours, Ours::Closed);
        if let Ours::Open(connection) = old {
            connection.close();
        }
        self.changed.notify_all();
        self.shared.settle(self);
    }

    /// As [`close_ours`](Self::close_ours), but only if it is open.
    fn close_open(self: &Arc<Self>) {
        let mut halves = self.halves.lock();
        let is_open = matches!(halves.ours, Ours::Open(_) | Ours::Opening);
        let old = if is_open {
            std::mem::replace(&mut halves.ours, Ours::Closed)
        } else {
            return;
        };
        drop(halves);
        if let Ours::Open(connection) = old {
            connection.close();
        }
        self.changed.notify_all();
        self.shared.settle(self);
    }
}

/// Their half.
impl Session {
    /// It has come.
    pub(super) fn arrived(&self, incoming: Arc<Incoming>, serial: u64) {
        let mut halves = self.halves.lock();
        halves.links.push(incoming.connection().heavyweight());
        if halves.reading == Reading::Unwanted {
            incoming.abandon();
        }
        halves.theirs = Theirs::Here { incoming, serial, end: End::Open };
        drop(halves);
        self.changed.notify_all();
    }

    /// Waits for it; `None` if it is not wanted any more.
    ///
    /// # Errors
    /// It does not come, or not before the deadline.
    pub(super) fn theirs(&self, deadline: Deadline) -> io::Result<Option<Arc<Incoming>>> {
        self.shared.owner().check()?;
        let mut halves = self.halves.lock();
        loop {
            if halves.reading == Reading::Unwanted {
                return Ok(None);
            }
            match &halves.theirs {
                Theirs::Here { incoming, .. } => return Ok(Some(incoming.clone())),
                Theirs::Over(reason) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.clone()));
                }
                Theirs::Awaited => {}
            }
            if !deadline::wait(deadline, &self.changed, &mut halves) {
                let reason = format!("the vat {} did not answer in time", self.peer);
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
        }
    }

    /// What it brings is not wanted any more; whoever waits for it gets the end.
    pub(super) fn stop_reading(&self) {
        if !self.shared.is_ours() {
            return;
        }
        let mut halves = self.halves.lock();
        halves.reading = Reading::Unwanted;
        if let Theirs::Here { incoming, .. } = &halves.theirs {
            incoming.abandon();
        }
        drop(halves);
        self.changed.notify_all();
    }

    /// They have closed it.
    pub(super) fn their_end(self: &Arc<Self>, connection: ConnectionId) {
        if let Theirs::Here { incoming, end, .. } = &mut self.halves.lock().theirs
            && incoming.connection() == connection
            && *end == End::Open
        {
            *end = End::Closed;
        }
        self.shared.settle(self);
    }

    /// There is nothing more to come from them.
    pub(super) fn over(&self, reason: &str) {
        let mut halves = self.halves.lock();
        match &mut halves.theirs {
            Theirs::Here { incoming, end, .. } => {
                *end = End::Over;
                incoming.fail(reason);
            }
            theirs @ Theirs::Awaited => *theirs = Theirs::Over(reason.to_owned()),
            Theirs::Over(_) => {}
        }
        drop(halves);
        self.changed.notify_all();
    }

    /// Ends both directions of a session that nobody has begun to use.
    pub(super) fn decline(self: &Arc<Self>) {
        self.stop_reading();
        self.finish();
    }

    /// Closes our half for good.
    pub(super) fn finish(self: &Arc<Self>) {
        if !self.shared.is_ours() {
            return;
        }
        // A half that was never opened is, for the other side waits for it. If that
        // fails, so does waiting.
        let _ = self.ours();
        self.close_ours();
    }

    /// Ends both directions.
    pub(super) fn shut_down(self: &Arc<Self>) {
        if !self.shared.is_ours() {
            return;
        }
        self.stop_reading();
        self.close_open();
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        io::Error::new(io::ErrorKind::BrokenPipe, error)
    }
}

impl From<TrySendError> for io::Error {
    fn from(error: TrySendError) -> Self {
        match error {
            TrySendError::Full => io::ErrorKind::WouldBlock.into(),
            TrySendError::Send(error) => error.into(),
        }
    }
}
