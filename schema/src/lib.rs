//! Generated code of this workspace's schemas.
//!
//! It is committed, so that building takes no schema compiler. After a change of
//! a schema run `cargo run -p capnp-threads-codegen --bin regenerate`.

// Programs may deny what they like: generated code is none of their concern.
#![deny(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used
)]

/// Includes the generated code of a schema of the same name.
macro_rules! schema {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[rustfmt::skip]
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
    /// A room in which programs talk.
    chat_capnp
);
/// What calls cost, measured. The file is that of rpc-cli, which is published and cannot
/// depend on this package.
#[rustfmt::skip]
#[path = "../../rpc-cli/src/generated/echo_capnp.rs"]
pub mod echo_capnp;
schema!(
    /// What the smallest programs speak.
    greeter_capnp
);
schema!(
    /// What three vats do for tests of capabilities that travel.
    party_capnp
);
schema!(
    /// The messages of the protocol, for tests that speak it by hand.
    rpc_capnp
);
schema!(
    /// How the two ends of a two-party connection name each other.
    rpc_twoparty_capnp
);
schema!(
    /// The interfaces that implementations check each other with.
    test_capnp
);
schema!(
    /// What a conformance server tells about itself.
    test_control_capnp
);
schema!(
    /// The values that conformance programs agree on.
    test_values_capnp
);
schema!(
    /// How a trace goes on in another vat, if both want that.
    tracing_capnp
);
