#![allow(clippy::unwrap_used, clippy::expect_used)]

mod model;
mod steps;
mod world;
