//! Peers that break the rules, on purpose or not: they may be told so and cut off,
//! and nothing else may happen.
#![allow(
    clippy::cast_possible_truncation,
    clippy::drop_non_drop,
    clippy::identity_op,
    clippy::range_plus_one,
    clippy::unused_self
)]

mod floods;
mod framing;
mod hints;
mod messages;
mod random;
mod victim;
