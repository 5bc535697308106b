//! Dialling a peer.

use std::io::{self, BufReader, IoSlice};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use capnp_threads_transport::is_exhaustion;

use super::address::{EndpointAddress, EndpointId};
use super::deadline::Deadline;
use super::error::{ConnectErrorCode, Unreached};
use super::link::Link;
use super::machine::Dialled;
use super::parameters::Dialect;
use super::reader::Input;
use super::socket::Socket;
use super::stream;
use super::wire::{self, DialectTerms, Hello, Reply, WireError};

/// Dials on a thread of its own, which then serves the socket.
pub(super) fn spawn(link: &Arc<Link>, dialect: Dialect, deadline: Deadline) {
    let dialler = link.clone();
    // A dial can be stuck in the system, so that it is not waited for.
    let started = thread::Builder::new()
        .name("endpoint-dial".into())
        .spawn(move || run(&dialler, dialect, deadline));
    if let Err(error) = started {
        link.dial_failed(&exhausted(&error), deadline);
    }
}

// Note [dialling again]
//
// A peer that has not yet noticed that our last socket is gone answers that our dial
// has crossed one of its own, although it is not dialling. So a dial that has crossed
// is repeated until a dial of either side succeeds. Where there was a crossing, this
// makes no second connection: a peer that is connected, or whose own dial is to win,
// answers again that ours has crossed.

/// The first and the longest pause before dialling again, in which the peer may dial. It
/// doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

