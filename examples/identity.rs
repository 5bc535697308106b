//! Vats with keys: one that serves, in a process of its own, and others that it knows or
//! does not know.
//!
//! The server has a list of the vats that it serves. Ada is on it and Mallory is not. Ada
//! then gets a new key: over a connection that proves the old one she tells the server the
//! new id, and the old one is of no use from then on.
//!
//! ```text
//! cargo run --example identity
//! ```

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use capnp_threads::transport::tls::VatKey;
use capnp_threads::transport::{Address, VatId};
use capnp_threads::{ConnConfig, Error as RpcError, Result, ServeConfig, Vat};
use rpc_schema::greeter_capnp::greeter;

type Failure = Box<dyn Error>;

/// The vats that are served.
#[derive(Clone)]
struct Friends(Arc<Mutex<HashSet<VatId>>>);

impl Friends {
    fn contains(&self, vat: VatId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&vat)
    }

    fn replace(&self, old: VatId, new: VatId) {
        let mut friends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if friends.remove(&old) {
            friends.insert(new);
        }
    }
}

/// What one friend is offered. It knows who calls: nobody else has this capability, unless
/// the friend has passed it on.
struct Greeter {
    caller: VatId,
    friends: Friends,
}

impl greeter::Server for Greeter {
    /// Greets the caller; `name` is its new id, if it has one.
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        if name.is_empty() {
            results.get().set_greeting("Good evening, friend.");
            return Ok(());
        }
        let new = name.parse().map_err(|error| RpcError::failed(format!("{error}")))?;
        self.friends.replace(self.caller, new);
        results.get().set_greeting("I will know you by your new key.");
        Ok(())
    }
}

/// The server, in a process of its own. It prints its address, and serves until it is
/// killed.
fn serve(key_file: &str, friend: VatId) -> std::result::Result<(), Failure> {
    let key = VatKey::load_or_create(key_file)?;
    let listener = key.listen(&"127.0.0.1:0".parse()?)?;
    println!("{}", key.address(listener.local_addr()));
    let friends = Friends(Arc::new(Mutex::new(HashSet::from([friend]))));
    let vat = Vat::new();
    let exporting = vat.clone();
    let config = ServeConfig::new(move |peer| match peer.vat() {
        Some(caller) if friends.contains(caller) => {
            let greeter = Greeter { caller, friends: friends.clone() };
            let greeter: greeter::Client = exporting.export(greeter);
            Ok(ConnConfig::new().bootstrap(greeter))
        }
        _ => Err(RpcError::failed("this vat serves its friends only")),
    });
    Ok(vat.serve(&listener, config)?)
}

/// Calls the server as the vat with this key.
fn call(key: &VatKey, server: &Address, name: &str) -> std::result::Result<String, Failure> {
    let connection = Vat::new().connect(key.connect(server)?, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    let mut request = greeter.greet_request();
    request.get().set_name(name);
    let response = request.call()?;
    let greeting = response.get()?.get_greeting()?.to_str()?.to_owned();
    connection.close();
    Ok(greeting)
}

fn tell(who: &str, outcome: std::result::Result<String, Failure>) {
    match outcome {
        Ok(greeting) => println!("{who}: {greeting}"),
        Err(_) => println!("{who}: refused"),
    }
}

/// Ends the server when the example ends, however it does.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("the server could not be stopped: {error}");
        }
    }
}

fn main() -> std::result::Result<(), Failure> {
    if let [_, key_file, friend] = &env::args().collect::<Vec<_>>()[..] {
        return serve(key_file, friend.parse()?);
    }
    let folder = tempfile::tempdir()?;
    let ada = VatKey::create(folder.path().join("ada.key"))?;
    let mallory = VatKey::generate()?;

    let mut server = Command::new(env::current_exe()?)
        .arg(folder.path().join("server.key"))
        .arg(ada.id().to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = server.stdout.take().ok_or("the server's output was asked for")?;
    let _server = Server(server);
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address)?;
    let address: Address = address.trim().parse()?;

    tell("Ada", call(&ada, &address, ""));
    tell("Mallory", call(&mallory, &address, ""));

    // The id in the address is that of another vat: the server is not believed.
    if let Address::Tls { host, port, .. } = &address {
        let other = Address::Tls { vat: mallory.id(), host: host.clone(), port: *port };
        let error = ada.connect(&other).err().ok_or("the server is not that vat")?;
        println!("Another vat at that address: {:?}", error.kind());
    }

    let new = VatKey::create(folder.path().join("ada-new.key"))?;
    tell("Ada", call(&ada, &address, &new.id().to_string()));
    tell("Ada with the new key", call(&new, &address, ""));
    tell("Whoever has the old key", call(&ada, &address, ""));
    Ok(())
}
