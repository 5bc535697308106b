//! For whom a thread works.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::transport::PeerDescription;

/// The peers of connections, for warnings. The lock is a leaf.
static PEERS: parking_lot::Mutex<BTreeMap<Origin, String>> =
    parking_lot::const_mutex(BTreeMap::new());

/// Where a call came from: a connection, or this process. Workers are shared out among
/// origins, see Note [shares].
///
/// A call that a method makes has the origin of the method's own call. Otherwise a peer
/// could take workers under another name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(u64);

impl Origin {
    /// Threads of the application, and its closures.
    pub(crate) const LOCAL: Origin = Origin(0);

    /// That of a connection; no other connection of this process has the same.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The origin of a new connection's calls.
    pub(crate) fn connection() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Origin(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Names the peer, for people who look for it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Origin::LOCAL {
            return f.write_str("this process");
        }
        match PEERS.lock().get(self).cloned() {
            Some(peer) => write!(f, "the connection to {peer}"),
            None => f.write_str("a connection that has ended"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::LOCAL => f.write_str("this process"),
            Origin(number) => write!(f, "connection {number}"),
        }
    }
}

/// The origin of a connection's calls, which bears the name of the peer while this exists.
pub(crate) struct Introduction(Origin);

impl Introduction {
    pub(crate) fn of(peer: &PeerDescription) -> Self {
        let origin = Origin::connection();
        PEERS.lock().insert(origin, named(peer));
        Introduction(origin)
    }

    pub(crate) fn origin(&self) -> Origin {
        self.0
    }
}

impl Drop for Introduction {
    fn drop(&mut self) {
        let name = PEERS.lock().remove(&self.0);
        drop(name);
    }
}

/// What tells a peer from others. Many local sockets have the same address.
pub(crate) fn named(peer: &PeerDescription) -> String {
    let address = if peer.address.is_empty() { "an unknown peer" } else { &*peer.address };
    match peer.credentials {
        Some(process) => {
            format!("{address} (process {} of user {})", process.pid, process.uid)
        }
        None => address.to_owned(),
    }
}

crate::sync::thread_local! {
    static CURRENT: Cell<Origin> = const { Cell::new(Origin::LOCAL) };
}

/// The origin of the calls that this thread makes.
pub(crate) fn current() -> Origin {
    CURRENT.try_with(Cell::get).unwrap_or_default()
}

/// Sets the origin of the calls that this thread makes.
pub(super) fn set(origin: Origin) {
    let _ = CURRENT.try_with(|current| current.set(origin));
}

/// While this exists, the thread works for an origin in the middle of other work.
pub(crate) struct OnBehalf {
    before: Origin,
}

impl OnBehalf {
    pub(crate) fn begin(origin: Origin) -> Self {
        let before = current();
        set(origin);
        OnBehalf { before }
    }
}

impl Drop for OnBehalf {
    fn drop(&mut self) {
        set(self.before);
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use super::*;
    use crate::transport::Credentials;

    #[test]
    fn a_connection_bears_the_name_of_its_peer_while_it_exists() {
        let peer = PeerDescription::from_address("unix:unnamed");
        let process = Credentials { pid: 7, uid: 8, gid: 9 };
        let known = Introduction::of(&peer.clone().with_credentials(Some(process)));
        let unknown = Introduction::of(&PeerDescription::default());
        assert_eq!(
            known.origin().to_string(),
            "the connection to unix:unnamed (process 7 of user 8)"
        );
        assert_eq!(unknown.origin().to_string(), "the connection to an unknown peer");
        assert_eq!(Origin::LOCAL.to_string(), "this process");
        let origin = known.origin();
        drop(known);
        assert_eq!(origin.to_string(), "a connection that has ended");
    }
}
