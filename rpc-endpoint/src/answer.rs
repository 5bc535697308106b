//! Answering a peer that dials.

use std::io::{BufReader, IoSlice};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use capnp_threads_transport::VatId;

use super::address::EndpointAddress;
use super::deadline::Deadline;
use super::link::Link;
use super::network::Shared;
use super::parameters::Dialect;
use super::reader::Input;
use super::socket::Socket;
use super::stream;
use super::wire::{self, Hello, Introduction, Reply, WireError};

/// The number of handshakes that one socket may begin. After one in an unknown version
/// the dialler is told which version to use instead.
const ATTEMPTS: usize = 3;

/// Lets a socket introduce itself, and serves it if it is accepted.
pub(super) fn run(network: &Arc<Shared>, socket: &Arc<Socket>, ip: IpAddr, ticket: u64) {
    let deadline = Deadline::after(network.parameters.connect_timeout);
    let mut input = Input::until(socket.clone(), deadline);
    let hello = match network.prove_dialler(socket, deadline) {
        Ok(vat) => {
            introduction(network, &mut input, socket).map(|hello| hello.map(|hello| (vat, hello)))
        }
        Err(error) => {
            network.notes.add(|| format!("a dial from {ip} was turned away: {error}"));
            Ok(None)
        }
    };
    network.introduced(ticket);
    // A peer that does not introduce itself gets no answer.
    let accepted = match hello {
        Ok(Some((vat, hello))) => settle(network, &hello, vat, socket, ip, deadline)
            .map(|link| (link, hello.kind.dialect())),
        Ok(None) | Err(_) => None,
    };
    match accepted {
        Some((link, dialect)) => stream::serve(&link, dialect, input),
        None => socket.shut(),
    }
}

fn introduction(
    network: &Shared,
    input: &mut BufReader<Input>,
    socket: &Socket,
) -> Result<Option<Hello>, WireError> {
    for _ in 0..ATTEMPTS {
        match wire::read_introduction(input, network.wire_limits())? {
            Introduction::Hello(hello) => return Ok(Some(hello)),
            Introduction::Unsupported(version) => {
                answer(socket, &Reply::UnsupportedVersion(version))?;
            }
        }
    }
    Ok(None)
}

/// Decides what a dial gets. What is not accepted is answered here; an acceptance
/// is the first that the link's writer writes.
fn settle(
    network: &Arc<Shared>,
    hello: &Hello,
    vat: Option<VatId>,
    socket: &Arc<Socket>,
    ip: IpAddr,
    deadline: Deadline,
) -> Option<Arc<Link>> {
    let refuse = |reply: &Reply| {
        // It does not matter to us whether the peer learns of it.
        let _ = answer(socket, reply);
        None
    };
    let local = network.local(hello.endpoint);
    let Some(local) = local.filter(|local| !local.is_closed()) else {
        return refuse(&Reply::Invalid);
    };
    let from = match &hello.from {
        // A name that nobody can claim, because it is no address.
        None => EndpointAddress::nowhere(vat, &format!("undialable-{}", network.next_ticket())),
        Some(from) => match from.parts() {
            None => return refuse(&Reply::Invalid),
            Some(parts) if parts.vat != vat => {
                // An address with a vat is that vat's, and nobody else's.
                network.notes.add(|| match vat {
                    Some(vat) => {
                        format!("a dial from {ip} was refused: {vat} claims the address {from}")
                    }
                    None => {
                        format!("a dial from {ip} was refused: it proves nothing and claims {from}")
                    }
                });
                return refuse(&Reply::Invalid);
            }
            Some(parts) => {
                if network.parameters.check_peer_host && !is_at(parts.host, ip) {
                    return refuse(&mismatch(hello.kind.dialect(), parts.host, ip));
                }
                from.clone()
            }
        },
    };
    let turned_away = |reason: &str| {
        network.notes.add(|| format!("a dial of {from} from {ip} was turned away: {reason}"));
    };
    if local.events.len() >= network.parameters.max_events_in_all {
        turned_away("the program does not receive the events that wait");
        return None;
    }
    let place = network.place(ip).map_err(turned_away).ok()?;
    match local.arrive(&from, hello.kind, socket, place, deadline) {
        Some(link) => Some(link),
        None if local.is_closed() => refuse(&Reply::Invalid),
        None => refuse(&Reply::Crossed),
    }
}

/// Whether a host is at the address from which it dials.
fn is_at(host: &str, ip: IpAddr) -> bool {
    let addresses = (host, 0).to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| address.ip().to_canonical() == ip.to_canonical())
}

fn mismatch(dialect: Dialect, claimed: &str, ip: IpAddr) -> Reply {
    if dialect == Dialect::Original {
        return Reply::Invalid;
    }
    let numeric = ip.to_canonical().to_string();
    Reply::HostMismatch { claimed: claimed.to_owned(), resolved: numeric.clone(), numeric }
}

fn answer(socket: &Socket, reply: &Reply) -> Result<(), WireError> {
    // It is short, and nothing else waits in the socket.
    Ok(socket.write_all(&mut [IoSlice::new(&wire::encode_reply(reply))])?)
}
