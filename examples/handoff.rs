//! Three vats, each in a process of its own: a worker, a factory that knows the worker, and a
//! client that knows only the factory.
//!
//! The client asks the factory for a worker, and gets the capability that the factory has from
//! the worker. The client's vat connects to the worker by itself. So the client goes on when
//! the factory is killed.
//!
//! ```text
//! cargo run --example handoff            vats that have keys, over TLS
//! cargo run --example handoff -- unix    over Unix sockets
//! ```

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use capnp_threads::network::VatNetwork;
use capnp_threads::transport::introducing::Introduce;
use capnp_threads::transport::tls::{TlsNetwork, VatKey};
use capnp_threads::transport::{Address, SocketNetwork, SocketVat};
use capnp_threads::{FromClient, Result, RpcSystem, Vat, promise_client};
use rpc_schema::greeter_capnp::greeter;

type Failure = Box<dyn Error>;
type Outcome<T = ()> = std::result::Result<T, Failure>;

struct Worker;

impl greeter::Server for Worker {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Hello, {name}, from the worker."));
        Ok(())
    }
}

/// A network whose vats introduce each other, and how its vats are named.
trait Network: VatNetwork + Sized {
    fn listening(address: &Address) -> Outcome<Self>;
    fn calling() -> Outcome<Self>;
    fn name(&self) -> Outcome<impl Display>;
    fn vat(name: &str) -> Outcome<Self::VatId>;
}

/// The keys prove who comes to the worker for the capability.
impl Network for TlsNetwork {
    fn listening(address: &Address) -> Outcome<Self> {
        Ok(TlsNetwork::listening(&VatKey::generate()?, address)?)
    }

    fn calling() -> Outcome<Self> {
        Ok(TlsNetwork::client(&VatKey::generate()?)?)
    }

    fn name(&self) -> Outcome<impl Display> {
        Ok(self.this_vat())
    }

    fn vat(name: &str) -> Outcome<Self::VatId> {
        Ok(name.parse()?)
    }
}

/// A secret does, which does not leave this machine.
impl Network for SocketNetwork {
    fn listening(address: &Address) -> Outcome<Self> {
        let network = SocketNetwork::listening(address.listen()?)?;
        Ok(network.introducing(Introduce::OnThisMachine))
    }

    fn calling() -> Outcome<Self> {
        Ok(SocketNetwork::client().introducing(Introduce::OnThisMachine))
    }

    fn name(&self) -> Outcome<impl Display> {
        Ok(self.local_address().cloned().ok_or("nobody can reach this vat")?)
    }

    fn vat(name: &str) -> Outcome<Self::VatId> {
        Ok(SocketVat::At(name.parse()?))
    }
}

/// The worker. It prints its name, with its address, and serves until it is killed.
fn work<N: Network>(address: &Address) -> Outcome {
    let vat = Vat::new();
    let worker: greeter::Client = vat.export(Worker);
    let system = RpcSystem::builder(&vat, N::listening(address)?).bootstrap(worker).start()?;
    println!("{}", system.network().name()?);
    loop {
        thread::park();
    }
}

/// The factory, which gives this worker to everybody who asks.
fn manage<N: Network>(address: &Address, worker: &str) -> Outcome {
    let vat = Vat::new();
    // One system reaches the worker and is reached by clients: only vats that are in one
    // network can be introduced to each other.
    let (given, promised) = promise_client::<greeter::Client>();
    let system = RpcSystem::builder(&vat, N::listening(address)?).bootstrap(given).start()?;
    let worker: greeter::Client = system.bootstrap(&N::vat(worker)?);
    promised.fulfill(worker);
    println!("{}", system.network().name()?);
    loop {
        thread::park();
    }
}

/// Starts this program once more in a role, and reads the name of the vat.
fn start(role: &[&str]) -> Outcome<(Child, String)> {
    let mut child = Command::new(env::current_exe()?).args(role).stdout(Stdio::piped()).spawn()?;
    let mut name = String::new();
    let output = child.stdout.take().ok_or("the process has no output")?;
    BufReader::new(output).read_line(&mut name)?;
    Ok((child, name.trim().to_owned()))
}

fn greet(greeter: &greeter::Client, name: &str) -> Outcome<String> {
    let mut request = greeter.greet_request();
    request.get().set_name(name);
    Ok(request.call()?.get()?.get_greeting()?.to_str()?.to_owned())
}

/// The client, which starts the others.
fn use_factory<N: Network>(addresses: [&str; 2]) -> Outcome {
    let (mut worker, worker_name) = start(&["work", addresses[0]])?;
    let (mut factory, factory_name) = start(&["manage", addresses[1], &worker_name])?;

    let client = RpcSystem::builder(&Vat::new(), N::calling()?).start()?;
    let greeter: greeter::Client = client.bootstrap(&N::vat(&factory_name)?);
    println!("{}", greet(&greeter, "Ada")?);
    // From now on the capability is the worker's, and so is the connection.
    greeter.clone().into_client().resolve()?;
    println!("The factory is killed.");
    factory.kill()?;
    factory.wait()?;
    println!("{}", greet(&greeter, "Grace")?);

    worker.kill()?;
    worker.wait()?;
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let address = arguments.get(1).map(|address| address.parse::<Address>()).transpose()?;
    match (&arguments[..], &address) {
        (["work", _], Some(address @ Address::Tcp { .. })) => work::<TlsNetwork>(address),
        (["work", _], Some(address)) => work::<SocketNetwork>(address),
        (["manage", _, worker], Some(address @ Address::Tcp { .. })) => {
            manage::<TlsNetwork>(address, worker)
        }
        (["manage", _, worker], Some(address)) => manage::<SocketNetwork>(address, worker),
        (["unix"], _) => {
            let folder = tempfile::tempdir()?;
            let [worker, factory] = ["worker", "factory"]
                .map(|name| format!("unix:{}", folder.path().join(name).display()));
            use_factory::<SocketNetwork>([&worker, &factory])
        }
        _ => use_factory::<TlsNetwork>(["127.0.0.1:0"; 2]),
    }
}
