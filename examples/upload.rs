//! A client that uploads a file, and shows how far it has got. The server is another
//! process, and is killed on the way; the client goes on with the next one, from where the
//! first had got to.
//!
//! The bytes flow through a capability of the interface `ByteStream`, which the server gives
//! away. Writing to it waits when the server does not keep up, and for nothing else.
//!
//! ```text
//! cargo run --release --example upload
//! cargo run --release --example upload -- serve 127.0.0.1:7000 FILE
//! cargo run --release --example upload -- 127.0.0.1:7000 FILE
//! ```
//!
//! A client that is killed goes on, too, when it is started again.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};

use capnp_threads::bytes::ByteWriter;
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

/// Sends what the server does not have yet, and shows how far it is. `after` is told how much
/// was sent. Returns how much the server had.
fn upload(
    to: &file::Client,
    path: &str,
    bar: &ProgressBar,
    after: &mut impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let response = to.append_request().call()?;
    let had = response.get()?.get_at();
    let mut writer = ByteWriter::new(response.get()?.get_to()?);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(had))?;
    let (mut sent, mut part) = (had, vec![0; 64 << 10]);
    loop {
        let length = file.read(&mut part)?;
        let Some(part) = part.get(..length).filter(|part| !part.is_empty()) else { break };
        // Waits while the window is full, and fails if an earlier part did.
        writer.write_all(part)?;
        sent += part.len() as u64;
        bar.set_position(sent);
        after(sent)?;
    }
    // All of it was sent; now it has arrived.
    writer.end()?;
    Ok(had)
}

/// Uploads a file to the server at an address, as often as it takes. Returns how much the
/// server had when the last attempt began.
fn run(address: &str, path: &str, mut after: impl FnMut(u64) -> Result<()>) -> Result<u64> {
    let bar = ProgressBar::new(fs::metadata(path)?.len());
    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).or_error()?);
    // Connects anew by itself.
    let to: file::Client = capnp_threads::connect(address)?;
    // Each attempt goes on where the last one has got to.
    let retry = Retry::new().attempts(10).idempotent();
    let had = retry.call(|| upload(&to, path, &bar, &mut after))?;
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
            println!("uploaded; {had} bytes were there before");
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
    let start = || Process::start(&["serve", &address, &copy]);
    let (mut server, mut servers) = (start()?, 1);
    let half = contents.len() as u64 / 2;
    let had = run(&address, &original, |sent| {
        // The first server does not last.
        if servers == 1 && sent > half {
            server.kill()?;
            (server, servers) = (start()?, 2);
        }
        Ok(())
    })?;
    println!("server {servers} got the rest: {}", had > 0);
    let copied = fs::read(&copy)?;
    let whole = if copied == contents { "as they were" } else { "but not as they were" };
    println!("{} MiB arrived, {whole}", copied.len() >> 20);
    Ok(())
}
