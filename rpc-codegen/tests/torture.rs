//! Compiles and uses the code of a schema that is hard on generators.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod other_capnp {
    include!("generated/other_capnp.rs");
}
mod torture_capnp {
    include!("generated/torture_capnp.rs");
}

mod deep {
    pub(crate) mod down {
        pub(crate) mod moved_capnp {
            include!("generated/moved_capnp.rs");
        }
    }
}

#[path = "torture/capabilities.rs"]
mod capabilities;
#[path = "torture/generics.rs"]
mod generics;
#[path = "torture/inheritance.rs"]
mod inheritance;
#[path = "torture/names.rs"]
mod names;
