//! Tests of who reads.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::limits::Limits;
use crate::protocol::{Offers, Outbox, Settings};
use crate::runtime::exceptions::{Detail, ExceptionEncoder, TraceEncoder};
use crate::sync::StandbySet;
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

/// Another thread may have read what an attendant was called for.
#[test]
fn an_attendant_that_is_called_in_vain_does_not_read() {
    let (mut peer, socket) = UnixStream::pair().unwrap();
    let set = Some((Arc::new(StandbySet::new().unwrap()), 1));
    let exceptions =
        ExceptionEncoder::new(Detail::Hidden, TraceEncoder::default(), &Limits::default());
    let sending = Arc::new(Sending::new(Box::new(Nobody), Arc::new(Nobody), exceptions));
    let (receiving, entrance, _inbox) = Receiving::new(&Limits::default());
    let machine = Machine::new(Settings::default(), Offers::default(), Arc::new(Nobody));
    let reader = Box::new(End(Arc::new(socket)));
    let receiving = Arc::new(receiving);
    let waits = Waits { shared: set, spin: Duration::ZERO };
    let reading = Reading::new(reader, waits, entrance, receiving, sending, machine, Weak::new());
    let reading = reading.ok().unwrap();
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
