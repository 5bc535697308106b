//! What the receive thread of a connection stands by for: a descriptor, or what tells of
//! arrivals within this process. Note [reading in turns].

use std::io;
use std::sync::Arc;

use crate::fd::Descriptor;
use crate::sync::{Arrivals, Standby, StandbySet};
use crate::transport::MessageReader;
use crate::work::waiting;

/// Where a connection learns that something has come.
pub(super) enum Standing {
    Descriptor(Standby),
    Here(Arc<Arrivals>),
}

/// The number of a connection in the set in which it is stood by for with others.
pub(super) type Shared = Option<(Arc<StandbySet>, u64)>;

/// What a reader says about that.
pub(super) enum Tells {
    Descriptor(Descriptor),
    Here(Arc<Arrivals>),
}

impl Tells {
    /// `None` if the reader does not know.
    pub(super) fn of(reader: &dyn MessageReader) -> Option<Self> {
        let descriptor = reader.descriptor().map(Tells::Descriptor);
        descriptor.or_else(|| reader.arrivals().map(Tells::Here))
    }
}

impl Standing {
    /// The set is for descriptors: what tells of arrivals within this process is in none.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn new(tells: Tells, shared: Shared) -> io::Result<Self> {
        Ok(match tells {
            Tells::Descriptor(descriptor) => {
                Standing::Descriptor(Standby::new(descriptor, shared)?)
            }
            Tells::Here(arrivals) => Standing::Here(arrivals),
        })
    }

    pub(super) fn arm(&self) -> io::Result<()> {
        match self {
            Standing::Descriptor(standby) => standby.arm(),
            Standing::Here(arrivals) => {
                arrivals.arm();
                Ok(())
            }
        }
    }

    pub(super) fn disarm(&self) -> io::Result<()> {
        match self {
            Standing::Descriptor(standby) => standby.disarm(),
            Standing::Here(arrivals) => {
                arrivals.disarm();
                Ok(())
            }
        }
    }

    /// Ends the wait of the thread that stands by, or its next one. Only for a descriptor with a
    /// set of its own.
    pub(super) fn call(&self) -> io::Result<()> {
        match self {
            Standing::Descriptor(standby) => standby.call(),
            Standing::Here(_) => Ok(()),
        }
    }

    /// Waits, as the thread that stands by, until there is something to read while this is
    /// armed, which is disarmed then, or until it is called.
    pub(super) fn wait(&self) -> io::Result<()> {
        match self {
            Standing::Descriptor(standby) => standby.wait(),
            Standing::Here(arrivals) => {
                waiting::with_parker(|parker| arrivals.wait(parker));
                Ok(())
            }
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        match self {
            Standing::Descriptor(standby) => standby.is_readable(),
            Standing::Here(arrivals) => arrivals.is_readable(),
        }
    }

    /// What a thread can poll.
    pub(super) fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Standing::Descriptor(standby) => Some(standby.descriptor()),
            Standing::Here(_) => None,
        }
    }

    pub(super) fn arrivals(&self) -> Option<&Arc<Arrivals>> {
        match self {
            Standing::Descriptor(_) => None,
            Standing::Here(arrivals) => Some(arrivals),
        }
    }
}
