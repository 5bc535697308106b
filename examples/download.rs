//! A client that downloads a file, and shows how far it has got. The server is another
//! process, and is killed on the way; the client asks the next one for the rest.
//!
//! The bytes flow through a capability of the interface `ByteStream`, which the client gives
//! away: the server writes to it, and the client reads from it, as from and to files. A slow
//! client holds the server up.
//!
//! ```text
//! cargo run --release --example download
//! cargo run --release --example download -- serve 127.0.0.1:7000 FILE
//! cargo run --release --example download -- 127.0.0.1:7000 FILE
//! ```
//!
//! A client that is killed goes on, too, when it is started again.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};

use capnp_threads::bytes;
use capnp_threads::prelude::*;
use capnp_threads::reconnect::Retry;
use indicatif::{ProgressBar, ProgressStyle};

use files_capnp::file;
use process::Process;

#[path = "support/files.rs"]
mod files;
#[rustfmt::skip]
#[path = "support/generated/files_capnp.rs"]
mod files_capnp;
#[path = "support/process.rs"]
mod process;

/// Saves what is not here yet, and shows how far it is. `after` is told how much is here.
/// Returns how much was.
fn download(
    from: &file::Client,
    path: &str,
    bar: &ProgressBar,
    after: &mut impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    bar.set_length(from.size_request().call()?.get()?.get_bytes());
    let mut saved = OpenOptions::new().create(true).append(true).open(path)?;
    let had = saved.metadata()?.len();
    // What the server writes to one end comes out at the other.
    let (to, mut reader) = bytes::pipe(Vat::global());
    let mut request = from.read_request();
    request.get().set_from(had);
    request.get().set_to(to);
    let reading = request.send();
    let (mut have, mut part) = (had, vec![0; 64 << 10]);
    loop {
        let length = match reader.read(&mut part) {
            Ok(length) => length,
            // The call tells why.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
        };
        let Some(part) = part.get(..length).filter(|part| !part.is_empty()) else { break };
        saved.write_all(part)?;
        have += part.len() as u64;
        bar.set_position(have);
        after(have)?;
    }
    // It fails if the server has not sent all of it.
    reading.wait()?;
    Ok(had)
}

/// Downloads the file of the server at an address, as often as it takes. Returns how much
/// was here when the last attempt began.
fn run(address: &str, path: &str, mut after: impl FnMut(u64) -> Result<()>) -> Result<u64> {
    let bar = ProgressBar::no_length();
    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).or_error()?);
    // Connects anew by itself.
    let from: file::Client = capnp_threads::connect(address)?;
    // Each attempt goes on where the last one has got to.
    let retry = Retry::new().attempts(10).idempotent();
    let had = retry.call(|| download(&from, path, &bar, &mut after))?;
    bar.finish();
    Ok(had)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address, path] => return files::serve(address, path),
        [address, path] => {
            let had = run(address, path, |_| Ok(()))?;
            println!("downloaded; {had} bytes were there before");
            return Ok(());
        }
        _ => {}
    }

    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (original, copy) = (path("original"), path("copy"));
    let contents: Vec<u8> = (0..251).cycle().take(16 << 20).collect();
    fs::write(&original, &contents)?;

    let address = format!("unix:{}", path("socket"));
    let start = || Process::start(&["serve", &address, &original]);
    let (mut server, mut servers) = (start()?, 1);
    let half = contents.len() as u64 / 2;
    let had = run(&address, &copy, |have| {
        // The first server does not last.
        if servers == 1 && have > half {
            server.kill()?;
            (server, servers) = (start()?, 2);
        }
        Ok(())
    })?;
    println!("server {servers} sent the rest: {}", had > 0);
    let copied = fs::read(&copy)?;
    let whole = if copied == contents { "as they were" } else { "but not as they were" };
    println!("{} MiB arrived, {whole}", copied.len() >> 20);
    Ok(())
}
