//! What all peers of a network hold together, and who may hold more.

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::machine::Held;

// Note [fair shares]
//
// Each peer has limits of its own, and all have limits together. Once these are reached,
// it would be unfair to turn away whoever comes next: one greedy peer could keep the
// others out. So a peer is dropped then only if it holds more than its share, which is the
// limit divided by the number of peers. What is held in all stays below twice the limit:
// once that is reached, everybody who wants more is dropped.

/// What is held by all peers.
#[derive(Debug)]
pub(crate) struct Census {
    limits: Limits,
    peers: AtomicUsize,
    connections: AtomicUsize,
    bytes: AtomicU64,
    places: Arc<Mutex<Places>>,
}

/// What all peers may hold together, and how many may dial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) bytes: u64,
    pub(crate) peers: usize,
    pub(crate) peers_per_host: usize,
}

/// How many peers that have dialled are here.
#[derive(Debug, Default)]
struct Places {
    all: usize,
    by_host: HashMap<IpAddr, usize>,
}

/// The place that a peer occupies that has dialled. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Mutex<Places>>,
    host: IpAddr,
}

/// The peers that occupy a place, but are about to leave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) all: usize,
    pub(crate) of_host: usize,
}

impl Census {
    pub(crate) fn new(limits: Limits) -> Self {
        Census {
            limits,
            peers: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            places: Arc::default(),
        }
    }

    pub(crate) fn peer_came(&self) {
        self.peers.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn peer_left(&self) {
        self.peers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Enters that a peer holds `new` instead of `old`.
    pub(crate) fn change(&self, old: Held, new: Held) {
        // Wraps around where less is held than before.
        self.connections.fetch_add(new.connections.wrapping_sub(old.connections), Ordering::SeqCst);
        self.bytes.fetch_add(new.bytes.wrapping_sub(old.bytes), Ordering::SeqCst);
    }

    /// Why a peer may not have more than it has, or `None` if it may; see Note [fair shares].
    pub(crate) fn objection(&self, own: Held) -> Option<String> {
        let peers = self.peers.load(Ordering::SeqCst).max(1);
        let connections = self.connections.load(Ordering::SeqCst);
        let limit = self.limits.connections;
        if is_too_much(connections as u64, own.connections as u64, limit as u64, peers as u64) {
            return Some(format!(
                "all peers together have {connections} connections open to this network, this one \
                 has {}; the limit is {limit}",
                own.connections
            ));
        }
        let (bytes, limit) = (self.bytes.load(Ordering::SeqCst), self.limits.bytes);
        if is_too_much(bytes, own.bytes, limit, peers as u64) {
            return Some(format!(
                "messages of all peers together that were not received yet have {bytes} bytes, \
                 those of this one {}; the limit is {limit}",
                own.bytes
            ));
        }
        None
    }

    /// Gives a place to a peer that dials from a host, or says why there is none.
    /// `leaving` counts the peers that are about to leave, and is asked only if there is
    /// no place without theirs.
    pub(crate) fn place(
        &self,
        host: IpAddr,
        leaving: impl FnOnce(IpAddr) -> Leaving,
    ) -> Result<Place, &'static str> {
        let host = host_of(host);
        if let Some(place) = self.take_place(host, Leaving::default()) {
            return Ok(place);
        }
        // Asking takes the locks of peers, and so must not happen under this one.
        self.take_place(host, leaving(host)).ok_or("there are as many peers as may dial")
    }

    fn take_place(&self, host: IpAddr, leaving: Leaving) -> Option<Place> {
        let mut places = self.places.lock();
        let all = places.all.saturating_sub(leaving.all);
        let of_host = places.by_host.get(&host).copied().unwrap_or(0);
        let of_host = of_host.saturating_sub(leaving.of_host);
        if all >= self.limits.peers || of_host >= self.limits.peers_per_host {
            return None;
        }
        places.all += 1;
        *places.by_host.entry(host).or_default() += 1;
        Some(Place { places: self.places.clone(), host })
    }
}

impl Place {
    pub(crate) fn host(&self) -> IpAddr {
        self.host
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        places.all -= 1;
        if let Some(count) = places.by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                places.by_host.remove(&self.host);
                places.by_host.give_back(KEPT);
            }
        }
    }
}

fn is_too_much(all: u64, own: u64, limit: u64, peers: u64) -> bool {
    all > limit && own > limit / peers || all > limit.saturating_mul(2)
}

/// What counts as one host: an IPv4 address, or an IPv6 network of 64 bits, because one
/// host can usually choose any address in such a network.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) if ip.is_loopback() => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn census() -> Census {
        Census::new(Limits { connections: 100, bytes: 1000, peers: 3, peers_per_host: 2 })
    }

    fn held(connections: usize, bytes: u64) -> Held {
        Held { connections, bytes }
    }

    #[test]
    fn beyond_the_limit_only_those_with_more_than_their_share_are_dropped() {
        let census = census();
        for _ in 0..4 {
            census.peer_came();
        }
        let (greedy, modest) = (held(90, 0), held(11, 0));
        census.change(Held::default(), greedy);
        assert_eq!(census.objection(greedy), None);
        census.change(Held::default(), modest);
        assert!(census.objection(greedy).unwrap().contains("101 connections"));
        assert_eq!(census.objection(modest), None);
        // Beyond twice the limit nobody gets more.
        census.change(Held::default(), held(100, 0));
        assert!(census.objection(modest).is_some());
        census.change(greedy, Held::default());
        assert_eq!(census.objection(modest), None);

        census.change(Held::default(), held(0, 1001));
        assert!(census.objection(held(0, 251)).unwrap().contains("1001 bytes"));
        assert_eq!(census.objection(held(0, 250)), None);
        census.change(held(0, 1001), held(0, 999));
        assert_eq!(census.objection(held(0, 999)), None);
    }

    #[test]
    fn places_are_limited_in_all_and_for_each_host() {
        let census = census();
        let nobody = |_| Leaving::default();
        let host = |text: &str| text.parse().unwrap();
        let first = census.place(host("10.0.0.1"), nobody).unwrap();
        let second = census.place(host("::ffff:10.0.0.1"), nobody).unwrap();
        assert!(census.place(host("10.0.0.1"), nobody).is_err());
        let third = census.place(host("2001:db8::1"), nobody).unwrap();
        assert_eq!(third.host(), host("2001:db8::"));
        assert!(census.place(host("10.0.0.2"), nobody).is_err());
        // One that is about to leave does not count.
        let leaving = |_| Leaving { all: 1, of_host: 0 };
        let fourth = census.place(host("10.0.0.2"), leaving).unwrap();
        drop(first);
        assert!(census.place(host("10.0.0.1"), nobody).is_err());
        drop((second, fourth));
        assert!(census.place(host("2001:db8::2"), nobody).is_ok());
        drop(third);
        assert!(census.places.lock().by_host.is_empty());
    }
}
