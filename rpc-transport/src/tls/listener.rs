//! Waiting for clients that have proved who they are.
//!
//! # State model of a client
//!
//! ```text
//! come ──► under way ──handshake over──► finished ──accept──► with the application
//!              │
//!              └──failed, too late, or one too many came after it──► gone
//! ```
//!
//! One thread of the listener makes the handshakes of all clients that are **under way**. It
//! waits for all their sockets at once, so none of them waits for another. **Finished** ones
//! wait for `accept`. While there are as many of them as there may be handshakes, the thread
//! takes nobody more, and clients wait where they would wait at a socket without TLS.
//!
//! The lock of the state is a leaf. Nothing but moving transports in and out is done under
//! it.

use capnp_threads_core::log::tell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnp_threads_core::OwnThread;
use capnp_threads_core::transport::{PeerDescription, Transport};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags};

use super::handshake::{Handshake, Step, late};
use super::opened::Opened;
use super::server::TlsServer;
use super::waiting;
use crate::accept::{self, Closer};
use crate::failure::is_exhaustion;
use crate::fork::Owner;
use crate::tcp;

/// The pause after an attempt for which the system had no room.
const PAUSE: Duration = Duration::from_millis(100);

/// The most clients that are taken between two looks at the handshakes.
const ACCEPTED_AT_ONCE: usize = 64;

/// Waits for clients. Dropping it lets those go whose handshake is under way.
///
/// It belongs to the process that made it: in a child that was forked,
/// [`accept`](Self::accept) fails. Fork first, and make the listener from the inherited
/// socket with [`TlsServer::listen_on`].
pub struct Listener {
    local: SocketAddr,
    closer: Closer,
    shared: Arc<Shared>,
    /// Wakes the thread, which waits for room.
    waker: UnixStream,
    thread: Option<OwnThread<JoinHandle<()>>>,
    owner: Owner,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How many finished clients wait at the most.
    most: usize,
    failures: AtomicU64,
}

#[derive(Default)]
struct State {
    finished: VecDeque<io::Result<Opened>>,
    /// The thread has ended.
    over: bool,
}

impl Listener {
    pub(super) fn new(listener: tcp::Listener, server: TlsServer) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let closer = listener.closer();
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            most: server.handshakes,
            failures: AtomicU64::new(0),
        });
        let reception = Reception {
            over: Over(Arc::clone(&shared)),
            listener,
            server,
            wake,
            under_way: VecDeque::new(),
            pause: None,
        };
        let thread =
            thread::Builder::new().name("rpc-handshakes".into()).spawn(|| reception.run())?;
        let owner = Owner::this_process();
        Ok(Listener { local, closer, shared, waker, thread: Some(OwnThread::new(thread)), owner })
    }

    /// Waits for the next client whose handshake has succeeded. Those of others are counted,
    /// and logged at the level `debug`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] after a [`Closer`] closed this listener. Every other
    /// error is a lack of resources that may pass: report it and call this again.
    pub fn accept(&self) -> io::Result<Transport> {
        self.accept_opened().map(Opened::into_transport)
    }

    pub(super) fn accept_opened(&self) -> io::Result<Opened> {
        self.owner.check()?;
        let mut state = self.shared.state.lock();
        loop {
            if state.over || self.closer.is_closed() {
                return Err(accept::closed());
            }
            if let Some(outcome) = state.finished.pop_front() {
                let had_no_room = state.finished.len() + 1 == self.shared.most;
                drop(state);
                if had_no_room {
                    // If it is full, the thread is awake.
                    let _ = (&self.waker).write(&[0]);
                }
                return outcome;
            }
            self.shared.changed.wait(&mut state);
        }
    }

    /// How many handshakes have failed since the listener was made: the client was not whom
    /// it had to be, or did not speak TLS as it should, or not in time.
    pub fn failed_handshakes(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }

    /// The address with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// A handle that closes this listener from any thread.
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }
}

accept::listens!(Listener);

impl Drop for Listener {
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take().and_then(OwnThread::take)
            && thread.join().is_err()
        {
            tell!(ERROR, "the thread that made TLS handshakes had panicked");
        }
    }
}

