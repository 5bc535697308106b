//! Generated code of this workspace's schemas.
//!
//! It is committed, so that building takes no schema compiler. After a change of
//! a schema run `cargo run -p rpc-codegen --bin regenerate`.

/// Includes the generated code of a schema of the same name.
macro_rules! schema {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[rustfmt::skip]
        #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
        pub mod $name {
            include!(concat!("generated/", stringify!($name), ".rs"));
        }
    };
}

schema!(
    /// A calculator whose values and functions are objects.
    calculator_capnp
);
schema!(
    /// What calls cost, measured.
    echo_capnp
);
