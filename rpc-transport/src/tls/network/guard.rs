//! Notices when a session is over, so that the two vats can have another one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{
    Descriptor, FrameLimits, MessageReader, MessageWriter, PeerDescription, Received, Transport,
    TransportControl, TransportError, VatId,
};

use super::Shared;
use super::pairs::SessionNumber;

/// Wraps all parts of a session's transport.
pub(super) fn transport(
    inner: Transport,
    network: &Arc<Shared>,
    peer: VatId,
    number: SessionNumber,
) -> Transport {
    let guard = Arc::new(Guard {
        network: Arc::downgrade(network),
        peer,
        number,
        is_over: AtomicBool::new(false),
    });
    let Transport { reader, writer, control } = inner;
    Transport {
        reader: Box::new(Reader { inner: reader, guard: Arc::clone(&guard) }),
        writer: Box::new(Writer { inner: writer, guard: Arc::clone(&guard) }),
        control: Arc::new(Control { inner: control, guard }),
    }
}

/// One session. It is over when one of its parts says so, or all are gone.
struct Guard {
    network: Weak<Shared>,
    peer: VatId,
    number: SessionNumber,
    is_over: AtomicBool,
}

impl Guard {
    fn over(&self) {
        if !self.is_over.swap(true, Ordering::SeqCst)
            && let Some(network) = self.network.upgrade()
        {
            network.over(self.peer, self.number);
        }
    }

    /// Nothing more comes after an error.
    fn check<T>(&self, outcome: Result<T, TransportError>) -> Result<T, TransportError> {
        if outcome.is_err() {
            self.over();
        }
        outcome
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.over();
    }
}

struct Reader {
    inner: Box<dyn MessageReader>,
    guard: Arc<Guard>,
}

impl Reader {
    fn check(
        &self,
        received: Result<Received, TransportError>,
    ) -> Result<Received, TransportError> {
        if matches!(received, Ok(Received::End)) {
            self.guard.over();
        }
        self.guard.check(received)
    }
}

impl MessageReader for Reader {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        let message = self.inner.read();
        if matches!(message, Ok(None)) {
            self.guard.over();
        }
        self.guard.check(message)
    }

    fn read_next(&mut self) -> Result<Received, TransportError> {
        let received = self.inner.read_next();
        self.check(received)
    }

    fn has_buffered(&self) -> bool {
        self.inner.has_buffered()
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.inner.descriptor()
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        match self.inner.try_read_next() {
            Ok(None) => Ok(None),
            Ok(Some(received)) => self.check(Ok(received)).map(Some),
            Err(error) => self.guard.check(Err(error)),
        }
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.inner.set_limits(limits);
    }
}

struct Writer {
    inner: Box<dyn MessageWriter>,
    guard: Arc<Guard>,
}

impl MessageWriter for Writer {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        let outcome = self.inner.write(batch);
        self.guard.check(outcome)
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        let outcome = self.inner.try_write(batch);
        self.guard.check(outcome)
    }

    fn max_fds(&self) -> usize {
        self.inner.max_fds()
    }

    fn can_declare_idle(&self) -> bool {
        self.inner.can_declare_idle()
    }

    fn declare_idle(&mut self) -> Result<(), TransportError> {
        let outcome = self.inner.declare_idle();
        self.guard.check(outcome)
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        let outcome = self.inner.finish();
        self.guard.over();
        outcome
    }
}

struct Control {
    inner: Arc<dyn TransportControl>,
    guard: Arc<Guard>,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        self.inner.shutdown();
        self.guard.over();
    }

    fn peer(&self) -> PeerDescription {
        self.inner.peer()
    }

    fn send_buffer(&self) -> Option<u64> {
        self.inner.send_buffer()
    }
}
