//! Membranes, in process and between vats: what crosses them, what comes back,
//! and what revoking ends.

mod crossing;
mod objects;
mod order;
mod revoking;
