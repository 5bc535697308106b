//! Very many connections.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use super::words;
use super::{Attack, Bound, Ends, Seen, Siege};
use crate::support::raw::read_from;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "silent-connections",
        about: "connects as often as it may, and never says anything",
        bounds: &[Bound::ConnectionsPerPeer],
        ends: Ends::CutOff(""),
        run: silent_connections,
    },
    Attack {
        name: "crowd",
        about: "connects from very many addresses, and stays",
        bounds: &[Bound::Connections],
        ends: Ends::Either("its limit"),
        run: crowd,
    },
    Attack {
        name: "comers-and-goers",
        about: "connects, asks for something, and is gone before it is answered",
        bounds: &[Bound::Connections],
        ends: Ends::Untold,
        run: comers_and_goers,
    },
];

/// What a peer is told before its connection ends.
fn hear(mut stream: TcpStream, seen: &mut Seen) {
    while let Some(said) = read_from(&mut stream) {
        seen.note(&said);
    }
}

fn silent_connections(siege: &Siege) -> Seen {
    let count = 2 * siege.sizes.accept.connections_per_peer;
    let _own = siege.own_with(count.into(), 0);
    let streams: Vec<TcpStream> = (0..count).map(|_| siege.storm(0).unwrap()).collect();
    siege.look();
    // Somebody else finds the door open.
    siege.honest_goes_on();
    siege.newcomer().expect("others are let in beside silent peers");
    let mut seen = Seen::default();
    for stream in streams {
        hear(stream, &mut seen);
    }
    let refused = |what: &str| seen.aborts.keys().any(|reason| reason.contains(what));
    assert!(refused("sent nothing within"), "no silent peer was sent away: {seen}");
    assert!(refused("its limit"), "as many were let in as came: {seen}");
    seen
}

fn crowd(siege: &Siege) -> Seen {
    let accept = &siege.sizes.accept;
    let addresses = accept.connections.div_ceil(accept.connections_per_peer) + 2;
    let count = addresses * accept.connections_per_peer;
    let _own = siege.own_with(count.into(), 0);
    let mut streams = Vec::new();
    for number in 0..count {
        let attacker = (number / accept.connections_per_peer) as u16;
        let mut stream = siege.storm(1 + attacker).unwrap();
        if number < accept.connections {
            // It is not silent, or it would have to leave soon.
            let _ = stream.write_all(&words::bootstrap(1));
        }
        streams.push(stream);
        if number % 64 == 0 {
            siege.look();
        }
    }
    siege.until("the vat to be full", || {
        siege.vat.connection_count() >= accept.connections as usize
    });
    siege.honest_goes_on();
    let mut seen = Seen::default();
    // Those who came last first, while there is no place for them.
    for stream in streams.into_iter().rev() {
        // A peer that was let in hears the answer to what it asked, and then the end.
        let _ = stream.shutdown(Shutdown::Write);
        hear(stream, &mut seen);
    }
    seen
}

fn comers_and_goers(siege: &Siege) -> Seen {
    for number in 0..500 {
        let _own = siege.own_with(1, 0);
        let mut stream = siege.storm(2000 + number % 4).unwrap();
        let _ = stream.write_all(&words::bootstrap(1));
        siege.look();
    }
    Seen::default()
}
