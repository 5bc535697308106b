//! Addresses that are written as text and cover all kinds of sockets.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use capnp_threads_core::transport::{Transport, VatId};
use thiserror::Error;

use crate::accept::{self, Closer};
use crate::failure;
use crate::tcp::{self, TcpOptions};
#[cfg(unix)]
use crate::unix;

mod inherited;

/// Where a server is.
///
/// | text | meaning |
/// |---|---|
/// | `host:port` | TCP; the host is a name or an IPv4 address |
/// | `[::1]:port` | TCP over IPv6 |
/// | `*:port` | to listen at every address of this machine |
/// | `tls:VATID@host:port` | the vat with this id, at a TCP port; over TLS, see `tls::VatKey` |
/// | `unix:/path` | a Unix socket; the path may be relative |
/// | `unix-abstract:name` | a Unix socket in the abstract namespace of Linux |
///
/// Port 0 is for listening: the system chooses a port.
///
/// ```
/// use capnp_threads_transport::Address;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = "127.0.0.1:0".parse::<Address>()?.listen()?;
/// let address = listener.local_address()?;
/// let transport = address.connect()?;
/// # drop(transport);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP port.
    Tcp {
        /// A name, an IP address without brackets, or `*`.
        host: String,
        /// The port's number.
        port: u16,
    },
    /// A vat that proves who it is, at a TCP port.
    Tls {
        /// The vat.
        vat: VatId,
        /// A name, an IP address without brackets, or `*`.
        host: String,
        /// The port's number.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The name of a Unix socket in the abstract namespace.
    UnixAbstract(String),
}

/// Why a text is not an [`Address`]. `Debug` prints it for people, too, because that is
/// how an error is printed that `main` returns.
#[derive(Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not an address: {problem}; write host:port, [::1]:port, *:port, \
     tls:VATID@host:port, unix:/path or unix-abstract:name"
)]
pub struct ParseAddressError {
    text: String,
    problem: &'static str,
}

impl fmt::Debug for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| ParseAddressError { text: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err("the path is missing"),
            _ if path.contains('\0') => Err("a path has no NUL character"),
            _ => Ok(Address::Unix(path.into())),
        };
    }
    if let Some(name) = text.strip_prefix("unix-abstract:") {
        return match name {
            "" => Err("the name is missing"),
            _ if name.contains('\0') => Err("a name has no NUL character"),
            _ => Ok(Address::UnixAbstract(name.to_owned())),
        };
    }
    if let Some(rest) = text.strip_prefix("tls:") {
        let (vat, rest) = rest.split_once('@').ok_or("the id of the vat is missing")?;
        let vat = vat.parse().map_err(|_| "the id of a vat has 64 hexadecimal digits")?;
        let (host, port) = parse_port(rest)?;
        return Ok(Address::Tls { vat, host, port });
    }
    let (host, port) = parse_port(text)?;
    Ok(Address::Tcp { host, port })
}

