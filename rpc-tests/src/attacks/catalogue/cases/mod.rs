//! The cases, by the kinds of messages that they are about.

mod bootstraps;
mod calls;
mod contents;
mod disembargoes;
mod frames;
mod introductions;
mod joins;
mod refusals;
mod resolves;
mod returns;
mod tables;

use capnp_threads_core::capnp::{any_pointer, data};

use super::case::Chapter;

/// A value of whatever type in a message.
type Pointer<'a> = any_pointer::Builder<'a>;

/// Bytes, as such a value.
type Bytes = data::Owned;

/// All cases.
pub const CHAPTERS: &[Chapter] = &[
    Chapter { title: "Bytes", cases: frames::CASES },
    Chapter { title: "Unimplemented", cases: refusals::UNIMPLEMENTED },
    Chapter { title: "Abort", cases: refusals::ABORTS },
    Chapter { title: "Bootstrap", cases: bootstraps::CASES },
    Chapter { title: "Call", cases: calls::CASES },
    Chapter { title: "Parameters of a Call", cases: contents::CASES },
    Chapter { title: "Return", cases: returns::CASES },
    Chapter { title: "Finish", cases: tables::FINISHES },
    Chapter { title: "Resolve", cases: resolves::CASES },
    Chapter { title: "Release", cases: tables::RELEASES },
    Chapter { title: "Disembargo", cases: disembargoes::CASES },
    Chapter { title: "Provide", cases: introductions::PROVIDES },
    Chapter { title: "Accept", cases: introductions::ACCEPTS },
    Chapter { title: "Join", cases: joins::CASES },
    Chapter { title: "ThirdPartyAnswer, and what is obsolete", cases: refusals::OBSOLETE },
];