fn run(link: &Arc<Link>, dialect: Dialect, deadline: Deadline) {
    let mut pause = FIRST_PAUSE;
    loop {
        match dial(link, dialect, deadline) {
            Ok(Answer::Accepted { terms, input, socket }) => {
                if link.dial_accepted(terms, &socket) {
                    serve(link, terms.dialect(), input);
                } else {
                    socket.shut();
                }
                return;
            }
            Ok(Answer::Crossed) => {
                let until = deadline.min(Deadline::after(pause));
                if link.dial_crossed(until) == Dialled::Done {
                    return;
                }
                if until == deadline {
                    let reason = "the peer answered that it is connecting or connected to us, but \
                                  it did not come; it may hold an old connection for alive";
                    let error = Unreached::new(ConnectErrorCode::Timeout, reason);
                    link.dial_given_up(&error);
                    return;
                }
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            Ok(Answer::Needless) => return,
            Err(error) => {
                link.dial_failed(&error, deadline);
                return;
            }
        }
    }
}

/// From here on the thread is waited for when the network is closed.
fn serve(link: &Arc<Link>, dialect: Dialect, input: BufReader<Input>) {
    let (server, network) = (link.clone(), link.local.network.clone());
    let serving = network.spawn("endpoint-read", move || stream::serve(&server, dialect, input));
    if let Err(error) = serving {
        link.broken(&format!("there is no thread for the socket: {error}"));
    }
}

enum Answer {
    Accepted {
        terms: DialectTerms,
        input: BufReader<Input>,
        socket: Arc<Socket>,
    },
    Crossed,
    /// The dial was given up, because the link was decided without it.
    Needless,
}

fn dial(link: &Arc<Link>, dialect: Dialect, deadline: Deadline) -> Result<Answer, Unreached> {
    let network = &link.local.network;
    if dialect == Dialect::Original && !network.is_dialable() {
        return Err(Unreached::failed(
            "in the original dialect, peers must be able to dial this network",
        ));
    }
    let Some(parts) = link.address.parts() else {
        return Err(no_parts(&link.address));
    };
    if deadline.has_passed() {
        return Err(Unreached::timeout());
    }
    let socket = Socket::new(open(link, parts.host, parts.port, deadline)?);
    network.prove_dialled(&socket, parts.vat, deadline).map_err(|error| {
        if error.kind() == io::ErrorKind::TimedOut {
            return Unreached::timeout();
        }
        network.notes.add(|| format!("{} was not reached: {error}", link.address));
        Unreached::failed(&error)
    })?;
    let mut input = Input::until(socket.clone(), deadline);
    let mut dialect = dialect;
    loop {
        let Some(terms) = introduce(link, parts.endpoint, dialect, &socket)? else {
            return Ok(Answer::Needless);
        };
        let limits = network.wire_limits();
        match wire::read_reply(&mut input, dialect, limits).map_err(failed)? {
            Reply::Accepted(theirs) => {
                let terms = theirs.map_or(terms, DialectTerms::Multiplexed);
                return Ok(Answer::Accepted { terms, input, socket });
            }
            Reply::Crossed => return Ok(Answer::Crossed),
            Reply::Invalid => {
                return Err(Unreached::new(
                    ConnectErrorCode::NotFound,
                    "the peer has no such endpoint",
                ));
            }
            Reply::HostMismatch { claimed, numeric, resolved } => {
                return Err(Unreached::failed(&format!(
                    "the peer does not believe that we are {claimed:?}: it sees {numeric:?}, \
                     known as {resolved:?}; set Parameters::external_host"
                )));
            }
            Reply::UnsupportedVersion(0) if dialect == Dialect::Multiplexed => {
                dialect = Dialect::Versioned;
            }
            Reply::UnsupportedVersion(version) => {
                return Err(Unreached::failed(&format!(
                    "the peer only knows version {version:#x} of the protocol"
                )));
            }
        }
    }
}

/// Why an address cannot be dialled that has not three parts, or whose numbers are none.
fn no_parts(address: &EndpointAddress) -> Unreached {
    let mut parts = address.as_str().rsplitn(3, ':');
    let (endpoint, port, host) = (parts.next(), parts.next(), parts.next());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match (host, port, endpoint) {
        (Some(_), Some(port), Some(endpoint)) if !is_number(port) && is_number(endpoint) => {
            let reason = format!("there is no port {port:?}: ports are numbers here, not names");
            Unreached::new(ConnectErrorCode::NotFound, &reason)
        }
        _ => Unreached::failed("this is not an address; write host:port:endpoint"),
    }
}

/// Writes our introduction. What is returned are our own terms; `None` if it was
/// not needed any more.
fn introduce(
    link: &Link,
    endpoint: EndpointId,
    dialect: Dialect,
    socket: &Socket,
) -> Result<Option<DialectTerms>, Unreached> {
    let local = &link.local;
    let Some(terms) = link.dial_terms() else { return Ok(None) };
    let kind = match dialect {
        Dialect::Original => DialectTerms::Original,
        Dialect::Versioned => DialectTerms::Versioned,
        Dialect::Multiplexed => DialectTerms::Multiplexed(terms),
    };
    let from = local.network.is_dialable().then(|| local.address.clone());
    let hello = wire::encode_hello(&Hello { endpoint, from, kind });
    // It is short, and nothing else waits in the socket.
    socket.write_all(&mut [IoSlice::new(&hello)]).map_err(|error| Unreached::failed(&error))?;
    Ok(Some(kind))
}

/// Connects to the first of the host's addresses that answers.
fn open(link: &Link, host: &str, port: u16, deadline: Deadline) -> Result<TcpStream, Unreached> {
    let not_found = |error: &io::Error| Unreached::new(ConnectErrorCode::NotFound, error);
    let addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| not_found(&error))?.collect();
    let mut failure = Unreached::new(ConnectErrorCode::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let rest = deadline.remaining().unwrap_or(Duration::MAX);
        let attempts = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = rest / attempts;
        if share.is_zero() {
            return Err(Unreached::timeout());
        }
        match link.local.network.parameters.tcp.connect_stream(*address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) if is_exhaustion(&error) => return Err(exhausted(&error)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                failure = Unreached::timeout();
            }
            Err(error) => failure = not_found(&error),
        }
    }
    Err(failure)
}

fn exhausted(error: &io::Error) -> Unreached {
    Unreached::new(ConnectErrorCode::InsufficientResources, error)
}

fn failed(error: WireError) -> Unreached {
    match error {
        WireError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Unreached::timeout(),
        error => Unreached::failed(&error),
    }
}
