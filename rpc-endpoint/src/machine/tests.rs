#![allow(clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod model;
#[cfg(test)]
mod steps;
mod world;
