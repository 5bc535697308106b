//! A file that a server keeps, and lets its clients read and go on writing.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;

use capnp_threads::prelude::*;
use capnp_threads::serving::Server;
use capnp_threads::{Concurrency, bytes};

use crate::files_capnp::file;

struct Kept(PathBuf);

impl file::Server for Kept {
    fn size(&self, _: file::SizeParams, mut results: file::SizeResults) -> Result<()> {
        results.get().set_bytes(fs::metadata(&self.0)?.len());
        Ok(())
    }

    fn read(&self, params: file::ReadParams, _: file::ReadResults) -> Result<()> {
        let params = params.get()?;
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(params.get_from()))?;
        // This keeps its worker while the client reads; other calls get others.
        bytes::send_all(file, params.get_to()?).map(drop)
    }

    fn append(&self, _: file::AppendParams, mut results: file::AppendResults) -> Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&self.0)?;
        let at = file.seek(SeekFrom::End(0))?;
        let mut results = results.get();
        results.set_at(at);
        // What an earlier stream still brings comes to the places where this one puts it, too.
        results.set_to(bytes::sink(Vat::global(), file));
        Ok(())
    }
}

/// Serves a file until the program is told to end. Prints `ready`, and where.
pub(crate) fn serve(address: &str, path: &str) -> Result<()> {
    let kept: file::Client = Vat::global().export_with(Kept(path.into()), Concurrency::Concurrent);
    let server = Server::new(kept).listen(address)?.start()?;
    for address in server.addresses() {
        println!("ready {address}");
    }
    server.join().map(drop)
}
