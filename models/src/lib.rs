//! The protocol by which promises resolve, as models that know nothing of the code.
//!
//! Each is written in the terms of `rpc.capnp`: vats, the messages between them, which
//! arrive in order, and the rules by which a vat acts on a message. The tests of this crate
//! explore each one exhaustively, for small numbers of calls, with
//! [stateright](https://docs.rs/stateright). The tests of `capnp-threads-core` replay
//! [`paths`] through the same states on the machine, and require after each step that it has
//! sent the same messages: so a rule here is the rule there, and every transition is tied to
//! the function that makes it.
//!
//! - [`resolution`]: two vats with a promise each, which may become an object of either or
//!   the other's promise; calls, embargoes, described paths, and the race of four ways;
//! - [`handoff`]: a promise that becomes an object of a third vat is handed off to who has
//!   it, and then once more to a fourth one;
//! - [`promised`]: a promise that is handed off before it becomes an object of one of three vats.

pub mod handoff;
mod paths;
pub mod promised;
pub mod resolution;

use std::fmt::Debug;
use std::hash::Hash;

pub use self::paths::paths;

/// Something that goes from state to state.
pub trait Protocol {
    /// Everything that there is at one moment.
    type State: Clone + Debug + Eq + Hash;
    /// What leads from one to the next.
    type Action: Copy + Debug + Eq + Hash;

    /// The beginning.
    fn start(&self) -> Self::State;

    /// What can happen.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// What comes of it. The action must be among those that can happen.
    fn next(&self, state: &Self::State, action: Self::Action) -> Self::State;

    /// What is wrong with a state, if anything is.
    fn wrong(&self, state: &Self::State) -> Option<String>;
}

/// Whether calls, which are numbered from 1 on for each caller, were seen in order.
fn in_order(seen: &[Label]) -> bool {
    seen.iter().enumerate().all(|(index, label)| {
        let before = seen[..index].iter().filter(|other| other.caller == label.caller);
        usize::from(label.number) == 1 + before.count()
    })
}

/// Which call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The number of the vat that made it.
    pub caller: u8,
    /// Its number among those of this vat, from 1 on.
    pub number: u8,
}
