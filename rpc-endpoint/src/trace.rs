//! What must hold of every history of endpoints, whatever happens to them.
//!
//! Tests report each act of the senders and each event of the receivers; what
//! does not fit panics. A connection has a key by which both sides are told to be
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// The history of some endpoints, which are numbered, each time they are made
/// anew.
pub(super) struct Trace<K> {
    connections: BTreeMap<K, Record>,
    /// Endpoints that have told that they are closed.
    closed: BTreeSet<usize>,
}

struct Record {
    sender: usize,
    receiver: usize,
    sent: Vec<u64>,
    closed: bool,
    received: usize,
    end: Option<End>,
    opened: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Lost,
}

impl<K: Ord + Clone + Debug> Trace<K> {
    pub(super) fn new() -> Self {
        Trace { connections: BTreeMap::new(), closed: BTreeSet::new() }
    }

    /// A connect succeeded.
    pub(super) fn connected(&mut self, key: K, sender: usize, receiver: usize) {
        let record = Record {
            sender,
            receiver,
            sent: Vec::new(),
            closed: false,
            received: 0,
            end: None,
            opened: false,
        };
        assert!(!self.connections.contains_key(&key), "{key:?} exists twice");
        self.connections.insert(key, record);
    }

    /// A send succeeded.
    pub(super) fn sent(&mut self, key: &K, value: u64) {
        let record = self.record(key);
        assert!(!record.closed, "{key:?} was closed, but sends");
        record.sent.push(value);
    }

    /// The sender closed a connection.
    pub(super) fn closed(&mut self, key: &K) {
        self.record(key).closed = true;
    }

    pub(super) fn opened(&mut self, endpoint: usize, key: &K) {
        let record = self.open_to(endpoint, key);
        assert!(!record.opened, "{key:?} was opened twice");
        record.opened = true;
    }

    pub(super) fn received(&mut self, endpoint: usize, key: &K, value: u64) {
        let record = self.open_to(endpoint, key);
        assert!(record.opened, "{key:?} received before it was opened");
        assert_eq!(record.sent.get(record.received), Some(&value), "the order on {key:?}");
        record.received += 1;
    }

    pub(super) fn ended(&mut self, endpoint: usize, key: &K) {
        let record = self.open_to(endpoint, key);
        assert!(record.opened, "{key:?} was closed before it was opened");
        assert_eq!(record.received, record.sent.len(), "{key:?} was closed, but incomplete");
        record.end = Some(End::Closed);
    }

    /// A peer was lost, and with it these connections, as far as they had been
    /// opened.
    pub(super) fn lost(&mut self, endpoint: usize, keys: &[K]) {
        assert!(!self.closed.contains(&endpoint), "endpoint {endpoint} is closed");
        for key in keys {
            let record = self.record(key);
            assert_eq!(record.receiver, endpoint);
            if record.opened && record.end.is_none() {
                record.end = Some(End::Lost);
            }
        }
    }

    pub(super) fn endpoint_closed(&mut self, endpoint: usize) {
        assert!(self.closed.insert(endpoint), "endpoint {endpoint} was closed twice");
    }

    /// What a connection that is not disturbed has come to in the end.
    pub(super) fn check_complete(&self, key: &K) {
        let Some(record) = self.connections.get(key) else { panic!("{key:?} is unknown") };
        assert!(record.opened, "{key:?} was never opened");
        assert_eq!(record.received, record.sent.len(), "{key:?} is incomplete");
        let end = record.closed.then_some(End::Closed);
        assert_eq!(record.end, end, "{key:?}");
    }

    /// Whether every connection that was made to an endpoint, and that was closed,
    /// has ended there.
    pub(super) fn is_complete(&self, endpoint: usize) -> bool {
        let mut records = self.connections.values();
        records.all(|record| record.receiver != endpoint || !record.closed || record.end.is_some())
    }

    /// The sender and the receiver of a connection.
    pub(super) fn ends_of(&self, key: &K) -> (usize, usize) {
        let Some(record) = self.connections.get(key) else { panic!("{key:?} is unknown") };
        (record.sender, record.receiver)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.connections.keys()
    }

    fn record(&mut self, key: &K) -> &mut Record {
        match self.connections.get_mut(key) {
            Some(record) => record,
            None => panic!("{key:?} is unknown"),
        }
    }

    fn open_to(&mut self, endpoint: usize, key: &K) -> &mut Record {
        assert!(!self.closed.contains(&endpoint), "endpoint {endpoint} is closed");
        let record = self.record(key);
        assert_eq!(record.receiver, endpoint, "{key:?} goes elsewhere");
        assert_eq!(record.end, None, "{key:?} has ended");
        record
    }
}

/// Numbers that only depend on a seed.
pub(super) struct Dice {
    state: u64,
    /// What comes first, from the end.
    loaded: Vec<u8>,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice { state: seed, loaded: Vec::new() }
    }

    /// Dice that show these bytes first.
    pub(super) fn loaded(bytes: &[u8]) -> Self {
        Dice { state: 0, loaded: bytes.iter().rev().copied().collect() }
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        if let Some(byte) = self.loaded.pop() {
            // A byte reaches everywhere, if not every number.
            return if limit <= 256 {
                usize::from(byte) % limit
            } else {
                usize::from(byte) * (limit / 256)
            };
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        usize::try_from(x % limit as u64).unwrap_or_default()
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}
