//! The simplest network of vats: a socket for each pair, made by whoever wants it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capnp_threads_core::network::{Accepted, Listen, Reached, VatNetwork};
use capnp_threads_core::{Error, Result};
use parking_lot::{Condvar, Mutex};

use crate::{Address, Listener, TcpOptions};

/// Who is at the other end of a socket: a server, known by where it listens, or
/// a client, known only by having come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketVat {
    /// A vat that listens at an address.
    At(Address),
    /// A vat that connected to us, numbered in the order of arrival. It cannot be
    /// reached by this name, but while it is connected its bootstrap capability can be
    /// asked for.
    Client(u64),
}

/// Vats that listen on TCP or Unix sockets, and their clients.
///
/// Every client that comes is a vat of its own, also if it comes from the same
/// program twice.
pub struct SocketNetwork {
    /// Taken away at the shutdown, so that whoever comes after it is refused by
    /// the system instead of waiting to be accepted.
    listener: Mutex<Option<Arc<Listener>>>,
    address: Option<Address>,
    options: TcpOptions,
    timeout: Duration,
    clients: AtomicU64,
    /// Where a network without a listener waits.
    closed: Mutex<bool>,
    changed: Condvar,
}

impl SocketNetwork {
    /// A network in which this vat is reached through `listener`.
    ///
    /// # Errors
    /// The system does not tell where that is.
    pub fn listening(listener: Listener) -> io::Result<Self> {
        let address = Some(listener.local_address()?);
        let listener = Mutex::new(Some(Arc::new(listener)));
        Ok(SocketNetwork { listener, address, ..Self::client() })
    }

    /// A network in which this vat only reaches others.
    pub fn client() -> Self {
        SocketNetwork {
            listener: Mutex::new(None),
            address: None,
            options: TcpOptions::new(),
            timeout: Duration::from_secs(30),
            clients: AtomicU64::new(0),
            closed: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// Sets the options of TCP sockets that are dialled.
    #[must_use]
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets how long reaching a vat may take. Default: 30 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where this vat is reached, with the port that the system chose; `None` if
    /// it only reaches others.
    pub fn local_address(&self) -> Option<&Address> {
        self.address.as_ref()
    }
}

impl VatNetwork for SocketNetwork {
    type VatId = SocketVat;

    fn connect(&self, peer: &SocketVat) -> Result<Reached> {
        match peer {
            SocketVat::At(address) => {
                if self.address.as_ref() == Some(address) {
                    return Ok(Reached::Oneself);
                }
                let transport = address
                    .connect_with(&self.options, Some(self.timeout))
                    .map_err(|error| Error::disconnected(error.to_string()))?;
                Ok(Reached::Peer(transport))
            }
            SocketVat::Client(number) => Err(Error::disconnected(format!(
                "client {number} is gone, and clients cannot be reached"
            ))),
        }
    }

    fn accept(&self) -> Result<Option<Accepted<SocketVat>>> {
        let listener = self.listener.lock().clone();
        let Some(listener) = listener else {
            let mut closed = self.closed.lock();
            while !*closed {
                self.changed.wait(&mut closed);
            }
            return Ok(None);
        };
        match listener.next_peer() {
            Err(_) if *self.closed.lock() => Ok(None),
            outcome => Ok(outcome?.map(|transport| {
                let number = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
                Accepted { peer: SocketVat::Client(number), transport }
            })),
        }
    }

    fn shutdown(&self) {
        *self.closed.lock() = true;
        self.changed.notify_all();
        let listener = self.listener.lock().take();
        if let Some(listener) = listener {
            listener.closer().close();
        }
    }
}

impl fmt::Debug for SocketNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketNetwork").field("address", &self.address).finish_non_exhaustive()
    }
}
