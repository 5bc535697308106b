//! A server and a client, two processes, that prove to each other who they are with
//! certificates.
//!
//! An authority is made for the occasion, and certificates of it for both sides, as `openssl`
//! or any other tool makes them. The server greets clients by the name in their certificate.
//! A client of another authority is refused.
//!
//! ```text
//! cargo run --example tls
//! ```

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use capnp_threads::transport::tls::{Authorities, Certificate, TlsClient, TlsServer};
use capnp_threads::{ConnConfig, Result, ServeConfig, Vat};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rpc_schema::greeter_capnp::greeter;

/// What one client is offered.
struct Greeter {
    name: String,
}

impl greeter::Server for Greeter {
    fn greet(&self, _: greeter::GreetParams, mut results: greeter::GreetResults) -> Result<()> {
        results.get().set_greeting(format!("Good evening, {}.", self.name));
        Ok(())
    }
}

/// The server, in a process of its own. It prints its port, and serves until it is killed.
fn serve(folder: &Path) -> std::result::Result<(), Box<dyn Error>> {
    let file = |name: &str| folder.join(name);
    let own = Certificate::from_pem_files(file("server.pem"), file("server.key"))?;
    let clients = Authorities::from_pem_file(file("authority.pem"))?;
    let listener = TlsServer::mutual(&own, &clients)?.listen(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr().port());
    let vat = Vat::new();
    let config = ServeConfig::new(move |peer| {
        let identity = peer.identity.as_ref();
        let name = identity.and_then(|identity| identity.common_name.clone());
        let name = name.unwrap_or_else(|| "whoever you are".to_owned());
        let greeter: greeter::Client = vat.export(Greeter { name });
        Ok(ConnConfig::new().bootstrap(greeter))
    });
    Ok(Vat::new().serve(&listener, config)?)
}

/// A client, with a certificate in these files.
fn call(folder: &Path, name: &str, port: u16) -> std::result::Result<String, Box<dyn Error>> {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let own = Certificate::from_pem_files(file("pem"), file("key"))?;
    let servers = Authorities::from_pem_file(folder.join("authority.pem"))?;
    let transport = TlsClient::mutual(&servers, &own)?.connect("localhost", port)?;
    let connection = Vat::new().connect(transport, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    let response = greeter.greet_request().call()?;
    let greeting = response.get()?.get_greeting()?.to_str()?.to_owned();
    connection.close();
    Ok(greeting)
}

/// Makes an authority, and certificates for these names. Returns the authority's.
fn make_certificates(folder: &Path, names: &[&str]) -> std::result::Result<String, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([])?;
    // Authorities are told apart by their names.
    params.distinguished_name.push(DnType::CommonName, format!("the authority of {names:?}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    for name in names {
        let mut params = CertificateParams::new(["localhost".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, *name);
        let key = KeyPair::generate()?;
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        let certificate = params.signed_by(&key, &issuer)?;
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    }
    Ok(authority)
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

fn main() -> std::result::Result<(), Box<dyn Error>> {
    if let Some(folder) = env::args_os().nth(1) {
        return serve(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // Mallory has a certificate of an authority that only Mallory believes.
    make_certificates(folder, &["Mallory"])?;
    let authority = make_certificates(folder, &["server", "Grace"])?;
    std::fs::write(folder.join("authority.pem"), authority)?;

    let mut server =
        Command::new(env::current_exe()?).arg(folder).stdout(Stdio::piped()).spawn()?;
    let output = server.stdout.take().ok_or("the server's output was asked for")?;
    let _server = Server(server);
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port)?;
    let port = port.trim().parse()?;

    println!("{}", call(folder, "Grace", port)?);
    match call(folder, "Mallory", port) {
        Ok(greeting) => return Err(format!("Mallory was let in: {greeting}").into()),
        Err(_) => println!("Mallory was refused."),
    }
    Ok(())
}
