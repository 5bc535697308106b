//! What a server says of itself, for people who call it by hand: its schemas, so that
//! `capnp-threads call` needs none.
//!
//! A server says nothing of itself unless it is told to, with
//! [`Server::describe`](crate::serving::Server::describe). What it says has the names and
//! the comments of everything in the schemas, and anybody who is served may ask.
//!
//! The schemas are what the schema compiler makes of them. A build script keeps them beside
//! the generated code:
//!
//! ```ignore
//! // build.rs
//! capnp_threads_codegen::Compiler::new()
//!     .file("schema/greeter.capnp")
//!     .request_file("greeter.schema")
//!     .run()
//! ```
//!
//! ```ignore
//! const SCHEMA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/greeter.schema"));
//!
//! Server::new(greeter).describe(SCHEMA).listen("*:7000")?.run()
//! ```
//!
//! ```text
//! $ capnp-threads call localhost:7000 Greeter.greet '{"name": "Ada"}'
//! ```

use std::sync::Arc;

use crate::description_capnp::description;
use crate::{Connection, FromClient, Result, Vat};

pub use crate::description_capnp::description::Client as Description;

/// The name under which peers find the [`Description`] of a server.
pub const SCHEMA: &str = "schema";

/// An object that tells these schemas, a serialized `CodeGeneratorRequest`.
///
/// ```
/// use capnp_threads::{Vat, description};
///
/// # fn main() -> capnp_threads::Result<()> {
/// # const SCHEMA: &[u8] = b"as the schema compiler writes it";
/// let described = description::new(Vat::global(), SCHEMA);
/// let response = described.schema_request().call()?;
/// assert_eq!(response.get()?.get_request()?, SCHEMA);
/// # Ok(())
/// # }
/// ```
pub fn new(vat: &Vat, schema: impl Into<Arc<[u8]>>) -> Description {
    vat.export_named("description", Described(schema.into()))
}

/// The [`Description`] of the server at the other end of a connection. Calls of it fail if
/// the server does not describe itself.
///
/// ```
/// use capnp_threads::serving::Server;
/// use capnp_threads::{ConnConfig, Vat, description};
/// # use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {}
///
/// # fn main() -> capnp_threads::Result<()> {
/// # let greeter: greeter::Client = Vat::global().export(Greeter);
/// # const SCHEMA: &[u8] = b"as the schema compiler writes it";
/// let server = Server::new(greeter).describe(SCHEMA).listen("127.0.0.1:0")?.start()?;
///
/// let connection = Vat::global().connect(server.addresses()[0].connect()?, ConnConfig::new())?;
/// let response = description::of(&connection).schema_request().call()?;
/// assert_eq!(response.get()?.get_request()?, SCHEMA);
/// # connection.close();
/// # server.stop();
/// # server.join()?;
/// # Ok(())
/// # }
/// ```
pub fn of(connection: &Connection) -> Description {
    Description::from_client(connection.restore_client(SCHEMA))
}

struct Described(Arc<[u8]>);

impl description::Server for Described {
    fn schema(
        &self,
        _: description::SchemaParams,
        mut results: description::SchemaResults,
    ) -> Result<()> {
        results.get().set_request(&self.0);
        Ok(())
    }
}