/// Tells those who wait that the thread has ended, however it did.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        let finished = {
            let mut state = self.0.state.lock();
            state.over = true;
            std::mem::take(&mut state.finished)
        };
        self.0.changed.notify_all();
        drop(finished);
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.state.lock().finished.len() < self.most
    }

    fn finish(&self, outcome: io::Result<Opened>) {
        self.state.lock().finished.push_back(outcome);
        self.changed.notify_one();
    }

    fn fail(&self, peer: &PeerDescription, error: &io::Error) {
        tell!(DEBUG, %peer, %error, "a TLS handshake failed");
        self.failures.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the thread works with.
struct Reception {
    over: Over,
    listener: tcp::Listener,
    server: TlsServer,
    wake: UnixStream,
    /// In the order in which they came, which is that of their deadlines.
    under_way: VecDeque<UnderWay>,
    /// When the next client may be taken, after a lack of resources.
    pause: Option<Instant>,
}

struct UnderWay {
    handshake: Handshake,
    deadline: Option<Instant>,
    wants: PollFlags,
}

/// What the thread found when it had waited.
struct Ready {
    client_has_come: bool,
    /// For each handshake that was under way.
    handshakes: Vec<bool>,
}

impl Reception {
    fn run(mut self) {
        loop {
            match self.wait() {
                Ok(Some(ready)) => self.work(&ready),
                Ok(None) => return,
                Err(error) => {
                    tell!(ERROR, %error, "cannot wait for TLS clients any more");
                    return;
                }
            }
        }
    }

    /// Waits until there is something to do; `None` when the listener was closed.
    fn wait(&mut self) -> io::Result<Option<Ready>> {
        let (client, closed) = self.listener.readiness();
        let mut deadline = self.under_way.front().and_then(|first| first.deadline);
        let mut takes = self.over.0.has_room();
        if let Some(pause) = self.pause.filter(|_| takes) {
            takes = pause <= Instant::now();
            if !takes {
                deadline = Some(deadline.map_or(pause, |deadline| deadline.min(pause)));
            }
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(closed, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(
                client,
                if takes { PollFlags::IN } else { PollFlags::empty() },
            ),
        ];
        fds.extend(self.under_way.iter().map(|one| PollFd::new(&one.handshake, one.wants)));
        waiting::poll(&mut fds, deadline)?;
        if !fds[0].revents().is_empty() {
            return Ok(None);
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready = Ready {
            client_has_come: takes && is_ready(&fds[2]),
            handshakes: fds[3..].iter().map(is_ready).collect(),
        };
        if is_ready(&fds[1]) {
            // What it says is in the state.
            let _ = (&self.wake).read(&mut [0; 64]);
        }
        Ok(Some(ready))
    }

    fn work(&mut self, ready: &Ready) {
        let shared = Arc::clone(&self.over.0);
        let now = Instant::now();
        let mut ready_ones = ready.handshakes.iter();
        for one in std::mem::take(&mut self.under_way) {
            let is_ready = *ready_ones.next().unwrap_or(&false);
            // First of all: whoever sends one byte now and then is always ready.
            if one.deadline.is_some_and(|deadline| deadline <= now) {
                shared.fail(one.handshake.peer(), &late());
            } else if is_ready {
                self.go_on(one);
            } else {
                self.under_way.push_back(one);
            }
        }
        if ready.client_has_come {
            self.take_clients();
        }
    }

    /// Makes the next step of a handshake.
    fn go_on(&mut self, mut one: UnderWay) {
        let shared = &self.over.0;
        match one.handshake.step() {
            Ok(Step::Wants(wants)) => {
                one.wants = wants;
                self.under_way.push_back(one);
            }
            Ok(Step::Done) => {
                let peer = one.handshake.peer().clone();
                match one.handshake.open() {
                    Ok(opened) => shared.finish(Ok(opened)),
                    Err(error) => shared.fail(&peer, &error),
                }
            }
            Err(error) => shared.fail(one.handshake.peer(), &error),
        }
    }

    fn take_clients(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept_now() {
                Ok(Some((socket, peer))) => self.take(socket, peer),
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.pause = is_exhaustion(&error).then(|| Instant::now() + PAUSE);
                    self.over.0.finish(Err(error));
                    return;
                }
            }
        }
    }

    fn take(&mut self, socket: OwnedFd, peer: SocketAddr) {
        while self.under_way.len() >= self.server.handshakes {
            let Some(oldest) = self.under_way.pop_front() else { break };
            let reason = io::Error::other("too many others came (TlsServer::handshakes)");
            self.over.0.fail(oldest.handshake.peer(), &reason);
        }
        match self.server.begin(socket, peer) {
            Ok(handshake) => {
                let deadline = Instant::now().checked_add(self.server.handshake_timeout);
                self.go_on(UnderWay { handshake, deadline, wants: PollFlags::IN });
            }
            Err(error) => self.over.0.finish(Err(error)),
        }
    }
}
