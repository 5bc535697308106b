//! Content whose schema is known only when the program runs, as JSON and back.
//!
//! The JSON is that of the JSON codec of the C++ implementation:
//!
//! - structs are objects. Fields that are null pointers are left out; all others are
//!   there. Of a union there is the field that is set.
//! - a group is an object of its own;
//! - enums are their names, and numbers where the schema has no name;
//! - integers of 64 bits are strings, and so are numbers that are not finite;
//! - `Data` is a list of numbers, `Void` is `null`.
//!
//! What it has no JSON for is written as objects whose only name begins with `$`:
//! capabilities, and pointers that the schema leaves open.

mod pointers;
mod read;
mod write;

pub(crate) use read::{Out, read};
pub(crate) use write::{empty, write};

#[cfg(test)]
mod tests;
