//! The simplest network of vats: a socket for each pair, made by whoever wants it.

mod introductions;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capnp_threads_core::network::{Accepted, Introductions, Listen, Reached, VatNetwork};
use capnp_threads_core::{Error, Result};

use crate::accept::Entrance;
use crate::introducing::Introduce;
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
///
/// ```
/// use capnp_threads_core::{Client, RpcSystem, Vat};
/// use capnp_threads_transport::{Address, SocketNetwork, SocketVat};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = "127.0.0.1:0".parse::<Address>()?.listen()?;
/// let address = listener.local_address()?;
/// let serving = RpcSystem::builder(&Vat::new(), SocketNetwork::listening(listener)?).start()?;
/// let calling = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start()?;
/// let object: Client = calling.bootstrap(&SocketVat::At(address));
/// # drop((object, serving));
/// # Ok(())
/// # }
/// ```
pub struct SocketNetwork {
    entrance: Entrance<Listener>,
    address: Option<Address>,
    options: TcpOptions,
    timeout: Duration,
    introduce: Introduce,
    clients: AtomicU64,
}

impl SocketNetwork {
    /// A network in which this vat is reached through `listener`.
    ///
    /// # Errors
    /// The system does not tell where that is.
    pub fn listening(listener: Listener) -> io::Result<Self> {
        let address = Some(listener.local_address()?);
        Ok(SocketNetwork { entrance: Entrance::at(listener), address, ..Self::client() })
    }

    /// A network in which this vat only reaches others.
    pub fn client() -> Self {
        SocketNetwork {
            entrance: Entrance::closed_to_all(),
            address: None,
            options: TcpOptions::new(),
            timeout: Duration::from_secs(30),
            introduce: Introduce::Nobody,
            clients: AtomicU64::new(0),
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

    /// Sets where vats may be introduced to each other, by secrets
    /// ([`introducing::bearer`](crate::introducing::bearer)): then a capability that one of
    /// them gives to another is called without a detour. A vat can be introduced to one that
    /// listens, if the vat in between has connected to that one.
    ///
    /// All peers must know level 3 of the protocol, or be vats of level 1 that use the vine of
    /// a capability of a third vat, as those of C++ 1.x do. Some implementations fail to read
    /// a message that has one, such as the Rust crate `capnp-rpc`. Therefore nobody is
    /// introduced by default.
    #[must_use]
    pub fn introducing(mut self, introduce: Introduce) -> Self {
        self.introduce = introduce;
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
        let Some(listener) = self.entrance.wait() else { return Ok(None) };
        match listener.next_peer() {
            Err(_) if self.entrance.is_shut() => Ok(None),
            outcome => Ok(outcome?.map(|transport| {
                let number = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
                Accepted { peer: SocketVat::Client(number), transport }
            })),
        }
    }

    fn shutdown(&self) {
        if let Some(listener) = self.entrance.shut() {
            listener.closer().close();
        }
    }

    fn introductions(&self) -> Option<&dyn Introductions<SocketVat>> {
        (self.introduce != Introduce::Nobody).then_some(self as _)
    }
}

impl fmt::Debug for SocketNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketNetwork").field("address", &self.address).finish_non_exhaustive()
    }
}
