//! Which peers may connect, which are refused, and which are disconnected again.
//!
//! # State model of a peer that connects
//!
//! ```text
//! come ──no room, or refused──► Refused ──told, or after a second──► gone
//!   │
//!   └──room──► Inside: Silent ──first message──► Active ⇄ Quiet
//!                        │                                  │
//!                        └────────── for too long ──────────┴──► gone
//!
//! Inside ──connection ended──► gone
//! ```
//!
//! - **Refused**: an Abort was written. The socket stays open for a moment, because
//!   closing one that holds unread data may destroy what was sent over it.
//! - **Inside**: the connection has a [`Place`], until its threads are gone.
//! - **Silent**, **Quiet**: the connection is in the timetable, to be looked at when its
//!   time is up. `Active` is seen only then, by comparing counts.
//!
//! The lock of the state is a leaf: no other lock is taken, no connection ended and no
//! transport dropped under it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::limits::AcceptLimits;
use super::pace::Throttle;
use super::timetable::Timetable;
use crate::deadline::{Deadline, PAUSE};
use crate::error::{Error, Result};
use crate::log::tell;
use crate::memory::GiveBack;
use crate::panics;
use crate::runtime::connection::{self, Connection, Seen};
use crate::sync::Mutex;
use crate::transport::{PeerDescription, Transport, TransportControl, TransportError, VatId};
use crate::wire;
use crate::work::event::Event;
use crate::work::waiting::{self, Waiters};

/// How long the socket of a refused peer stays open for it to read why.
const LINGER: Duration = Duration::from_secs(1);

/// Maximum number of sockets of refused peers that stay open.
const MAX_LINGERING: usize = 64;

/// Number of peers for which memory is kept when none is inside.
const KEPT: usize = 16;

/// Lets peers in, and watches those that are in.
pub(crate) struct Door {
    limits: AcceptLimits,
    state: Mutex<State>,
    refusals: Mutex<Throttle>,
    /// Set when no more peers are let in.
    closed: Event,
}

#[derive(Default)]
struct State {
    phase: Phase,
    inside: u32,
    by_peer: HashMap<Source, u32>,
    watched: Timetable<Watched>,
    /// Refused peers, in the order in which they were refused.
    lingering: VecDeque<(Instant, Lingering)>,
    /// The thread that watches, when it waits.
    waiters: Waiters,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Closed,
}

/// What counts as one peer for the limit on connections of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    /// The network part of an IPv6 address.
    V6([u16; 4]),
    User(u32),
    /// It has proved that. Since anybody may make any number of keys, its address is
    /// counted as well.
    Vat(VatId),
}

/// A connection, and what it is watched for.
struct Watched {
    connection: Weak<connection::Shared>,
    last: Last,
}

/// What was last seen of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing was received yet.
    Silence,
    Activity(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The peer never sent anything.
    Silent,
    /// Nothing happened since the last look.
    Unused,
    /// The count to compare the next look with.
    Used(usize),
}

/// The verdict on a connection whose time is up.
fn judge(last: Last, seen: &Seen) -> Verdict {
    match last {
        Last::Silence if !seen.heard => Verdict::Silent,
        Last::Activity(before) if seen.activity == before && !seen.is_busy => Verdict::Unused,
        Last::Silence | Last::Activity(_) => Verdict::Used(seen.activity),
    }
}

/// Keeps the socket of a refused peer open, and ends it when dropped.
struct Lingering(Transport);

impl Drop for Lingering {
    fn drop(&mut self) {
        let control: &Arc<dyn TransportControl> = &self.0.control;
        let _ = panics::caught("a transport's shutdown", || control.shutdown());
    }
}

impl Door {
    /// Opens the door, and starts the thread that watches.
    ///
    /// # Errors
    /// A limit lets nobody in; the system has no thread to give.
    pub(crate) fn open(limits: AcceptLimits) -> Result<Arc<Self>> {
        limits.check()?;
        let door = Arc::new(Door {
            limits,
            state: Mutex::default(),
            refusals: Mutex::default(),
            closed: Event::default(),
        });
        let watching = Arc::clone(&door);
        std::thread::Builder::new()
            .name("rpc-door".into())
            .spawn(move || watching.watch())
            .map_err(|error| {
                Error::overloaded(format!(
                    "no thread could be started to watch the connections: {error}"
                ))
            })?;
        Ok(door)
    }

