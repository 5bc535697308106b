//! Tests of who reads.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::limits::Limits;
use crate::protocol::{Offers, Outbox, Settings};
use crate::runtime::exceptions::{Detail, ExceptionEncoder, TraceEncoder};
use crate::runtime::receiving::Inbox;
use crate::sync::{StandbySet, Unparker};
use crate::tests::net::{frame, ignored, received};
use crate::transport::{
    Descriptor, FrameLimits, MessageWriter, PeerDescription, Received, TransportControl,
    TransportError,
};
use crate::wire;
use crate::wire::message::Message as Frame;

/// The end of a stream, of which somebody has to have seen that it is there.
struct End(Arc<UnixStream>);

impl MessageReader for End {
    fn read(&mut self) -> Result<Option<Frame>, TransportError> {
        unreachable!("nothing is under way")
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn descriptor(&self) -> Option<Descriptor> {
        Some(Arc::clone(&self.0) as _)
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        Ok(Some(Received::End))
    }

    fn set_limits(&mut self, _: FrameLimits) {}
}

struct Nobody;

impl MessageWriter for Nobody {
    fn write(&mut self, _: &mut Vec<Frame>) -> Result<(), TransportError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

impl TransportControl for Nobody {
    fn shutdown(&self) {}

    fn peer(&self) -> PeerDescription {
        PeerDescription::default()
    }
}

impl Outbox for Nobody {
    fn push(&self, _: wire::Message) {}

    fn disconnected(&self) {}
}

/// The reading side of a connection that nobody else has to do with.
fn reading(reader: impl MessageReader, shared: Shared, limits: &Limits) -> (Arc<Reading>, Inbox) {
    let exceptions = ExceptionEncoder::new(Detail::Hidden, TraceEncoder::default(), limits);
    let sending = Arc::new(Sending::new(Box::new(Nobody), Arc::new(Nobody), exceptions));
    let (receiving, entrance, inbox) = Receiving::new(limits);
    let machine = Machine::new(Settings::default(), Offers::default(), Arc::new(Nobody));
    let waits = Waits { shared, spin: Duration::ZERO };
    let (reader, receiving) = (Box::new(reader), Arc::new(receiving));
    let reading = Reading::new(reader, waits, entrance, receiving, sending, machine, Weak::new());
    (reading.ok().unwrap(), inbox)
}

/// Another thread may have read what an attendant was called for.
#[test]
fn an_attendant_that_is_called_in_vain_does_not_read() {
    let (mut peer, socket) = UnixStream::pair().unwrap();
    let set = Some((Arc::new(StandbySet::new().unwrap()), 1));
    let (reading, _inbox) = reading(End(Arc::new(socket)), set, &Limits::default());
    // Nothing is read before the beginning, either.
    peer.write_all(&[0]).unwrap();
    assert!(!reading.attend());
    stream(&reading).read_exact(&mut [0]).unwrap();
    drop(reading.kept_turn());
    assert!(!reading.attend());
    peer.write_all(&[0]).unwrap();
    assert!(reading.attend());
}

/// Another handle on the socket.
fn stream(reading: &Reading) -> UnixStream {
    UnixStream::from(reading.standing.descriptor().unwrap().as_fd().try_clone_to_owned().unwrap())
}

/// Has taken in much, and unparks whoever reads, once it has given so much out.
struct Ahead {
    socket: Arc<UnixStream>,
    given: Arc<AtomicUsize>,
    until: usize,
    /// Of how many messages it consists.
    messages: usize,
    /// Whether the transport has taken them in before the connection began.
    from_the_beginning: bool,
    unparker: Unparker,
}

impl MessageReader for Ahead {
    fn read(&mut self) -> Result<Option<Frame>, TransportError> {
        unreachable!("threads take turns")
    }

    fn has_buffered(&self) -> bool {
        let given = self.given.load(Ordering::SeqCst);
        given < self.messages && (given > 0 || self.from_the_beginning)
    }

    fn descriptor(&self) -> Option<Descriptor> {
        Some(Arc::clone(&self.socket) as _)
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        if self.given.load(Ordering::SeqCst) == self.messages {
            return Ok(None);
        }
        if self.given.fetch_add(1, Ordering::SeqCst) + 1 == self.until {
            self.unparker.unpark();
        }
        Ok(Some(Received::Message(received(&frame(ignored())))))
    }

