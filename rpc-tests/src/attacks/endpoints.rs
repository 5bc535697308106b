//! Peers of a network of endpoints, which carries many vats over one socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use capnp_threads_core::RpcSystem;
use capnp_threads_endpoint::EndpointNetwork;
use rpc_schema::echo_capnp::echo;

use super::{Attack, Bound, Ends, Seen, Siege};
use crate::support::LONG;
use crate::support::objects::Quick;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "endpoint-sessions",
        about: "begins sessions of 1500 vats over one socket",
        bounds: &[Bound::Sessions, Bound::EndpointMessages],
        ends: Ends::Untold,
        run: sessions,
    },
    Attack {
        name: "endpoint-connections",
        about: "opens connections of endpoints without end",
        bounds: &[Bound::EndpointConnections],
        ends: Ends::Untold,
        run: connections,
    },
    Attack {
        name: "endpoint-messages",
        about: "begins messages on many connections of endpoints, and ends none",
        bounds: &[Bound::EndpointMessages],
        ends: Ends::Untold,
        run: messages,
    },
    Attack {
        name: "endpoint-peers",
        about: "dials an endpoint as ever another peer",
        bounds: &[Bound::EndpointPeers],
        ends: Ends::Untold,
        run: peers,
    },
    Attack {
        name: "endpoint-handshakes",
        about: "connects to an endpoint and never introduces itself",
        bounds: &[Bound::HalfOpen],
        ends: Ends::Untold,
        run: handshakes,
    },
];

/// The vats that one peer claims to be.
const VATS: u64 = 1500;

/// A network that the vat under attack belongs to as well.
struct Victim {
    system: RpcSystem<EndpointNetwork>,
    host: (String, u16),
}

impl Victim {
    fn start(siege: &Siege) -> Self {
        let parameters = siege.sizes.endpoints.clone();
        let network = EndpointNetwork::listening("bob", "127.0.0.1", 0, parameters).unwrap();
        let address = network.this_vat().hints()[0].clone();
        let parts = address.parts().unwrap();
        let host = (parts.host.to_owned(), parts.port);
        let echo = echo::Client::from_server(Quick);
        let system = RpcSystem::builder(&siege.vat, network).bootstrap(echo).start().unwrap();
        Victim { system, host }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect((self.host.0.as_str(), self.host.1)).unwrap()
    }