fn parse_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let host = if let Some(rest) = host.strip_prefix('[') {
        let host = rest.strip_suffix(']').ok_or("the bracket is not closed before the port")?;
        // The scope of a link-local address is looked at when connecting.
        let number = host.split_once('%').map_or(host, |(number, _)| number);
        number.parse::<Ipv6Addr>().map_err(|_| "what is in brackets is not an IPv6 address")?;
        host
    } else if host.contains(':') {
        return Err("an IPv6 address needs brackets");
    } else if host.is_empty() {
        return Err("the host is missing");
    } else if host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']' | '@')) {
        return Err("the host has a character that names do not have");
    } else {
        host
    };
    // `parse` alone would take a sign.
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { port.parse().ok() } else { None };
    let port = port.ok_or("the port is not a number up to 65535")?;
    Ok((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Tls { vat, host, port } if host.contains(':') => {
                write!(f, "tls:{vat}@[{host}]:{port}")
            }
            Address::Tls { vat, host, port } => write!(f, "tls:{vat}@{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::UnixAbstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp { host: host_of(address), port: address.port() }
    }
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// The host that stands for every address of this machine.
const EVERYWHERE: &str = "*";

impl Address {
    /// The address of a vat that listens at a socket.
    pub fn tls(vat: VatId, socket: SocketAddr) -> Self {
        Address::Tls { vat, host: host_of(socket), port: socket.port() }
    }

    /// Connects to the server with the default options. May block for as long as the
    /// system keeps trying.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] if nobody listens there; otherwise as for
    /// [`tcp::connect`] and [`unix::connect`]. The error says which address it is about.
    pub fn connect(&self) -> io::Result<Transport> {
        self.connect_with(&TcpOptions::new(), None)
    }

    /// Connects to the server within `timeout`.
    ///
    /// # Errors
    /// As for [`tcp::connect_timeout`] and [`unix::connect_timeout`].
    pub fn connect_timeout(&self, timeout: Duration) -> io::Result<Transport> {
        self.connect_with(&TcpOptions::new(), Some(timeout))
    }

    /// Connects to the server with options for the case that it is a TCP port.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect) and
    /// [`connect_timeout`](Self::connect_timeout).
    pub fn connect_with(
        &self,
        options: &TcpOptions,
        timeout: Option<Duration>,
    ) -> io::Result<Transport> {
        match (self, timeout) {
            (Address::Tcp { host, .. }, _) if host == EVERYWHERE => {
                let reason = "\"*\" is for listening; to connect, name one host";
                let error = io::Error::new(io::ErrorKind::InvalidInput, reason);
                Err(failure::connecting(self, error))
            }
            (Address::Tcp { host, port }, timeout) => {
                let found = look_up(host, *port).map_err(|e| failure::connecting(self, e))?;
                match timeout {
                    None => options.connect(&found[..]),
                    Some(timeout) => options.connect_timeout(&found[..], timeout),
                }
            }
            (Address::Tls { .. }, _) => {
                Err(failure::connecting(self, needs_key("tls::VatKey::connect")))
            }
            #[cfg(unix)]
            (Address::Unix(path), None) => unix::connect(path),
            #[cfg(unix)]
            (Address::Unix(path), Some(timeout)) => unix::connect_timeout(path, timeout),
            #[cfg(unix)]
            (Address::UnixAbstract(name), None) => unix::connect_abstract(name),
            #[cfg(unix)]
            (Address::UnixAbstract(name), Some(timeout)) => {
                unix::connect_abstract_timeout(name, timeout)
            }
            #[cfg(not(unix))]
            (Address::Unix(_) | Address::UnixAbstract(_), _) => {
                Err(failure::connecting(self, no_unix_sockets()))
            }
        }
    }

    /// Listens at this address with the default options.
    ///
    /// # Errors
    /// As for [`tcp::Listener::bind`] and [`unix::Listener::bind`]. The error says which
    /// address it is about.
    pub fn listen(&self) -> io::Result<Listener> {
        self.listen_with(&TcpOptions::new())
    }

    /// Listens at this address with options for the case that it is a TCP port.
    ///
    /// # Errors
    /// As for [`listen`](Self::listen).
    pub fn listen_with(&self, options: &TcpOptions) -> io::Result<Listener> {
        Ok(match self {
            Address::Tcp { host, port } => Listener::Tcp(listen_tcp(host, *port, options)?),
            Address::Tls { .. } => {
                return Err(failure::listening(self, needs_key("tls::VatKey::listen")));
            }
            #[cfg(unix)]
            Address::Unix(path) => Listener::Unix(unix::Listener::bind(path)?),
            #[cfg(unix)]
            Address::UnixAbstract(name) => Listener::Unix(unix::Listener::bind_abstract(name)?),
            #[cfg(not(unix))]
            Address::Unix(_) | Address::UnixAbstract(_) => {
                return Err(failure::listening(self, no_unix_sockets()));
            }
        })
    }
}

#[cfg(not(unix))]
fn no_unix_sockets() -> io::Error {
    let reason = "this library has no Unix sockets on this system; use a TCP port";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

fn needs_key(method: &str) -> io::Error {
    let reason = format!("this side needs a key of its own for that; use {method}");
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// Listens at the address of a host, or at all of this machine's.
pub(crate) fn listen_tcp(host: &str, port: u16, options: &TcpOptions) -> io::Result<tcp::Listener> {
    if host == EVERYWHERE {
        return options.listen_everywhere(port);
    }
    let found = look_up(host, port)
        .map_err(|error| failure::listening(Address::Tcp { host: host.to_owned(), port }, error))?;
    options.listen(&found[..])
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Waits for clients at any kind of address.
///
/// ```no_run
/// # fn serve(transport: capnp_threads_transport::Transport) {}
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = "*:7000".parse::<capnp_threads_transport::Address>()?.listen()?;
/// for client in listener.incoming() {
///     match client {
///         Ok(transport) => serve(transport),
///         Err(error) => eprintln!("a client could not be accepted: {error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub enum Listener {
    /// At a TCP port.
    Tcp(tcp::Listener),
    /// At a Unix socket.
    #[cfg(unix)]
    Unix(unix::Listener),
}

impl Listener {
    /// Waits for the next client.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] after a [`Closer`] closed this listener.
    /// Every other error concerns one connection, or a lack of resources that
    /// may pass: report it and call this again. After a lack of resources the
    /// next call pauses for 100 ms first, so that a loop does not spin.
    pub fn accept(&self) -> io::Result<Transport> {
        match self {
            Listener::Tcp(listener) => listener.accept(),
            #[cfg(unix)]
            Listener::Unix(listener) => listener.accept(),
        }
    }

    /// What [`accept`](Self::accept) returns, again and again until the listener
    /// is closed.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<Transport>> {
        let closer = self.closer();
        std::iter::from_fn(move || {
            let outcome = self.accept();
            if outcome.is_err() && closer.is_closed() { None } else { Some(outcome) }
        })
    }

    /// The address at which clients on this machine reach this listener; a port
    /// that the system chose is filled in.
    ///
    /// # Errors
    /// Those of the operating system; [`io::ErrorKind::Unsupported`] for an inherited
    /// Unix socket that has neither a path nor a name.
    pub fn local_address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => Ok(listener.local_addr()?.into()),
            #[cfg(unix)]
            Listener::Unix(listener) => address_of(listener),
        }
    }

    /// A handle that closes this listener from any thread.
    pub fn closer(&self) -> Closer {
        match self {
            Listener::Tcp(listener) => listener.closer(),
            #[cfg(unix)]
            Listener::Unix(listener) => listener.closer(),
        }
    }
}

#[cfg(unix)]
fn address_of(listener: &unix::Listener) -> io::Result<Address> {
    if let Some(path) = listener.local_path()? {
        return Ok(Address::Unix(path));
    }
    let name = listener.local_abstract_name()?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "this Unix socket has no name")
    })?;
    Ok(Address::UnixAbstract(name))
}