    /// Lets no more peers in. The thread that watches ends when no peer that it has to
    /// watch is inside any more.
    pub(crate) fn close(&self) {
        let called = {
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            state.waiters.call_all()
        };
        called.wake_now();
        self.closed.set();
    }

    /// Waits until the door is closed. Returns `false` when the deadline came first.
    pub(crate) fn wait_until_closed(&self, deadline: Deadline) -> bool {
        self.closed.park(deadline)
    }

    /// A place for a peer.
    ///
    /// # Errors
    /// What to tell a peer for which there is none.
    pub(crate) fn admit(self: &Arc<Self>, peer: &PeerDescription) -> Result<Place> {
        let sources = Source::all_of(peer);
        let mut state = self.state.lock();
        if state.inside >= self.limits.connections {
            return Err(Error::overloaded(format!(
                "this vat has {} connections, its limit; try again later",
                state.inside
            )));
        }
        let counts = sources.iter().flatten().filter_map(|source| state.by_peer.get(source));
        if let Some(count) = counts.max().filter(|most| **most >= self.limits.connections_per_peer)
        {
            return Err(Error::overloaded(format!(
                "this vat has {count} connections with you, its limit; close some first"
            )));
        }
        for source in sources.into_iter().flatten() {
            *state.by_peer.entry(source).or_default() += 1;
        }
        state.inside += 1;
        Ok(Place { door: Arc::clone(self), sources, number: None })
    }

    /// Sends a peer away, and tells it why.
    pub(crate) fn refuse(&self, transport: Transport, error: &Error) {
        let peer = transport.control.peer();
        if let Some(before) = self.refusals.lock().pass(Instant::now()) {
            tell!(WARN, %peer, %error, before, "a peer was refused, others before it as well");
        }
        let mut lingering = Lingering(transport);
        if !tell(&mut lingering.0, error.clone()) {
            return;
        }
        let oldest = {
            let mut state = self.state.lock();
            let until = Instant::now() + LINGER;
            state.lingering.push_back((until, lingering));
            let full = state.lingering.len() > MAX_LINGERING;
            let oldest = if full { state.lingering.pop_front() } else { None };
            (oldest, state.waiters.call_all())
        };
        let (oldest, called) = oldest;
        called.wake_now();
        drop(oldest);
    }

    /// Watches a connection for which there is a place, and gives the place up when the
    /// connection has ended.
    pub(crate) fn watch_over(&self, connection: &Connection, mut place: Place) {
        place.number = Some(connection.number());
        let AcceptLimits { first_message, idle, .. } = self.limits;
        let last = if first_message <= idle {
            Last::Silence
        } else {
            Last::Activity(connection.activity())
        };
        let watched = Watched { connection: connection.downgrade(), last };
        self.enter(connection.number(), first_message.min(idle), watched);
        connection.on_end(Box::new(move || drop(place)));
    }

    /// Enters a connection to be looked at after this time, unless that never comes.
    fn enter(&self, number: u64, after: Duration, watched: Watched) {
        let Some(time) = next_look(after).time() else { return };
        let (before, called) = {
            let mut state = self.state.lock();
            (state.watched.enter(number, time, watched), state.waiters.call_all())
        };
        called.wake_now();
        drop(before);
    }

    /// What the watching thread does.
    fn watch(&self) {
        loop {
            let now = Instant::now();
            let (watched, lingered, next) = {
                let mut state = self.state.lock();
                let is_due = state.lingering.front().is_some_and(|(until, _)| *until <= now);
                let lingered = if is_due { state.lingering.pop_front() } else { None };
                (state.watched.take_due(now), lingered, state.next())
            };
            if watched.is_some() || lingered.is_some() {
                drop(lingered);
                if let Some((number, watched)) = watched {
                    self.look_at(number, watched);
                }
                continue;
            }
            let over = waiting::park(
                &self.state,
                |state| &mut state.waiters,
                next.map_or(Deadline::NEVER, Deadline::at),
                |state, _| match state.next() {
                    None if state.phase == Phase::Closed => Some(true),
                    changed => (changed != next).then_some(false),
                },
            );
            if over == Some(true) {
                return;
            }
        }
    }

