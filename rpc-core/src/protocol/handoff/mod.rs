//! Introducing one vat to another, so that a capability needs no detour (level 3).
//!
//! Note [handoff]
//!
//! Three vats take part: the *introducer* has a capability that the *host* hosts, and gives
//! it to the *recipient*.
//!
//! ```text
//!                      introducer
//!         Provide ────┘          └──── thirdPartyHosted, with a vine
//!            ▼                                   ▼
//!          host ◄──────────── Accept ──────── recipient
//! ```
//!
//! The introducer tells the host who is going to come (Provide), and the recipient where
//! to go (the contact). With the contact goes a *vine*: an export of the introducer that
//! leads to the same capability, through the introducer. While the recipient holds the
//! vine, the introducer holds its Provide, and the host what was provided.
//!
//! **What is handed off** is a place of the host: an import, also one that the host has yet to
//! resolve, or a field of what it will return. The place that the Provide names stays the path
//! of the vine, and of calls that still come for a promise that was resolved to it, whatever the
//! place resolves to (Note [described path]). It is fixed in the step that describes the
//! capability. The introducer may know a shorter path by then; if its late calls took that,
//! those of the recipient, which take the host's, could overtake them, or be overtaken. A
//! capability with a file descriptor is not handed off, nor is a promise of one if the introducer
//! could receive a descriptor and pass it on.
//!
//! **The order of calls.** The recipient may have called the promise before. Those calls go
//! from the recipient to the introducer and on to the host, and later ones must not
//! overtake them. So the Accept names an embargo, and a Disembargo for the vine follows the
//! earlier calls to the introducer, which sends it on to the host behind them
//! ([`Lift`](crate::cap::delivery::Lift)). A field may turn out to be an object of the
//! introducer's, or nothing; then the calls before the Disembargo end there, and it goes on to
//! the host alone. Or it is what the introducer has from another vat and gave to the host; then
//! those calls take the introducer's path there, and the host gives the recipient the way back
//! through the introducer, as it has described the field, and not its own way. It keeps that way
//! when the introducer finishes the question. The host answers the Accept when it has both. Calls that the introducer made before it gave the capability away are on their
//! way to the host in front of the Provide. If the flow limit holds them back there, what is
//! provided is a promise that is resolved behind them (Note [held references]).
//!
//! **Locks.** Describing a capability is a step of the introducer's connection to the
//! recipient, and sending the Provide one of its connection to the host. The second follows
//! the first as an effect. Until then, the end of an embargo waits in the
//! [`Provide`](provide::Provide). The network says
//! who can be introduced to whom, and makes the tokens, while the first lock is held, like a
//! subscriber of `tracing`: it must neither wait nor call this library. All else that is
//! asked of it is an effect.
//!
//! **Failures.** Whatever fails before the host has given the capability away, the recipient
//! falls back to the vine, and nothing is lost: the host cannot be reached, does not know level
//! 3, refuses the Accept, does not answer it in time, or its connection ends. (With
//! [`EarlyCalls::Follow`], calls that were sent behind the Accept are.) Afterwards calls fail as those of any
//! connection. An Accept at the host ends with `disconnected`
//! when the connection to the introducer ends before the Provide has come, or before the
//! embargo was lifted; when the introducer takes the Provide back; and when the time for it
//! is over.
//!
//! - `introducing.rs`: the introducer, with `provide.rs`, which is what a vine keeps, and
//!   `ability.rs`, what it knows of a host, for which `following.rs` waits;
//! - `accepting.rs`: the recipient, and `forwarding.rs`, where it passes on what it has not
//!   used;
//! - `hosting.rs`: the host, with `meetings.rs`, where those who provide and those who come
//!   meet.

pub(super) mod ability;
mod accepting;
mod following;
mod forwarding;
mod hosting;
pub(super) mod introducing;
pub(crate) mod meetings;
pub(super) mod provide;

use std::any::Any;
use std::sync::Arc;

use crate::budget::Charge;
use crate::cap::client::Client;
use crate::deadline::TimeLimit;
use crate::error::Error;
pub(crate) use crate::transport::introductions::Introduction;
use crate::wire::{AcceptEmbargo, Token};

use self::meetings::{Key, Meetings, Shown};

