//! What a network needs so that its vats can introduce each other.

use crate::error::Result;
use crate::wire::Token;

/// How the vats of a network introduce each other: the part of a
/// [`VatNetwork`](super::network::VatNetwork) that level 3 of the protocol needs.
///
/// Suppose that Alice holds a capability of Bob's and gives it to Carol. Without an
/// introduction, Carol's calls go through Alice. With one, Carol connects to Bob:
///
/// 1. In Alice's vat [`introduce`](Self::introduce) makes two tokens, one for Carol and one
///    for Bob.
/// 2. In Carol's vat [`connect_to_introduced`](Self::connect_to_introduced) reads hers: it
///    says where to go, and what to show there.
/// 3. In Bob's vat [`await_third_party`](Self::await_third_party) reads what came from Alice,
///    and [`complete_third_party`](Self::complete_third_party) what Carol shows. If both give
///    the same key, Carol gets the capability.
///
/// Carol may give on to Dave what she has not used. If
/// [`forward_contact`](Self::forward_contact) passes her contact on, Dave connects to Bob, and
/// Carol does not have to. Dave may be Bob: then his vat shows the token to itself.
///
/// All else, such as who waits for whom and for how long, is not the network's concern.
///
/// # Security
///
/// The vat takes the ids that are given to these methods from the connections over which the
/// tokens came. So a network whose connections prove who the peer is needs no secret: a key
/// that is made of both ids and a number of the introducer's is enough, if each id is the one
/// of the connection where it can be, and the one in the token where it cannot. Otherwise the
/// key must hold a secret that nobody can guess, and who learns the secret has the capability.
pub trait Introductions<Id>: Send + Sync {
    /// Introduces two peers of this vat: the recipient will connect to the host. `None` if
    /// that is not possible, for example because the host accepts no connections. Then this
    /// vat stands in for the host.
    ///
    /// Called while a connection of this vat is locked: must not wait, nor call this library.
    fn introduce(&self, recipient: &Id, host: &Id) -> Option<Introduction>;

    /// Reads what a peer has sent, the introducer: which vat to connect to, and what to show
    /// there. The vat then calls [`connect`](super::network::VatNetwork::connect). If that says
    /// that the host is this vat itself, the token is shown here, with the host as the
    /// recipient. Must not wait.
    ///
    /// # Errors
    /// This is not a token of this network, or the network does not connect to that vat. The
    /// introducer stands in for it.
    fn connect_to_introduced(&self, introducer: &Id, contact: &Token) -> Result<Introduced<Id>>;

    /// Passes a contact on that a peer has sent, the introducer (who may have got it from
    /// another vat), and that this vat has not used. Returns the contact for the recipient; its
    /// [`connect_to_introduced`](Self::connect_to_introduced) gets this vat as the introducer.
    /// Any number of vats may show what it leads to. `None` if contacts of this kind are not
    /// passed on: this vat then goes to the host itself, and introduces the recipient. By
    /// default none is.
    ///
    /// Called while a connection of this vat is locked: must not wait, nor call this library.
    fn forward_contact(&self, introducer: &Id, contact: &Token, recipient: &Id) -> Option<Token> {
        let _ = (introducer, contact, recipient);
        None
    }

    /// Reads what a peer has sent, the introducer, which provides a capability for a third
    /// vat. Returns a key for what is provided. Must not wait.
    ///
    /// # Errors
    /// This is not a token of this network: nothing is provided.
    fn await_third_party(&self, introducer: &Id, awaited: &Token) -> Result<Vec<u8>>;

    /// Reads what a peer shows that comes for a capability. Must not wait.
    ///
    /// # Errors
    /// This is not a token of this network: the peer gets nothing.
    fn complete_third_party(&self, recipient: &Id, completion: &Token) -> Result<Completion<Id>>;
}

/// The two tokens of an introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "networks make it")]
pub struct Introduction {
    /// For the recipient: how to reach the host.
    pub contact: Token,
    /// For the host: who is going to come.
    pub awaited: Token,
}

/// Where a vat that was introduced has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "networks make it")]
pub struct Introduced<Id> {
    /// The vat that hosts the capability.
    pub host: Id,
    /// What to show there.
    pub completion: Token,
}

/// What somebody shows who comes for a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "networks make it")]
pub struct Completion<Id> {
    /// The vat that has provided the capability, or will do so. Nobody waits for it longer
    /// than this vat is connected with it. `None` if the token does not tell.
    pub introducer: Option<Id>,
    /// The key, as [`Introductions::await_third_party`] makes it.
    pub key: Vec<u8>,
    /// How often this key may be used.
    pub uses: Uses,
}

/// How often what was provided may be fetched with one key.
///
/// ```
/// use capnp_threads_core::network::{Completion, Uses};
///
/// // Nobody but the recipient has been told this.
/// let secret = vec![7; 32];
/// let shown: Completion<u32> = Completion { introducer: None, key: secret, uses: Uses::Once };
/// # drop(shown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing in between")]
pub enum Uses {
    /// By the first who shows the key: for keys that hold a secret.
    Once,
    /// As long as it is provided: for keys that name the recipient.
    Any,
}