    fn look_at(&self, number: u64, watched: Watched) {
        let Some(connection) = watched.connection.upgrade() else { return };
        match judge(watched.last, &connection.seen()) {
            Verdict::Silent => self.end(
                &connection,
                format!(
                    "the peer sent nothing within {:?} (AcceptLimits::first_message)",
                    self.limits.first_message
                ),
            ),
            Verdict::Unused => {
                if connection.end_if_unused() {
                    // A peer that has to agree to the end has as much time again.
                    self.enter(number, self.limits.idle, watched);
                } else {
                    self.end(
                        &connection,
                        format!(
                            "the connection was not used for {:?} (AcceptLimits::idle); \
                             connect again when it is needed",
                            self.limits.idle
                        ),
                    );
                }
            }
            Verdict::Used(activity) => {
                let last = Last::Activity(activity);
                self.enter(number, self.limits.idle, Watched { last, ..watched });
            }
        }
    }

    fn end(&self, connection: &Arc<connection::Shared>, reason: String) {
        if let Some(before) = self.refusals.lock().pass(Instant::now()) {
            let peer = connection.peer();
            tell!(WARN, %peer, reason, before, "a peer was sent away, others before it as well");
        }
        connection.abort_unlogged(Error::disconnected(reason));
    }

    fn leave(&self, sources: [Option<Source>; 2], number: Option<u64>) {
        let (watched, called) = {
            let mut state = self.state.lock();
            state.inside -= 1;
            for source in sources.into_iter().flatten() {
                let Some(count) = state.by_peer.get_mut(&source) else { continue };
                *count -= 1;
                if *count == 0 {
                    state.by_peer.remove(&source);
                    state.by_peer.give_back(KEPT);
                }
            }
            let watched = number.and_then(|number| state.watched.remove(number));
            (watched, state.waiters.call_all())
        };
        called.wake_now();
        drop(watched);
    }
}

impl State {
    /// When the watching thread has something to do next.
    fn next(&self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|(until, _)| *until);
        match (self.watched.next(), lingering) {
            (Some(watched), Some(lingering)) => Some(watched.min(lingering)),
            (watched, lingering) => watched.or(lingering),
        }
    }
}

/// When a connection is looked at that has so much time.
fn next_look(after: Duration) -> Deadline {
    Deadline::after(after.max(PAUSE))
}

/// Writes an Abort as far as the transport takes it without waiting. Returns whether the
/// peer can read it.
fn tell(transport: &mut Transport, error: Error) -> bool {
    let Ok(frame) = wire::encode(wire::Message::Abort(error)) else { return false };
    let mut batch = vec![frame];
    let written = panics::caught("a transport's writer", || {
        // Without the end of the stream, the peer would wait for more.
        Ok::<bool, TransportError>(
            transport.writer.try_write(&mut batch)? && {
                transport.writer.finish()?;
                true
            },
        )
    });
    matches!(written, Ok(Ok(true)))
}

impl Source {
    /// Everything for which a peer counts.
    fn all_of(peer: &PeerDescription) -> [Option<Self>; 2] {
        [Self::of(peer), peer.vat().map(Source::Vat)]
    }

    fn of(peer: &PeerDescription) -> Option<Self> {
        if let Some(socket) = peer.socket {
            return Some(match socket.ip() {
                IpAddr::V4(v4) => Source::V4(v4),
                IpAddr::V6(v6) => {
                    let [a, b, c, d, ..] = v6.segments();
                    v6.to_ipv4_mapped().map_or(Source::V6([a, b, c, d]), Source::V4)
                }
            });
        }
        peer.credentials.map(|process| Source::User(process.uid))
    }
}

