//! Downloads and uploads that go on after the client's process was killed. That they go on
//! with another server, the examples show by themselves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use capnp_threads::bytes::{self, ByteWriter};
use capnp_threads::serving::{Running, Server};
use capnp_threads::{Concurrency, Error, Result, Vat};
use rpc_testing::process::output;
use rpc_tests::support::{Event, Watchdog};

use crate::examples::example;
use crate::files_capnp::file;

/// The number of bytes after which the first client hears nothing more.
const HALF: usize = 1 << 20;

fn contents() -> Vec<u8> {
    (0..251).cycle().take(2 * HALF).collect()
}

/// A file, and a server that gets no further than half of it with the first client.
#[derive(Clone)]
struct Stuck {
    path: PathBuf,
    /// Where reading or writing began, for each client.
    began: Arc<Mutex<Vec<u64>>>,
    half: Event,
    go_on: Event,
}

impl Stuck {
    fn new(path: PathBuf) -> Self {
        Stuck { path, began: Arc::default(), half: Event::new(), go_on: Event::new() }
    }

    fn serve(&self) -> Running {
        let kept: file::Client = Vat::global().export_with(self.clone(), Concurrency::Concurrent);
        let server = Server::new(kept).listen("127.0.0.1:0").unwrap();
        server.signals(false).start().unwrap()
    }

    /// Whether this is the first client.
    fn begin(&self, at: u64) -> bool {
        let mut began = self.began.lock().unwrap();
        began.push(at);
        began.len() == 1
    }

    fn get_stuck(&self) {
        self.half.set();
        self.go_on.wait();
    }
}

impl file::Server for Stuck {
    fn size(&self, _: file::SizeParams, mut results: file::SizeResults) -> Result<()> {
        results.get().set_bytes(fs::metadata(&self.path)?.len());
        Ok(())
    }

    fn read(&self, params: file::ReadParams, _: file::ReadResults) -> Result<()> {
        let params = params.get()?;
        let from = usize::try_from(params.get_from()).map_err(|_| Error::failed("too far"))?;
        let contents = fs::read(&self.path)?;
        if !self.begin(from as u64) {
            return bytes::send_all(&contents[from..], params.get_to()?).map(drop);
        }
        let mut writer = ByteWriter::new(params.get_to()?);
        writer.write_all(&contents[from..HALF])?;
        writer.flush()?;
        self.get_stuck();
        Err(Error::disconnected("stuck"))
    }

    fn append(&self, _: file::AppendParams, mut results: file::AppendResults) -> Result<()> {
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&self.path)?;
        let at = file.seek(SeekFrom::End(0))?;
        let left = if self.begin(at) { HALF } else { usize::MAX };
        let mut results = results.get();
        results.set_at(at);
        results.set_to(bytes::sink(Vat::global(), Sticky { file, left, stuck: self.clone() }));
        Ok(())
    }
}

/// What gets stuck when it has written so many bytes.
struct Sticky {
    file: File,
    left: usize,
    stuck: Stuck,
}

impl Write for Sticky {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.stuck.get_stuck();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let length = self.file.write(&bytes[..bytes.len().min(self.left)])?;
        self.left -= length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A program that is killed at the latest when this is dropped, so that a test that fails
/// leaves none behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Runs a client until it is stuck, kills it, and runs it again to its end. Returns what
/// that one prints.
fn twice(name: &str, server: &Stuck, path: &str) -> String {
    let running = server.serve();
    let address = running.addresses()[0].to_string();
    let client = || {
        let mut client = example(name);
        client.args([&*address, path]);
        client
    };
    let first = Killed(client().stdout(Stdio::null()).spawn().unwrap());
    server.half.wait();
    drop(first);
    server.go_on.set();
    let printed = output(&mut client());
    running.stop_now();
    running.join().unwrap();
    printed
}

#[test]
fn a_download_goes_on_where_the_killed_client_had_got_to() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fs::write(folder.path().join("original"), contents()).unwrap();
    let server = Stuck::new(folder.path().join("original"));
    let printed = twice("download", &server, copy.to_str().unwrap());
    let began = server.began.lock().unwrap().clone();
    let &[0, again] = &began[..] else { panic!("{began:?}") };
    // What it had read last it may not have written any more.
    assert!(0 < again && again <= HALF as u64, "{again}");
    assert_eq!(printed, format!("downloaded; {again} bytes were there before\n"));
    assert!(fs::read(copy).unwrap() == contents());
}

#[test]
fn an_upload_goes_on_where_the_server_has_got_to_when_the_client_was_killed() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    fs::write(&original, contents()).unwrap();
    let server = Stuck::new(folder.path().join("copy"));
    let printed = twice("upload", &server, original.to_str().unwrap());
    assert_eq!(*server.began.lock().unwrap(), [0, HALF as u64]);
    assert_eq!(printed, format!("uploaded; {HALF} bytes were there before\n"));
    assert!(fs::read(&server.path).unwrap() == contents());
}