    fn end(self) -> Seen {
        assert!(self.system.drain(LONG).unwrap(), "the network does not end");
        Seen::default()
    }
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A dial in the multiplexed dialect, by somebody who cannot be dialled.
fn dial(serial: u32) -> Vec<u8> {
    // Incarnation and serial, a window and a longest message without any limit.
    numbers(&[0x4D55_0001, 32, 0, 0, 0, 1, 0, serial, u32::MAX >> 1, u32::MAX >> 1])
}

/// Dials, and tells whether that was accepted.
fn introduce(stream: &mut TcpStream, serial: u32) -> bool {
    let mut reply = [0; 8];
    let heard = stream.write_all(&dial(serial)).and_then(|()| stream.read_exact(&mut reply));
    if heard.is_err() || reply[..4] != [0; 4] {
        return false;
    }
    let length = u32::from_be_bytes(reply[4..].try_into().unwrap());
    stream.read_exact(&mut vec![0; length as usize]).is_ok()
}

fn fragment(connection: u32, is_last: bool, bytes: &[u8]) -> Vec<u8> {
    let more = if is_last { 0 } else { 1 << 31 };
    [numbers(&[connection, bytes.len() as u32 | more]), bytes.to_vec()].concat()
}

/// Reads whatever comes, and reports the beginning of each message, up to the end.
fn reading(stream: &TcpStream) -> (mpsc::Receiver<Vec<u8>>, JoinHandle<()>) {
    let (heard, hear) = mpsc::channel();
    let mut stream = io::BufReader::new(stream.try_clone().unwrap());
    let thread = thread::spawn(move || while read_frame(&mut stream, &heard).is_ok() {});
    (hear, thread)
}

fn read_frame(stream: &mut impl Read, heard: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut number = || {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    };
    match number()? {
        0..=2 => number().map(drop),
        3..=5 => Ok(()),
        6 => number().and_then(|_| number()).map(drop),
        _ => {
            let length = number()? & (u32::MAX >> 1);
            let mut bytes = vec![0; length as usize];
            stream.read_exact(&mut bytes)?;
            // Nobody listens any more when the attack is over.
            let _ = heard.send(bytes);
            Ok(())
        }
    }
}

/// The first message of a session: some vat begins its half of a session with Bob.
fn half(number: u64) -> Vec<u8> {
    let mut bytes = b"RPC1\0\0\0\0".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend([0; 8]);
    for text in ["bob", &format!("vat-{number}")] {
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn sessions(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let _own = siege.own_with(2, 1);
    let mut stream = victim.connect();
    assert!(introduce(&mut stream, 1), "the dial was not accepted");
    let (hear, thread) = reading(&stream);
    let most = siege.sizes.endpoints.max_sessions_per_peer as u64;
    let mut begin = |number: u64| {
        let connection = 1023 + number as u32;
        let bytes = [numbers(&[0, connection]), fragment(connection, true, &half(number))].concat();
        stream.write_all(&bytes).is_ok()
    };
    let mut number = 0;
    while number < VATS && begin(number + 1) {
        number += 1;
    }
    // A vat that has much to tell a peer does not tell it of all refusals. When it has
    // told of the last one it has seen all of them.
    let is_last = |message: &[u8], number: u64| message.get(16..24) == Some(&number.to_be_bytes());
    'last: loop {
        number += 1;
        assert!(begin(number), "the peer was dropped");
        loop {
            match hear.recv_timeout(Duration::from_secs(1)) {
                Ok(message) if is_last(&message, number) => break 'last,
                Ok(_) => siege.look(),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("the peer was dropped"),
            }
        }
    }
    siege.look();
    assert!(victim.system.connection_count() as u64 <= most);
    siege.honest_goes_on();
    // The victim may have shut it already.
    let _ = stream.shutdown(Shutdown::Both);
    thread.join().unwrap();
    victim.end()
}

fn connections(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let _own = siege.own_with(2, 1);
    let mut stream = victim.connect();
    assert!(introduce(&mut stream, 1), "the dial was not accepted");
    let (_hear, thread) = reading(&stream);
    let count = 4 * siege.sizes.endpoints.max_connections as u32;
    for connection in 1024..1024 + count {
        if stream.write_all(&numbers(&[0, connection])).is_err() {
            break;
        }
        if connection % 512 == 0 {
            siege.look();
        }
    }
    siege.look();
    siege.honest_goes_on();
    // The victim has dropped it: it need not end the stream itself.
    thread.join().unwrap();
    victim.end()
}

fn messages(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let _own = siege.own_with(2, 1);
    let mut stream = victim.connect();
    assert!(introduce(&mut stream, 1), "the dial was not accepted");
    let (_hear, thread) = reading(&stream);
    let parameters = &siege.sizes.endpoints;
    // As much as it has credit for, on each connection.
    let fragments = parameters.receive_queue as usize / 65_536;
    let one = vec![7; 65_536 - 16];
    let connections = 2 * parameters.max_received / (fragments * one.len()) as u64;
    'all: for connection in (1024_u32..).take(connections as usize) {
        let mut bytes = numbers(&[0, connection]);
        for _ in 0..fragments {
            bytes.extend(fragment(connection, false, &one));
            if stream.write_all(&bytes).is_err() {
                break 'all;
            }
            bytes.clear();
        }
        siege.look();
    }
    siege.look();
    siege.honest_goes_on();
    thread.join().unwrap();
    victim.end()
}

fn peers(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let most = siege.sizes.endpoints.max_peers_per_host;
    let _own = siege.own_with(2 * most as u64, 0);
    let mut streams: Vec<TcpStream> = (0..2 * most).map(|_| victim.connect()).collect();
    let accepted = (1..).zip(&mut streams).filter_map(|(serial, stream)| {
        let is_accepted = introduce(stream, serial);
        siege.look();
        is_accepted.then_some(())
    });
    assert!(accepted.count() <= most, "too many peers of one host were accepted");
    siege.honest_goes_on();
    drop(streams);
    victim.end()
}

fn handshakes(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let most = siege.sizes.endpoints.max_half_open;
    let count = 8 * most;
    let _own = siege.own_with(count as u64, 0);
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = victim.connect();
        // A part of a handshake.
        let _ = stream.write_all(&[0x4D, 0x55]);
        streams.push(stream);
        siege.look();
    }
    siege.honest_goes_on();
    // The first of them are closed for the last ones.
    for stream in &streams[..most] {
        stream.set_nonblocking(true).unwrap();
        siege.until("a handshake to be given up", || {
            let mut stream = stream;
            let read = stream.read(&mut [0]);
            !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        });
        siege.look();
    }
    drop(streams);
    victim.end()
}
