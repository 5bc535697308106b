//! Bytes into a socket of a network of endpoints.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use capnp_threads_endpoint::{ConnectHints, Connection, Endpoint, Event, Network, Parameters};

use crate::support::{LONG, watchdog};

/// Whatever a peer writes to a network's socket, in whichever dialect it began: the socket is
/// given up when the peer is gone, its connections have ended, no more events and messages
/// have come than there were bytes for, and another endpoint is received from.
///
/// The first byte chooses a dialect in which the peer introduces itself, or that the others
/// are its introduction.
pub fn endpoint(bytes: &[u8]) {
    static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let stage = STAGE.get_or_init(|| Mutex::new(Stage::new()));
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let _doing = watchdog::doing("an attacked endpoint");
    stage.attack(&introduction(kind % 4), bytes);
    stage.look(bytes.len());
}

struct Stage {
    here: Endpoint,
    bystander: Connection,
    /// How often the bystander was received from.
    markers: u64,
    there: Endpoint,
    _network: Network,
}

/// Where nobody is; connections to it end with the socket.
const FROM: &[u8] = b"0:1:0";

fn introduction(kind: u8) -> Vec<u8> {
    let length = u32::try_from(FROM.len()).unwrap_or_default();
    let numbers = |numbers: &[u32]| -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    };
    // The first endpoint of the network is meant.
    match kind {
        0 => Vec::new(),
        1 => [&numbers(&[0, length])[..], FROM].concat(),
        2 => [&numbers(&[0, 8 + length, 0, length])[..], FROM].concat(),
        _ => {
            let begin = numbers(&[0x4d55_0001, 8 + length + 24, 0, length]);
            // Incarnation and serial, a window and the longest message.
            let terms = numbers(&[0, 1, 0, 1, 1 << 20, 1 << 20]);
            [&begin[..], FROM, &terms].concat()
        }
    }
}

impl Stage {
    fn new() -> Self {
        let mut parameters = Parameters::default();
        // The peer need not be where it says.
        parameters.check_peer_host = false;
        let network = Network::bind("127.0.0.1", 0, parameters).unwrap();
        let (here, there) = (network.new_endpoint().unwrap(), network.new_endpoint().unwrap());
        let bystander = there.connect(here.address(), ConnectHints::new()).unwrap();
        let opened = here.receive().unwrap();
        assert!(matches!(opened, Event::ConnectionOpened { .. }), "{opened:?}");
        Stage { here, bystander, markers: 0, there, _network: network }
    }

    fn attack(&self, introduction: &[u8], bytes: &[u8]) {
        let parts = self.here.address().parts().unwrap();
        let mut stream = TcpStream::connect((parts.host, parts.port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        // It may have been given up already.
        let _ = stream.write_all(introduction);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        // A network that does not give the socket up is what the watchdog tells of.
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// Receives what has come of it, up to what the bystander says.
    fn look(&mut self, bytes: usize) {
        self.markers += 1;
        let marker = self.markers.to_be_bytes();
        self.bystander.send(&[&marker]).unwrap();
        let (mut events, mut received) = (0, 0);
        let mut open = HashMap::new();
        let mut marked = false;
        while !marked || !open.is_empty() {
            let event = self.here.receive_timeout(LONG).unwrap();
            let event = event.unwrap_or_else(|| panic!("{open:?} do not end"));
            events += 1;
            match event {
                Event::ConnectionOpened { connection, from } => {
                    let before = open.insert(connection, from);
                    assert_eq!(before, None, "{connection:?} was opened twice");
                }
                Event::Received { message, .. } if message == marker => marked = true,
                Event::Received { connection, message } => {
                    assert!(open.contains_key(&connection), "a message on {connection:?}");
                    received += message.len();
                }
                Event::ConnectionClosed { connection } => {
                    assert!(open.remove(&connection).is_some(), "{connection:?} was not open");
                }
                Event::ConnectionLost { peer, reason } => {
                    assert_ne!(peer, *self.there.address(), "the bystander was lost: {reason}");
                    open.retain(|_, from| *from != peer);
                }
                other => panic!("{other:?}"),
            }
        }
        // What it has sent to the bystander's endpoint would be kept for the next ones.
        while self.there.receive_timeout(Duration::ZERO).unwrap().is_some() {}
        assert!(received <= bytes, "{received} bytes were received of {bytes}");
        assert!(events <= 4 + bytes / 4, "{events} events for {bytes} bytes");
    }
}
