//! An iterator in one process that is pulled from in another, as an iterator.
//!
//! A server has entries of a log, and offers those from a given one on. It makes an entry
//! when somebody wants it, and nothing beforehand. The client looks for those that matter.
//! Its server is killed on the way, and it goes on with the next one, after the last entry
//! that it has. What it has found it pushes into a sink of the server's.
//!
//! ```text
//! cargo run --example pull
//! ```

use std::env;
use std::io::BufRead;

use capnp_threads::capnp::text;
use capnp_threads::items::{self, ItemSink, Items};
use capnp_threads::offer::ObjectId;
use capnp_threads::prelude::*;
use capnp_threads::serving::Server;
use capnp_threads::transport::{Address, PeerDescription};
use indicatif::ProgressBar;

use process::Process;

#[path = "support/process.rs"]
mod process;

const ENTRIES: u64 = 10_000;

type Item<'a> = items::item::Reader<'a, text::Owned>;

/// What the server offers, by name: `from:N`, and `found`.
fn offered(object: &ObjectId) -> Result<Client> {
    let name = object.text()?;
    if name == "found" {
        let sink: ItemSink<text::Owned> = items::sink(Vat::global(), |item: Item<'_>| {
            println!("found {}", item.get_value()?.to_str()?);
            Ok(())
        });
        return Ok(sink.into_client());
    }
    let from: u64 = name.trim_start_matches("from:").parse().or_error()?;
    let entries = (from..ENTRIES).map(|number| {
        Ok(if number % 4_000 == 3_999 { format!("error {number}") } else { "fine".to_owned() })
    });
    let entries: Items<text::Owned> =
        items::serve(Vat::global(), entries, |entry, mut to| Ok(to.set_value(&*entry)?));
    Ok(entries.into_client())
}

/// The server: a process of its own, which says when it serves.
fn serve(address: &str) -> Result<()> {
    let server = Server::with_config(|_| {
        Ok(ConnConfig::new().restorer(|object: &ObjectId, _: &PeerDescription| offered(object)))
    });
    let server = server.listen(address)?.start()?;
    println!("ready");
    server.join()?;
    Ok(())
}

fn main() -> Result<()> {
    if let [_, address] = &env::args().collect::<Vec<_>>()[..] {
        return serve(address);
    }
    let folder = tempfile::tempdir()?;
    let address: Address =
        format!("unix:{}", folder.path().join("socket").display()).parse().or_error()?;
    let bar = ProgressBar::new(ENTRIES);
    let (mut seen, mut servers, mut found) = (0, 0, Vec::new());
    while seen < ENTRIES {
        let mut server = Process::start(&[&address.to_string()])?;
        servers += 1;
        let connection = Vat::global().connect(address.connect()?, ConnConfig::new())?;
        let entries: Items<text::Owned> = connection.restore(&*format!("from:{seen}"));
        let entries = items::pull(entries, |item| Ok(item.get_value()?.to_string()?));
        for entry in entries.batch(100).ahead(2) {
            match entry {
                Ok(entry) if entry != "fine" => found.push(entry),
                Ok(_) => {}
                // The next server has the rest.
                Err(error) if error.kind() == capnp_threads::ErrorKind::Disconnected => break,
                Err(error) => return Err(error),
            }
            seen += 1;
            bar.set_position(seen);
            if servers == 1 && seen == ENTRIES / 2 {
                server.kill()?;
            }
        }
        if seen == ENTRIES {
            let sink: ItemSink<text::Owned> = connection.restore("found");
            let found = found.drain(..).map(Ok);
            let count = items::send_all(found, sink, |entry, mut to| Ok(to.set_value(&*entry)?))?;
            for _ in 0..count {
                let mut line = String::new();
                server.printed.read_line(&mut line)?;
                print!("{line}");
            }
        }
        connection.close();
    }
    bar.finish();
    println!("{seen} entries from {servers} servers");
    Ok(())
}
