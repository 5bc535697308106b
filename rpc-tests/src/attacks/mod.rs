//! Peers that want to harm.
//!
//! An [`Attack`] is what one of them does over and over, by hand-made bytes on real
//! sockets, and what bounds its effects. It is made so large that it would exceed those
//! bounds by far. A [`Siege`] is a vat that is attacked while an honest client uses it. It
//! watches how much memory, threads and descriptors the attack takes, that it gives
//! everything back, that others are served meanwhile and afterwards, and that the
//! attackers are told why they are refused.
//!
//! The suite `attacks` of the test binary `stress` makes each attack once, against small
//! limits; the program `attack` makes them for as long as one likes, against the default
//! ones. Peers that break a rule once are in the [`catalogue`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

mod assault;
mod calls;
pub mod catalogue;
mod content;
mod crowds;
mod endpoints;
mod frames;
mod introductions;
pub mod memory;
mod program;
mod readers;
mod seen;
mod siege;
mod sizes;
mod tables;
mod target;
mod words;

pub use self::program::main;
pub(crate) use self::program::raise_descriptors;
pub use self::seen::Seen;
pub use self::siege::{Report, Siege};
pub use self::sizes::{Bound, Share, Sizes};

/// Something that a hostile peer does.
#[derive(Debug)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What the peer does.
    pub about: &'static str,
    /// What bounds the memory, the threads and the descriptors that it takes, besides the
    /// messages that are just being read and the vat's usual workers.
    pub bounds: &'static [Bound],
    /// How it ends.
    pub ends: Ends,
    run: fn(&Siege) -> Seen,
}

/// How an attack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The vat ends its connections, for a reason that contains this.
    CutOff(&'static str),
    /// Calls are refused, for a reason that contains this, and the connection goes on.
    Refused(&'static str),
    /// One or the other.
    Either(&'static str),
    /// It may go on for ever: nothing comes of it.
    GoesOn,
    /// The attackers are told nothing that they could understand.
    Untold,
}

impl Attack {
    /// What it may take of a vat with these limits.
    pub fn allowed(&self, sizes: &Sizes) -> Share {
        Share::of(self.bounds, sizes)
    }

    /// The names of what bounds it.
    pub fn bounds(&self) -> String {
        match self.bounds {
            [] => "nothing to be held".to_owned(),
            bounds => bounds.iter().map(|bound| bound.name()).collect::<Vec<_>>().join(", "),
        }
    }
}

/// All attacks.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    let families = [
        calls::ATTACKS,
        content::ATTACKS,
        tables::ATTACKS,
        readers::ATTACKS,
        frames::ATTACKS,
        crowds::ATTACKS,
        endpoints::ATTACKS,
        introductions::ATTACKS,
    ];
    families.into_iter().flatten()
}

/// The attack of this name.
pub fn named(name: &str) -> Option<&'static Attack> {
    all().find(|attack| attack.name == name)
}