/// Number of bytes in the name of an embargo, at most. What has a longer one is not lifted.
const MAX_EMBARGO: usize = 128;

/// What one connection knows of the network that its peer is in. The other connections of
/// the vat, over the same network, have others of the same type.
pub(crate) trait Neighbour: Any + Send + Sync {
    /// What introduces this peer to another one, which is the host; `None` if it cannot be.
    /// Called under a lock: see Note [handoff].
    fn introduce_to(&self, host: &dyn Neighbour) -> Option<Introduction>;

    /// What passes a contact on to this peer that another one has sent; `None` if it cannot be
    /// passed on. Called under a lock, as [`introduce_to`](Self::introduce_to) is.
    fn forward(&self, introducer: &dyn Neighbour, contact: &Token) -> Option<Token>;

    /// Finds the connection to the host to which a contact of this peer leads, or makes one,
    /// and tells the seeker, on any thread. Must not wait.
    ///
    /// Must not be called under a lock, and nor is the seeker.
    fn reach(self: Arc<Self>, contact: Token, seeker: Box<dyn Seeker>);

    /// Whom this peer says to be going to come.
    ///
    /// Must not be called under a lock.
    ///
    /// # Errors
    /// This is no token of the network's.
    fn awaited(&self, awaited: &Token) -> Result<Key, Error>;

    /// What this peer shows that comes for a capability.
    ///
    /// Must not be called under a lock.
    ///
    /// # Errors
    /// This is no token of the network's, or the introducer is not connected.
    fn shown(&self, completion: &Token) -> Result<Shown, Error>;

    /// Where the vats meet that this vat has to do with.
    fn meetings(&self) -> &Arc<Meetings>;

    /// What the recipient does with a capability that nobody has used yet.
    fn acceptance(&self) -> Acceptance;

    /// Whether calls are sent along with an Accept.
    fn early_calls(&self) -> EarlyCalls;

    /// How long an Accept may wait here for what it asks for, and how long this vat looks for a
    /// host, and waits for its answer.
    fn patience(&self) -> TimeLimit;

    /// The connection has ended: nobody looks for a host any more because of this peer.
    ///
    /// Must not be called under a lock.
    fn ended(&self);
}

/// A connection to a host.
pub(crate) trait Host: Send + Sync {
    /// Asks the host for a capability: a promise that resolves to what it returns or, if it does
    /// not give the capability away, to the vine. Nothing must be sent through it before.
    ///
    /// Must not be called under a lock.
    ///
    /// # Errors
    /// Nothing was asked.
    fn accept(
        self: Arc<Self>,
        completion: Token,
        embargo: Option<AcceptEmbargo>,
        introduced: &Introduced,
    ) -> Result<Client, NotAsked>;
}

/// Why a host was not asked.
pub(crate) enum NotAsked {
    /// The connection was not used, and ends because of that: another one may be made.
    Unused,
    /// The connection has failed, or the host does not know handoffs.
    Failed(Error),
}

/// Who looks for a host.
pub(crate) trait Seeker: Send {
    /// Goes on with what was found, or without it. Gives itself back if the connection ends
    /// because nobody has used it. If a seeker is dropped without this, nothing was found.
    fn found(self: Box<Self>, found: Result<Found, Error>) -> Option<Box<dyn Seeker>>;
}

/// Where a contact leads.
pub(crate) enum Found {
    /// A connection to the host, and what has to be shown there.
    Host(Arc<dyn Host>, Token),
    /// This vat itself hosts the capability. This is what it would be shown.
    Here(Shown),
}

/// When a recipient sends its Accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// When the capability is called, passed on, or waited for.
    #[default]
    Lazy,
    /// At once.
    Eager,
}

/// What a recipient does with calls before the host has given the capability away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EarlyCalls {
    /// They wait, so that they can take the vine if the host refuses.
    #[default]
    Wait,
    /// They are sent behind the Accept, and fail with it.
    Follow,
}

/// A capability of a third vat, as a message of the introducer names it.
pub(crate) struct Introduced {
    /// Leads to the capability through the introducer: an import.
    pub(super) vine: Client,
    pub(super) contact: Token,
    /// What the contact costs the introducer until the host has answered.
    pub(super) charge: Arc<Charge>,
}

/// Whether earlier calls are on their way to the capability through the introducer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    None,
    Calls,
}
