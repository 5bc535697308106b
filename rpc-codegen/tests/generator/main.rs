//! The generator: its options and what it reports, the code that is committed, and
//! the code of schemas that are hard on generators, compiled and used.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Includes the code of a schema of the same name.
macro_rules! schemas {
    ($($name:ident),*) => { $(
        mod $name {
            include!(concat!("../generated/", stringify!($name), ".rs"));
        }
    )* };
}

schemas! {
    _2fa_capnp, annotated_capnp, c_ish_capnp, options_capnp, other_capnp, prelude_capnp,
    scopes_capnp, streams_capnp, torture_capnp, wire_v1_capnp
}

mod deep {
    pub(crate) mod down {
        pub(crate) mod moved_capnp {
            include!("../generated/moved_capnp.rs");
        }
    }
}

mod annotations;
mod capabilities;
mod committed;
mod compiled;
mod compiler;
mod generics;
mod inheritance;
mod names;
mod options;
mod prelude;
mod random;
mod scopes;
mod streams;
mod support;
