//! Vats, and two of them that are connected.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use capnp_threads_core::vat::{ConnectionThreads, PoolConfig, VatConfig};
use capnp_threads_core::{Client, ConnConfig, Connection, FromClient, Vat};
use capnp_threads_transport::tls::VatKey;
use capnp_threads_transport::{Transport, memory, tcp, unix};

use super::{LONG, until, watchdog};

/// How two vats are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Messages that are handed over within the process.
    Memory,
    /// Framed bytes through a pipe that holds very few of them.
    Bytes,
    /// A Unix socket.
    Unix,
    /// A TCP connection.
    Tcp,
    /// One with TLS, of two vats with keys.
    Tls,
}

impl Wire {
    /// Every kind.
    pub const ALL: [Wire; 5] = [Wire::Memory, Wire::Bytes, Wire::Unix, Wire::Tcp, Wire::Tls];

    /// The two ends of a new one.
    pub fn pair(self) -> (Transport, Transport) {
        match self {
            Wire::Memory => memory::pair(),
            Wire::Bytes => memory::byte_pair(256),
            Wire::Unix => unix::pair().unwrap(),
            Wire::Tcp => {
                let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let there = thread::spawn(move || listener.accept().unwrap());
                (tcp::connect(address).unwrap(), there.join().unwrap())
            }
            Wire::Tls => {
                let [here, there] = [(); 2].map(|()| VatKey::generate().unwrap());
                let listener = there.listen(&"127.0.0.1:0".parse().unwrap()).unwrap();
                let address = there.address(listener.local_addr());
                let there = thread::spawn(move || listener.accept().unwrap());
                (here.connect(&address).unwrap(), there.join().unwrap())
            }
        }
    }
}

/// A vat whose threads' names start with `name`, which must be short: the system
/// keeps fifteen bytes of a thread's name.
pub fn vat(name: &str) -> Vat {
    vat_with_pool(name, PoolConfig::default())
}

/// As [`vat`], with a pool of another size.
pub fn vat_with_pool(name: &str, pool: PoolConfig) -> Vat {
    vat_with(name, |config| config.pool = pool)
}

/// As [`vat`], whose connections share their threads.
pub fn vat_that_shares_threads(name: &str) -> Vat {
    vat_with(name, |config| config.connection_threads = ConnectionThreads::Shared)
}

fn vat_with(name: &str, change: impl FnOnce(&mut VatConfig)) -> Vat {
    let mut config = VatConfig::default();
    config.name = name.to_owned();
    change(&mut config);
    Vat::with_config(config).unwrap()
}

/// How many threads of this process have a name that starts with `name`. None, on a
/// system that does not list them.
pub fn threads_named(name: &str) -> usize {
    watchdog::threads().iter().filter(|thread| thread.name.starts_with(name)).count()
}

/// A client vat that is connected to a server vat, which offers one object.
#[derive(Debug)]
pub struct Pair {
    /// The client.
    pub client_vat: Vat,
    /// The server.
    pub server_vat: Vat,
    /// The client's side of the connection.
    pub client: Connection,
    /// The server's side of it.
    pub server: Connection,
    /// What the vats are called, in the names of their threads.
    names: [String; 2],
}

impl Pair {
    /// Connects two new vats over memory; `bootstrap` makes what the server offers.
    pub fn new(bootstrap: impl FnOnce(&Vat) -> Client) -> Self {
        Self::configured(bootstrap, Wire::Memory, |config| config, |config| config)
    }

    /// As [`new`](Self::new), with a choice of how they are connected and of each
    /// side's configuration.
    pub fn configured(
        bootstrap: impl FnOnce(&Vat) -> Client,
        wire: Wire,
        of_client: impl FnOnce(ConnConfig) -> ConnConfig,
        of_server: impl FnOnce(ConnConfig) -> ConnConfig,
    ) -> Self {
        /// Tests run beside one another, and each counts threads by name.
        static PAIRS: AtomicU32 = AtomicU32::new(0);
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let names = [format!("p{number}c"), format!("p{number}s")];
        let (client_vat, server_vat) = (vat(&names[0]), vat(&names[1]));
        let (here, there) = wire.pair();
        let config = of_server(ConnConfig::new().bootstrap(bootstrap(&server_vat)));
        let server = server_vat.connect(there, config).unwrap();
        let client = client_vat.connect(here, of_client(ConnConfig::new())).unwrap();
        Pair { client_vat, server_vat, client, server, names }
    }

    /// What the names of the server's threads start with.
    pub fn server_threads(&self) -> String {
        format!("{}-", self.names[1])
    }

    /// What the server offers.
    pub fn bootstrap<C: FromClient>(&self) -> C {
        self.client.bootstrap()
    }

    /// Waits until neither side holds anything of the other, and checks that
    /// the tables are sound.
    pub fn settle(&self) {
        settle(&self.client, &self.server);
    }

    /// Settles, ends everything, and checks that no thread is left.
    pub fn finish(self) {
        self.settle();
        self.end();
    }

    /// Ends everything, and checks that no thread is left.
    pub fn end(self) {
        let Pair { client_vat, server_vat, client, server, names } = self;
        client.close();
        assert!(client.join_timeout(LONG).unwrap());
        assert!(server.join_timeout(LONG).unwrap());
        assert!(client_vat.shutdown(LONG).unwrap());
        assert!(server_vat.shutdown(LONG).unwrap());
        for name in &names {
            until("threads to go", || threads_named(&format!("{name}-")) == 0);
        }
    }
}

/// Waits until two connected sides hold nothing of each other, and checks that
/// their tables are sound and that neither has failed.
pub fn settle(left: &Connection, right: &Connection) {
    until(&format!("tables to empty: {:?} and {:?}", left.snapshot(), right.snapshot()), || {
        left.snapshot().is_empty() && right.snapshot().is_empty()
    });
    left.check().unwrap();
    right.check().unwrap();
    assert_eq!(left.failure(), None);
    assert_eq!(right.failure(), None);
}