accept::listens!(Listener);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{self, TemporaryDirectory};

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    const VAT: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn tls(host: &str) -> Address {
        Address::Tls { vat: VAT.parse().unwrap(), host: host.to_owned(), port: 7000 }
    }

    #[test]
    fn the_vat_of_an_address_is_reached_with_a_key() {
        for error in [tls("localhost").connect().err(), tls("localhost").listen().err()] {
            let error = error.unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("use tls::VatKey::"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_refused_or_is_that_of_its_address(rest in "[0-9a-f@:*.%\\[\\]]{0,90}") {
            for start in ["", "tls:", "unix:", &format!("tls:{VAT}@")] {
                let text = format!("{start}{rest}");
                if let Ok(address) = text.parse::<Address>() {
                    let again = address.to_string().parse::<Address>();
                    proptest::prop_assert_eq!(again, Ok(address));
                }
            }
        }
    }

    #[test]
    fn addresses_are_parsed_and_printed() {
        for (text, address) in [
            ("localhost:7000", tcp("localhost", 7000)),
            ("10.0.0.1:0", tcp("10.0.0.1", 0)),
            ("0.0.0.0:65535", tcp("0.0.0.0", 65535)),
            ("*:7000", tcp("*", 7000)),
            ("[::1]:7000", tcp("::1", 7000)),
            ("[::]:7000", tcp("::", 7000)),
            ("[fe80::1%2]:7000", tcp("fe80::1%2", 7000)),
            (&*format!("tls:{VAT}@localhost:7000"), tls("localhost")),
            (&*format!("tls:{VAT}@[::1]:7000"), tls("::1")),
            ("unix:/run/a b:c", Address::Unix("/run/a b:c".into())),
            ("unix:relative", Address::Unix("relative".into())),
            ("unix-abstract:a b:c", Address::UnixAbstract("a b:c".into())),
        ] {
            assert_eq!(text.parse::<Address>().unwrap(), address);
            assert_eq!(address.to_string(), text);
        }
        for socket in ["127.0.0.1:80", "[::1]:80", "[fe80::1%2]:80"] {
            let address = Address::from(socket.parse::<SocketAddr>().unwrap());
            assert_eq!(address.to_string(), socket);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, problem) in [
            ("", "the port is missing"),
            ("localhost", "the port is missing"),
            ("localhost:", "the port is not a number"),
            ("localhost:http", "the port is not a number"),
            ("localhost:+80", "the port is not a number"),
            ("localhost:65536", "the port is not a number"),
            (":7000", "the host is missing"),
            ("::1:7000", "needs brackets"),
            ("[::1:7000", "the bracket is not closed"),
            ("[::1]", "the bracket is not closed"),
            ("[localhost]:7000", "not an IPv6 address"),
            ("[]:7000", "not an IPv6 address"),
            ("tcp://host:7000", "needs brackets"),
            ("some host:7000", "a character that names do not have"),
            ("/path:7000", "a character that names do not have"),
            ("tls:localhost:7000", "the id of the vat is missing"),
            ("tls:@localhost:7000", "64 hexadecimal digits"),
            (&*format!("tls:{}@localhost:7000", &VAT[1..]), "64 hexadecimal digits"),
            (&*format!("tls:{VAT}@localhost"), "the port is missing"),
            (&*format!("tls:{VAT}@[::1:1"), "the bracket is not closed"),
            (&*format!("tls:{VAT}@a@b:1"), "a character that names do not have"),
            ("unix:", "the path is missing"),
            ("unix:a\0b", "no NUL character"),
            ("unix-abstract:", "the name is missing"),
            ("unix-abstract:a\0b", "no NUL character"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(format!("{error:?}"), error.to_string());
            let error = error.to_string();
            assert!(error.contains(problem) && error.contains("write host:port"), "{error}");
        }
    }

    #[test]
    fn servers_are_reached_at_their_local_address() {
        let directory = TemporaryDirectory::new("address");
        let path = format!("unix:{}", directory.file("socket").display());
        let name = format!("unix-abstract:rpc-transport-{}", std::process::id());
        for text in ["127.0.0.1:0", "localhost:0", "[::1]:0", "*:0", &path, &name] {
            let listener = text.parse::<Address>().unwrap().listen().unwrap();
            let address = listener.local_address().unwrap();
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            let client = address.connect().unwrap();
            testing::check_connected(client, listener.accept().unwrap());
            let client = address.connect_timeout(Duration::from_secs(60)).unwrap();
            testing::check_connected(client, listener.accept().unwrap());
        }
    }

    #[test]
    fn connecting_to_everywhere_is_refused() {
        let error = "*:7000".parse::<Address>().unwrap().connect().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn incoming_ends_when_the_listener_is_closed() {
        let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
        let address = listener.local_address().unwrap();
        let closer = listener.closer();
        let (send, accepted) = std::sync::mpsc::channel();
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                send.send(client.unwrap()).unwrap();
            }
        });
        for _ in 0..3 {
            let client = address.connect().unwrap();
            testing::check_connected(client, accepted.recv().unwrap());
        }
        closer.close();
        accepting.join().unwrap();
        assert!(accepted.recv().is_err());
    }
}
