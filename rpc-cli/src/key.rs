//! `capnp-threads key`: the key of a vat, and the id by which others know it.

use std::path::PathBuf;

use capnp_threads_transport::tls::VatKey;

use crate::failure::{Failure, Result};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file with the key. It is made if there is none; nobody but its owner may have
    /// access to it
    file: PathBuf,
}

/// Prints the id of the vat that has the key.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let key = VatKey::load_or_create(&arguments.file).map_err(Failure::command)?;
    crate::print(&format!("{}\n", key.id()))
}
