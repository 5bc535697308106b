//! The work that every implementation does to be compared, and the command line of the
//! programs that do it.

pub mod address;
pub mod cli;
pub mod cpu;
pub mod figures;

/// Why a measurement could not be made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A measurement, or why it could not be made.
pub type Result<T, E = Failure> = std::result::Result<T, E>;