    fn set_limits(&mut self, _: FrameLimits) {}
}

/// Such a reader, what keeps it readable, and how much it has given out.
fn ahead(parker: &Parker, until: usize, messages: usize) -> (Ahead, UnixStream, Arc<AtomicUsize>) {
    let (mut peer, socket) = UnixStream::pair().unwrap();
    peer.write_all(&[0]).unwrap();
    let (socket, given) = (Arc::new(socket), Arc::<AtomicUsize>::default());
    let reader = Ahead {
        socket,
        given: Arc::clone(&given),
        until,
        messages,
        from_the_beginning: false,
        unparker: parker.unparker(),
    };
    (reader, peer, given)
}

/// Nobody has the turn before the receive thread, which need not wait for more.
fn assert_handed(reading: &Reading) {
    assert!(reading.claim_elsewhere().is_none());
    reading.standing.disarm().unwrap();
    reading.standing.wait().unwrap();
}

#[test]
fn a_guest_that_has_its_answer_leaves_what_is_more_than_a_little() {
    let parker = Parker::new();
    let (reader, _peer, given) = ahead(&parker, 5 * MAX_HELD, usize::MAX);
    let (reading, _inbox) = reading(reader, None, &Limits::default());
    assert!(reading.make(&parker, Deadline::NEVER, false));
    let rest = given.load(Ordering::SeqCst) - 5 * MAX_HELD;
    assert!((MAX_HELD..=REST / STEP).contains(&rest), "{rest}");
    assert_handed(&reading);
}

/// The coordinator is busy, or waits for what this guest does next.
#[test]
fn a_guest_does_not_wait_for_the_coordinator() {
    let parker = Parker::new();
    let (reader, _peer, given) = ahead(&parker, usize::MAX, 9);
    let limits = Limits { received_messages: 7, ..Limits::default() };
    let (reading, inbox) = reading(reader, None, &limits);
    let passed = reading.receiving.try_pass_on(&reading.entrance, Incoming::Idle);
    assert!(passed.is_ok());
    assert!(reading.make(&parker, Deadline::NEVER, false));
    // One of them found no room.
    assert_eq!((given.load(Ordering::SeqCst), inbox.drain()), (7, 7));
    assert_handed(&reading);
    reading.read_what_is_there();
    assert_eq!((given.load(Ordering::SeqCst), inbox.drain()), (9, 3));
}

/// The transport has taken it in, and its descriptor does not tell of it.
#[test]
fn what_was_there_before_the_connection_began_is_for_those_who_stand_by() {
    let set = || Some((Arc::new(StandbySet::new().unwrap()), 1));
    for (shared, stands_by) in [(None, StandsBy::OwnThread), (set(), StandsBy::Attendants)] {
        let parker = Parker::new();
        let (mut reader, _peer, given) = ahead(&parker, usize::MAX, 3);
        reader.from_the_beginning = true;
        let (reading, _inbox) = reading(reader, shared, &Limits::default());
        if stands_by == StandsBy::Attendants {
            reading.begin(&Summons::of_nobody());
        }
        // A guest that comes first leaves it to them.
        assert!(!reading.make(&parker, Deadline::NEVER, false));
        reading.read_what_is_there();
        assert_eq!(given.load(Ordering::SeqCst), 3);
        assert!(reading.claim_elsewhere().is_some());
    }
}

/// A place where something was set aside, and that was taken over at once.
struct Empty;

impl SetAside for Empty {
    fn times(&self) -> Option<u64> {
        None
    }

    fn take_over(&self, _: u64) {}
}

#[test]
fn where_nobody_looks_no_place_is_kept() {
    for set in [None, Some((Arc::new(StandbySet::new().unwrap()), 1))] {
        let (_peer, socket) = UnixStream::pair().unwrap();
        let (reading, _inbox) = reading(End(Arc::new(socket)), set, &Limits::default());
        let place = Arc::new(Empty);
        assert!(!reading.look_after(Arc::clone(&place) as _), "nobody watches");
        assert_eq!(Arc::strong_count(&place), 1);
    }
}
