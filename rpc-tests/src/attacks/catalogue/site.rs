//! A vat that serves one hostile peer after another, over connections of one kind, and an
//! honest one all the time.

use std::any::Any;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Error, FromClient, Result, RpcSystem, Vat,
};
use capnp_threads_endpoint::{
    ConnectHints, Endpoint, EndpointAddress, EndpointNetwork, Network, Parameters,
};
use capnp_threads_transport::introducing::Introduce;
use capnp_threads_transport::tls::{self, VatKey};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat, unix};
use parking_lot::Mutex;
use rpc_schema::test_capnp::test_interface;

use super::case::Kind;
use super::peer::{Peer, Stream};
use super::streams::{PATIENCE, Pieces, Secure, Socket};
use crate::attacks::target::watched_target;
use crate::support::objects::foo_request;
use crate::support::{LONG, threads_named, until, vat};

/// What vats with keys agree on before the first message.
const PROTOCOL: &[u8] = b"capnp-vat/1";

/// The name of the vat in a network of endpoints.
const NAME: &str = "bob";

/// The connection over which the object was called last.
type Called = Arc<Mutex<Option<Connection>>>;

pub(super) struct Site {
    /// What the names of the vats' threads begin with.
    names: [String; 2],
    vat: Vat,
    offered: Client,
    called: Called,
    way: Way,
    honest: Honest,
}

/// How peers get to the vat.
enum Way {
    Plain,
    Tls { listener: tls::Listener, key: VatKey, peers: VatKey },
    Endpoint { system: RpcSystem<EndpointNetwork>, at: EndpointAddress, peers: Peers },
    Handoff { system: RpcSystem<SocketNetwork>, name: String },
}

/// The hostile vats of a network of endpoints, each of which has a name of its own.
struct Peers {
    endpoint: Arc<Endpoint>,
    network: Network,
    count: u64,
}

/// A peer that means well.
struct Honest {
    vat: Vat,
    object: test_interface::Client,
    /// What its connection depends on.
    _kept: Box<dyn Any>,
}

impl Site {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        static SITES: AtomicU32 = AtomicU32::new(0);
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        let names = [format!("cv{number}-"), format!("ch{number}-")];
        let (own, client) = (vat(&names[0]), vat(&names[1]));
        let called = Called::default();
        let watching = Arc::clone(&called);
        let offered = watched_target(&own, Concurrency::Concurrent, move |call| {
            *watching.lock() = call.connection();
        });
        let (way, honest) = match kind {
            Kind::Plain => plain(&own, &offered, client)?,
            Kind::Tls => secure(&own, &offered, client)?,
            Kind::Endpoint => endpoints(&own, &offered, client)?,
            Kind::Handoff => introducing(&own, &offered, client, number)?,
        };
        let site = Site { names, vat: own, offered, called, way, honest };
        site.bystander_is_served()?;
        Ok(site)
    }

    /// A peer, and the vat's end of its connection. The peer has used it, unless it has to be
    /// the first to say something and there is another way to get hold of that end.
    pub(super) fn attacked(&mut self, is_first: bool) -> Result<(Peer, Connection)> {
        let (stream, known): (Box<dyn Stream>, _) = match &mut self.way {
            Way::Plain => {
                let (here, there) = UnixStream::pair()?;
                let connection =
                    self.vat.connect(unix::from_stream(there)?, config(&self.offered))?;
                (Box::new(Socket::new(here)?), Some(connection))
            }
            Way::Tls { listener, key, peers } => {
                let stream = TcpStream::connect(listener.local_addr())?;
                stream.set_nodelay(true)?;
                let socket = Arc::new(OwnedFd::from(stream));
                let stream = peers.connect_stream(socket, key.id(), PROTOCOL, PATIENCE)?;
                let connection = self.vat.connect(listener.accept()?, config(&self.offered))?;
                (Box::new(Secure(stream)), Some(connection))
            }
            Way::Endpoint { at, peers, .. } => (Box::new(peers.connect(at)?), None),
            Way::Handoff { name, .. } => {
                let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
                (Box::new(Socket::new(stream)?), None)
            }
        };
        let mut peer = Peer::over(stream);
        match known {
            Some(connection) if is_first => Ok((peer, connection)),
            known => {
                peer.begin();
                let called = self.called.lock().take();
                let found = known.or(called);
                let found = found.ok_or_else(|| Error::failed("nobody was called"))?;
                Ok((peer, found))
            }
        }
    }

    /// # Errors
    /// It is not.
    pub(super) fn bystander_is_served(&self) -> Result<()> {
        foo_request(&self.honest.object).call_timeout(LONG).map(drop)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// Something goes on.
    pub(super) fn end(self) -> Result<()> {
        let Site { names, vat, offered, called, way, honest } = self;
        let Honest { vat: client, object, _kept: kept } = honest;
        drop((object, kept, offered));
        called.lock().take();
        client.shutdown(LONG)?;
        let drained = match way {
            Way::Plain | Way::Tls { .. } => true,
            Way::Endpoint { system, peers, .. } => {
                peers.network.close();
                system.drain(LONG)?
            }
            Way::Handoff { system, .. } => system.drain(LONG)?,
        };
        if !vat.shutdown(LONG)? || !drained {
            return Err(Error::failed("the vat does not end"));
        }
        for name in &names {
            // They have ended; the system may take a moment to let go of the last one.
            until("threads to go", || threads_named(name) == 0);
        }
        Ok(())
    }
}

