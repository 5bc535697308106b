//! Generates Send + Sync clients and blocking servers from Cap'n Proto schemas.
//!
//! In a build script:
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), capnp_threads_codegen::Error> {
//!     capnp_threads_codegen::Compiler::new().src_prefix("schema").file("schema/foo.capnp").run()
//! }
//! ```
//!
//! and in the root of the crate, which depends on `capnp-threads`:
//!
//! ```text
//! mod foo_capnp {
//!     include!(concat!(env!("OUT_DIR"), "/foo_capnp.rs"));
//! }
//! ```
//!
//! Data types are those of upstream's generator, `capnpc`. What an interface
//! becomes is described in the module `typed` of `capnp-threads`.
//!
//! # Schemas of the library
//!
//! A schema can import those of `capnp-threads`, whose code is there: `ByteStream` of
//! `/capnp-threads/byte-stream.capnp`, `Items` and `ItemSink` of `/capnp-threads/items.capnp`,
//! `Health` of `/capnp-threads/health.capnp`. Nothing has to be installed or set for this.
//!
//! # Names
//!
//! `fooBar` and `FooBar` become `foo_bar` where Rust wants snake case. A name
//! that Rust does not allow, or that something else in the same module has, gets
//! an underscore: a method `type` is served by `type_`; beside a method `foo`, a
//! nested `struct FooParams` keeps its module `foo_params`, and the parameters of
//! `foo` go to `foo_params_`, which nobody has to name, because
//! `foo::FooParams` is always what a server is given. A schema can choose a name
//! with the annotation `name` of `rust.capnp`.
//!
//! # As a plugin
//!
//! `capnp compile -o capnp-threads:folder foo.capnp` runs the program
//! `capnpc-capnp-threads` of this package, if it is in the search path.

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod compiler;
mod docs;
mod emit;
mod error;
mod generate;
mod inputs;
mod library;
mod names;
mod naming;
mod request;
mod schema;
mod settings;
mod types;

pub use compiler::{Compiler, generate_from_request};
pub use error::{Error, Result};
pub use generate::GeneratedFile;
