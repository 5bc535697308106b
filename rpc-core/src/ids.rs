//! The numbers that two vats name table entries by.
//!
//! Each is the index of a table that one side owns: my questions are your
//! answers and my exports are your imports, so the same number on the wire has
//! one type on the way out and another on the way in.

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
    /// A question that we asked; chosen by us.
    QuestionId
}
id! {
    /// A question that the peer asked and we answer; chosen by the peer.
    AnswerId
}
id! {
    /// A capability that we offer to the peer; chosen by us.
    ExportId
}
id! {
    /// A capability that the peer offers to us; chosen by the peer.
    ImportId
}
id! {
    /// An embargo that we wait to be lifted; chosen by us.
    EmbargoId
}

/// Tells entries apart that had the same id one after the other.
///
/// Ids are used again; whoever refers to an entry from outside its table also
/// remembers its serial, which never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Serial(pub(crate) u64);
