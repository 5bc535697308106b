//! The numbers by which two vats name table entries.
//!
//! Each number is an index of a table that one side owns. This side's questions are the
//! peer's answers, and this side's exports are the peer's imports, so the same number
//! on the wire has one type on the way out and another on the way in.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(clippy::exhaustive_structs, reason = "the protocol says what an id is")]
        pub struct $name(pub u32);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl From<u32> for $name {
            fn from(raw: u32) -> Self {
                $name(raw)
            }
        }
    };
}

id! {
    /// A question that this side asked; chosen by this side.
    QuestionId
}
id! {
    /// A question that the peer asked and this side answers; chosen by the peer.
    AnswerId
}
id! {
    /// A capability that this side exports to the peer; chosen by this side.
    ExportId
}
id! {
    /// A capability that the peer exports to this side; chosen by the peer.
    ImportId
}
id! {
    /// An embargo that this side waits for the peer to lift; chosen by this side.
    EmbargoId
}

/// Tells apart entries that had the same id one after the other.
///
/// Ids are used again; serials never are. So a reference to an entry from outside its
/// table consists of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Serial(pub(crate) u64);
