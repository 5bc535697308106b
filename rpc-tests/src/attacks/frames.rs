//! Frames that hold no message, or never end.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use capnp_threads_core::Concurrency;

use super::assault::{connect, ended, last_words};
use super::target::Method;
use super::words::{self, Content, sender_hosted};
use super::{Attack, Bound, Ends, Seen, Siege};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "segment-tables",
        about: "announces very many, and very long, segments",
        bounds: &[],
        ends: Ends::CutOff("limit is"),
        run: segment_tables,
    },
    Attack {
        name: "half-messages",
        about: "announces large messages, begins them and dies",
        bounds: &[Bound::ConnectionsPerPeer],
        ends: Ends::Untold,
        run: half_messages,
    },
    Attack {
        name: "garbage",
        about: "sends bytes that mean nothing",
        bounds: &[],
        ends: Ends::Untold,
        run: garbage,
    },
];

/// The framing of segments of these sizes.
fn table(segments: u32, sizes: &[u32]) -> Vec<u8> {
    let count = segments.wrapping_sub(1);
    std::iter::once(&count).chain(sizes).flat_map(|number| number.to_le_bytes()).collect()
}

/// Writes these bytes on a connection of their own, ends it and listens.
fn alone(siege: &Siege, bytes: &[u8]) -> Seen {
    let (mut peer, connection, _own) = connect(siege, Concurrency::Serial);
    peer.bytes(bytes);
    siege.look();
    peer.end();
    let seen = last_words(peer);
    ended(&connection);
    seen
}

fn segment_tables(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    let limits = &siege.sizes.limits;
    let many = limits.message_segments + 1;
    let long = u32::try_from(limits.message_words + 1).unwrap_or(u32::MAX);
    for _ in 0..20 {
        for bytes in [
            table(many, &[0, 0, 0, 0]),
            table(u32::MAX, &[]),
            table(0, &[1]),
            table(1, &[long, 0]),
            table(1, &[u32::MAX, 0]),
            table(4, &[u32::MAX; 5]),
        ] {
            seen.add(alone(siege, &bytes));
        }
    }
    seen
}

fn half_messages(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    let largest = siege.sizes.limits.message_words as usize - 256;
    let table: Vec<u64> = (0..100).map(sender_hosted).collect();
    let whole = words::call(1, 0, Method::Keep, Content::Data(largest), &table);
    for place in 0..20 {
        let end = whole.len() * place / 20 + 3;
        seen.add(alone(siege, &whole[..end]));
    }
    // Many at once, each of which has announced the largest message.
    let count = siege.sizes.accept.connections_per_peer;
    let own = siege.own_with(count.into(), 0);
    let mut peers: Vec<TcpStream> = (0..count).map(|_| siege.storm(0).unwrap()).collect();
    for peer in &mut peers {
        peer.write_all(&whole[..100]).unwrap();
    }
    siege.look();
    siege.honest_goes_on();
    // They die: nobody reads what comes.
    drop(peers);
    drop(own);
    seen
}

fn garbage(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..100 {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(200)
        .flatten()
        .collect();
        // With a framing that can be believed, and without.
        let framed = [table(1, &[200, 0]), bytes.clone()].concat();
        for bytes in [&bytes, &framed] {
            let (mut peer, connection, _own) = connect(siege, Concurrency::Serial);
            // The vat may have ended it before everything is written.
            let _ = peer.writer().write_all(bytes);
            let _ = peer.writer().shutdown(Shutdown::Write);
            peer.end();
            seen.add(last_words(peer));
            ended(&connection);
        }
    }
    seen
}
