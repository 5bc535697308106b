//! Endpoints: the vats that reach each other over them, and what strains them.

mod bad_links;
mod crowd;
mod durations;
mod vats;
