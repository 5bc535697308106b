//! Ways to servers, and the places where clients are waited for.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use capnp_threads_transport::tls::{self, TlsVat, VatKey};
use capnp_threads_transport::{Address, Listener, Transport};

use crate::failure::{Failure, Result};

/// Where a server is: an address, or those of a vat with a key, which are tried in turn.
#[derive(Clone, Debug)]
pub(crate) struct Destination(Vec<Address>);

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("tls:") {
            return text.parse().map(|address| Destination(vec![address])).map_err(display);
        }
        let vat: TlsVat = text.parse().map_err(display)?;
        match vat.hints() {
            [] => Err("it does not say where the vat is; write tls:VATID@host:port".to_owned()),
            hints => Ok(Destination(hints.to_vec())),
        }
    }
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Who this side is for vats with keys.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Identity {
    /// The file with the key by which vats with keys (`tls:VATID@host:port`) know this side:
    /// see `capnp-threads key`. Without it there is a new key that nobody knows
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Identity {
    /// The key, if one is needed.
    fn key(&self) -> io::Result<VatKey> {
        match &self.key {
            Some(file) => VatKey::load(file),
            None => VatKey::generate(),
        }
    }

    /// Connects to a server, at each of its addresses within this time.
    pub(crate) fn connect(&self, to: &Destination, timeout: Option<Duration>) -> Result<Transport> {
        let mut failure = Failure::command("there is no address");
        for address in &to.0 {
            match self.connect_to(address, timeout) {
                Ok(transport) => return Ok(transport),
                Err(one) => failure = one,
            }
        }
        Err(failure)
    }

    fn connect_to(&self, address: &Address, timeout: Option<Duration>) -> Result<Transport> {
        let connected = match (address, timeout) {
            (Address::Tls { .. }, timeout) => {
                let key = self.key().map_err(Failure::command)?;
                match timeout {
                    Some(timeout) => key.connect_timeout(address, timeout),
                    None => key.connect(address),
                }
            }
            (_, Some(timeout)) => address.connect_timeout(timeout),
            (_, None) => address.connect(),
        };
        connected.map_err(Failure::connection)
    }

    /// Waits for clients at an address; at one with `tls:`, as the vat with the key.
    pub(crate) fn listen(&self, address: &Address) -> Result<Entrance> {
        let Address::Tls { .. } = address else {
            return address.listen().map(Entrance::Open).map_err(Failure::connection);
        };
        if self.key.is_none() {
            return Err(Failure::command(format_args!(
                "to listen at {address}, name the file with its key: --key FILE"
            )));
        }
        let key = self.key().map_err(Failure::command)?;
        let listener = key.listen(address).map_err(|error| match error.kind() {
            // Of another vat.
            io::ErrorKind::InvalidInput => Failure::command(error),
            _ => Failure::connection(error),
        })?;
        let address = key.address(listener.local_addr());
        Ok(Entrance::WithKey(listener, address))
    }
}

/// Where clients are waited for.
pub(crate) enum Entrance {
    /// Anybody may come.
    Open(Listener),
    /// Clients have keys, and learn that they have reached this address.
    WithKey(tls::Listener, Address),
}

impl Entrance {
    /// The address, with the port that the system chose.
    pub(crate) fn address(&self) -> Result<Address> {
        match self {
            Entrance::Open(listener) => listener.local_address().map_err(Failure::connection),
            Entrance::WithKey(_, address) => Ok(address.clone()),
        }
    }

    /// Waits for the next client.
    pub(crate) fn accept(&self) -> io::Result<Transport> {
        match self {
            Entrance::Open(listener) => listener.accept(),
            Entrance::WithKey(listener, _) => listener.accept(),
        }
    }
}
