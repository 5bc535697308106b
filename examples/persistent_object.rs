//! An object that survives the process that it lives in.
//!
//! ```text
//! cargo run --example persistent_object
//! ```
//!
//! The program starts itself as a server, saves an object of that server, kills the
//! server, starts it again, and gets the object back.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use capnp_threads::offer::NamedExports;
use capnp_threads::persist::sturdy_capnp::restorer;
use capnp_threads::persist::{FolderStore, Owner, Persistence, Savable};
use capnp_threads::transport::PeerDescription;
use capnp_threads::transport::unix;
use capnp_threads::{ConnConfig, Connection, FromClient, ServeConfig, Vat};
use rpc_schema::greeter_capnp::greeter;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Greets with a greeting of its own, which is its state.
struct Greeter {
    greeting: String,
}

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> capnp_threads::Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("{}, {name}!", self.greeting));
        Ok(())
    }
}

impl Savable for Greeter {
    fn kind(&self) -> &'static str {
        "greeter"
    }

    fn state(&self) -> capnp_threads::Result<Vec<u8>> {
        Ok(self.greeting.clone().into_bytes())
    }
}

/// Serves everybody who comes to a socket, until the process is killed.
fn serve(folder: &Path) -> Result<()> {
    let vat = Vat::new();
    let persistence = Persistence::builder(&vat, FolderStore::open(folder.join("store"))?)
        .kind("greeter", |persistence, state| {
            let greeting = String::from_utf8(state.to_vec())?;
            let greeter: greeter::Client = persistence.export(Greeter { greeting });
            Ok(greeter.into_client())
        })
        .build();
    let exports = NamedExports::new();
    let greeter: greeter::Client =
        persistence.export(Greeter { greeting: "Good evening".to_owned() });
    exports.export("greeter", greeter);

    let listener = unix::Listener::bind(folder.join("socket"))?;
    println!("ready");
    let config = ServeConfig::new(move |peer| {
        // Every peer gets a restorer of its own; the system says who the peer is.
        let restorer = persistence.restorer(owner(peer));
        Ok(ConnConfig::new().bootstrap(restorer).restorer(exports.clone()))
    });
    Ok(vat.serve(&listener, config)?)
}

/// The owner that a peer is; none where the system does not say who the peer is.
fn owner(peer: &PeerDescription) -> Option<Owner> {
    peer.credentials.map(|process| Owner::new(format!("user {}", process.uid)))
}

/// A server process, which is killed and not asked to end.
struct Server(Child);

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).arg(folder).stdout(Stdio::piped()).spawn()?;
        let ready = child.stdout.take().ok_or("the output was piped")?;
        let server = Server(child);
        BufReader::new(ready).read_line(&mut String::new())?;
        Ok(server)
    }

    fn connect(vat: &Vat, folder: &Path) -> Result<Connection> {
        Ok(vat.connect(unix::connect(folder.join("socket"))?, ConnConfig::new())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("the server could not be killed: {error}");
        }
    }
}

fn greet(greeter: &greeter::Client) -> Result<()> {
    let mut request = greeter.greet_request();
    request.get().set_name("Grace");
    println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);
    Ok(())
}

fn run(folder: &Path) -> Result<()> {
    let vat = Vat::new();
    let server = Server::start(folder)?;
    let connection = Server::connect(&vat, folder)?;
    let greeter: greeter::Client = connection.restore("greeter");
    greet(&greeter)?;
    // As the server will know us; see `owner`.
    let own = connection.peer().credentials.map(|process| process.uid);
    let own = Owner::new(format!("user {}", own.ok_or("who we are is known on Linux only")?));
    let reference = capnp_threads::persist::save(&greeter, Some(&own))?;
    println!("saved; the server is killed");
    drop(server);

    let _server = Server::start(folder)?;
    let connection = Server::connect(&vat, folder)?;
    let restorer: restorer::Client = connection.bootstrap();
    let mut request = restorer.restore_request();
    reference.write(request.get().init_ref());
    // The promise of the object is good enough to call it.
    let restored = request.send();
    greet(&greeter::Client::from_client(restored.pipeline().get_object().as_cap()))?;

    let mut request = restorer.revoke_request();
    reference.write(request.get().init_ref());
    request.call()?;
    let mut request = restorer.restore_request();
    reference.write(request.get().init_ref());
    match request.call() {
        Ok(_) => Err("it was revoked".into()),
        Err(error) => {
            println!("revoked: {}", error.reason());
            Ok(())
        }
    }
}

fn main() -> Result<()> {
    if let Some(folder) = std::env::args_os().nth(1) {
        return serve(Path::new(&folder));
    }
    let folder = std::env::temp_dir().join(format!("persistent-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = run(&folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}