fn config(offered: &Client) -> ConnConfig {
    // However slowly a peer reads, it is told why.
    ConnConfig::new().bootstrap(offered.clone()).close_timeout(LONG)
}

impl Honest {
    fn new(vat: Vat, object: Client, kept: impl Any) -> Self {
        let object = test_interface::Client::from_client(object);
        Honest { vat, object, _kept: Box::new(kept) }
    }
}

fn plain(own: &Vat, offered: &Client, client: Vat) -> Result<(Way, Honest)> {
    let (here, there) = unix::pair()?;
    let served = own.connect(there, config(offered))?;
    let connection = client.connect(here, ConnConfig::new())?;
    Ok((Way::Plain, Honest::new(client, connection.bootstrap_client(), (served, connection))))
}

fn secure(own: &Vat, offered: &Client, client: Vat) -> Result<(Way, Honest)> {
    let (key, peers) = (VatKey::generate()?, VatKey::generate()?);
    let listen: Address = "127.0.0.1:0".parse().expect("an address");
    let listener = key.listen(&listen)?;
    let connected = VatKey::generate()?.connect(&key.address(listener.local_addr()))?;
    let served = own.connect(listener.accept()?, config(offered))?;
    let connection = client.connect(connected, ConnConfig::new())?;
    let honest = Honest::new(client, connection.bootstrap_client(), (served, connection));
    Ok((Way::Tls { listener, key, peers }, honest))
}

fn endpoints(own: &Vat, offered: &Client, client: Vat) -> Result<(Way, Honest)> {
    let local =
        |name: &str| EndpointNetwork::listening(name, "127.0.0.1", 0, Parameters::default());
    let network = local(NAME)?;
    let this = network.this_vat();
    let at = this.hints().first().cloned().ok_or_else(|| Error::failed("nowhere to go"))?;
    let system = RpcSystem::builder(own, network)
        .bootstrap(offered.clone())
        .close_timeout(LONG)
        .introduction_timeout(LONG)
        .start()?;
    let clients = RpcSystem::builder(&client, local("honest")?).start()?;
    let honest = Honest::new(client, clients.bootstrap(&this), clients);
    let network = Network::bind("127.0.0.1", 0, Parameters::default())?;
    let endpoint = network.new_endpoint().map_err(|error| Error::failed(error.to_string()))?;
    let peers = Peers { endpoint: Arc::new(endpoint), network, count: 0 };
    Ok((Way::Endpoint { system, at, peers }, honest))
}

fn introducing(own: &Vat, offered: &Client, client: Vat, number: u32) -> Result<(Way, Honest)> {
    let name = format!("catalogue-{}-{number}", process::id());
    let address = Address::UnixAbstract(name.clone());
    let network = SocketNetwork::listening(address.listen()?)?;
    let system = RpcSystem::builder(own, network.introducing(Introduce::OnThisMachine))
        .bootstrap(offered.clone())
        .close_timeout(LONG)
        .introduction_timeout(LONG)
        .start()?;
    let network = SocketNetwork::client().introducing(Introduce::OnThisMachine);
    let clients = RpcSystem::builder(&client, network).start()?;
    let honest = Honest::new(client, clients.bootstrap(&SocketVat::At(address)), clients);
    Ok((Way::Handoff { system, name }, honest))
}

impl Peers {
    /// Begins a half of a connection of vats, in the name of one that nobody has heard of.
    fn connect(&mut self, at: &EndpointAddress) -> Result<Pieces> {
        self.count += 1;
        let failed = |error: &dyn std::fmt::Display| Error::failed(error.to_string());
        let to_vat = self.endpoint.connect(at, ConnectHints::new()).map_err(|e| failed(&e))?;
        let mut half = b"RPC1\0\0\0\0".to_vec();
        half.extend(self.count.to_be_bytes());
        half.extend([0; 8]);
        for text in [NAME, &format!("mallory-{}", self.count)] {
            half.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
            half.extend(text.as_bytes());
        }
        to_vat.send_vec(half).map_err(|error| failed(&error))?;
        Ok(Pieces::new(Arc::clone(&self.endpoint), to_vat))
    }
}