/// The place of one connection. It is free again when this is dropped.
pub(crate) struct Place {
    door: Arc<Door>,
    sources: [Option<Source>; 2],
    number: Option<u64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.leave(self.sources, self.number);
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Credentials, Identity};

    fn at(address: &str) -> PeerDescription {
        PeerDescription::from_socket(address.parse().unwrap())
    }

    fn user(uid: u32) -> PeerDescription {
        PeerDescription::from_address("unix:unnamed").with_credentials(Some(Credentials {
            pid: 1,
            uid,
            gid: 1,
        }))
    }

    fn door(connections: u32, connections_per_peer: u32) -> Arc<Door> {
        let limits = AcceptLimits { connections, connections_per_peer, ..AcceptLimits::default() };
        Door::open(limits).unwrap()
    }

    #[test]
    fn one_peer_is_one_address_one_network_or_one_user() {
        for (peer, same, other) in [
            (at("10.0.0.1:1"), at("10.0.0.1:2"), at("10.0.0.2:1")),
            (at("10.0.0.1:1"), at("[::ffff:10.0.0.1]:2"), at("[::ffff:10.0.0.2]:1")),
            (at("[2001:db8::1]:1"), at("[2001:db8::ffff:2]:1"), at("[2001:db8:0:1::1]:1")),
            (user(7), user(7), user(8)),
        ] {
            let door = door(9, 1);
            let place = door.admit(&peer).unwrap();
            let refused = door.admit(&same).err().unwrap();
            assert!(refused.reason().contains("1 connections with you"), "{refused}");
            let _other = door.admit(&other).unwrap();
            drop(place);
            door.admit(&same).unwrap();
            door.close();
        }
    }

    #[test]
    fn nobody_is_looked_at_without_a_pause() {
        let earliest = Instant::now() + PAUSE;
        assert!(next_look(Duration::ZERO).time().is_some_and(|time| time >= earliest));
        assert_eq!(next_look(Duration::MAX), Deadline::NEVER);
    }

    #[test]
    fn a_vat_is_one_peer_wherever_it_comes_from_and_an_address_whatever_its_keys() {
        let vat = |key: u8, address: &str| {
            let id = VatId::from_public_key([key; 32]);
            at(address).with_identity(Some(Identity::of_vat(id)))
        };
        let door = door(9, 2);
        let first = door.admit(&vat(1, "10.0.0.1:1")).unwrap();
        let _second = door.admit(&vat(1, "10.0.0.2:1")).unwrap();
        assert!(door.admit(&vat(1, "10.0.0.3:1")).is_err());
        let _other = door.admit(&vat(2, "10.0.0.1:1")).unwrap();
        assert!(door.admit(&vat(3, "10.0.0.1:1")).is_err());
        // Those who were refused count for nothing.
        let _third = door.admit(&vat(3, "10.0.0.3:1")).unwrap();
        drop(first);
        door.admit(&vat(1, "10.0.0.3:1")).unwrap();
        door.admit(&vat(3, "10.0.0.1:1")).unwrap();
        assert_eq!(door.state.lock().by_peer.values().sum::<u32>(), 6);
        door.close();
    }

    #[test]
    fn all_peers_together_are_limited_also_those_that_are_not_told_apart() {
        let door = door(3, 1);
        let unknown = PeerDescription::from_address("memory");
        let places = [(); 3].map(|()| door.admit(&unknown).unwrap());
        let refused = door.admit(&at("10.0.0.1:1")).err().unwrap();
        assert!(refused.reason().contains("3 connections, its limit"), "{refused}");
        drop(places);
        let _place = door.admit(&at("10.0.0.1:1")).unwrap();
        assert_eq!(door.state.lock().inside, 1);
        door.close();
    }

    #[test]
    fn silence_ends_a_connection_and_calls_or_messages_keep_it() {
        let seen = |heard, activity, is_busy| Seen { heard, activity, is_busy };
        // What this side sent says nothing about the peer.
        assert_eq!(judge(Last::Silence, &seen(false, 3, true)), Verdict::Silent);
        assert_eq!(judge(Last::Silence, &seen(true, 3, false)), Verdict::Used(3));
        assert_eq!(judge(Last::Activity(3), &seen(true, 3, false)), Verdict::Unused);
        assert_eq!(judge(Last::Activity(3), &seen(true, 3, true)), Verdict::Used(3));
        assert_eq!(judge(Last::Activity(3), &seen(true, 4, false)), Verdict::Used(4));
    }

    #[test]
    fn limits_that_let_nobody_in_are_refused() {
        for (name, limits) in [
            ("connections", AcceptLimits { connections: 0, ..AcceptLimits::default() }),
            (
                "connections_per_peer",
                AcceptLimits { connections_per_peer: 0, ..AcceptLimits::default() },
            ),
        ] {
            let error = Door::open(limits).err().unwrap();
            assert!(error.reason().contains(&format!("AcceptLimits::{name} is 0")), "{error}");
        }
    }
}
