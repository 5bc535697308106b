//! Two vats in one process, for measurements that need no process of their own
//! for the server.

use std::fmt;
use std::time::Duration;

use capnp_threads_core::{Concurrency, ConnConfig, Connection, FromClient, Limits, Vat};
use capnp_threads_transport::{Transport, memory, tcp, unix};
use rpc_schema::echo_capnp::echo;

use crate::Result;
use crate::service::Echo;

/// What lies between the vats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages are handed over within the process.
    Memory,
    /// A pair of Unix sockets.
    Unix,
    /// TCP over the loopback interface.
    Tcp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Memory, Kind::Unix, Kind::Tcp];

    fn transports(self) -> Result<(Transport, Transport)> {
        Ok(match self {
            Kind::Memory => memory::pair(),
            Kind::Unix => unix::pair()?,
            Kind::Tcp => {
                let listener = tcp::Listener::bind(("127.0.0.1", 0))?;
                let client = tcp::connect(listener.local_addr()?)?;
                (client, listener.accept()?)
            }
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Memory => "memory",
            Kind::Unix => "unix",
            Kind::Tcp => "tcp",
        })
    }
}

/// A client and a server that are connected. Dropping it ends both.
#[derive(Debug)]
pub struct Link {
    echo: echo::Client,
    client: Connection,
    /// Held for its drop.
    _server: Connection,
    vats: [Vat; 2],
}

impl Link {
    /// Connects a client to a server whose methods run as `concurrency` says, and
    /// makes a first call.
    ///
    /// # Errors
    /// The system has no sockets or no threads to give.
    pub fn new(kind: Kind, concurrency: Concurrency) -> Result<Self> {
        let mut limits = Limits::default();
        limits.questions = 4096;
        Link::serving(kind, &limits, |vat| Echo::client(vat, concurrency))
    }

    /// Connects a client to a server that offers what `offer` exports, with limits for
    /// both, and makes a first call.
    ///
    /// # Errors
    /// The system has no sockets or no threads to give.
    pub fn serving(
        kind: Kind,
        limits: &Limits,
        offer: impl FnOnce(&Vat) -> echo::Client,
    ) -> Result<Self> {
        let (here, there) = kind.transports()?;
        let (client_vat, server_vat) = (Vat::new(), Vat::new());
        let config = || ConnConfig::new().limits(limits.clone());
        let offered = offer(&server_vat).into_client();
        let server = server_vat.connect(there, config().bootstrap(offered))?;
        let client = client_vat.connect(here, config())?;
        let echo: echo::Client = client.bootstrap();
        echo.ping_request().call()?;
        Ok(Link { echo, client, _server: server, vats: [client_vat, server_vat] })
    }

    /// The server's object.
    pub fn echo(&self) -> &echo::Client {
        &self.echo
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.client.close();
        for vat in &self.vats {
            // What does not end in time is left to the end of the process.
            let _ = vat.shutdown(Duration::from_secs(10));
        }
    }
}
