//! Compiles and uses the code of a schema that is hard on generators.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Includes the code of a schema of the same name.
macro_rules! schemas {
    ($($name:ident),*) => { $(
        mod $name {
            include!(concat!("generated/", stringify!($name), ".rs"));
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
            include!("generated/moved_capnp.rs");
        }
    }
}

#[path = "torture/annotations.rs"]
mod annotations;
#[path = "torture/capabilities.rs"]
mod capabilities;
#[path = "torture/generics.rs"]
mod generics;
#[path = "torture/inheritance.rs"]
mod inheritance;
#[path = "torture/names.rs"]
mod names;
#[path = "torture/options.rs"]
mod options;
#[path = "torture/prelude.rs"]
mod prelude;
#[path = "torture/scopes.rs"]
mod scopes;
#[path = "torture/streams.rs"]
mod streams;
