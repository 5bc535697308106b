//! Bytes that flow through a capability.

use std::io::{self, Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use capnp_threads::bytes::{self, ByteReader, ByteStream, ByteWriter};
use capnp_threads::flow::{FixedWindow, FlowControl};
use capnp_threads::serving::Server;
use capnp_threads::transport::{Address, memory, unix};
use capnp_threads::{ConnConfig, Connection, Result, Vat};
use rpc_testing::process::output;
use rpc_tests::peers::{Library, Serving, cxx_extras, or_skip};
use rpc_tests::support::{Watchdog, until};

/// A stream to a reader at the other end of a connection.
fn remote(config: ConnConfig) -> (ByteStream, ByteReader, [Connection; 2]) {
    let (stream, reader) = bytes::pipe(Vat::global());
    let (near, far) = unix::pair().unwrap();
    let there = Vat::global().connect(far, ConnConfig::new().bootstrap(stream)).unwrap();
    let here = Vat::global().connect(near, config).unwrap();
    (here.bootstrap(), reader, [here, there])
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 253).unwrap()).collect()
}

#[test]
fn what_is_written_at_one_end_is_read_at_the_other() {
    let _watchdog = Watchdog::start();
    for length in [0, 1, 100_000, 5 << 20] {
        let (stream, mut reader, _connections) = remote(ConnConfig::new());
        let sent = pattern(length);
        let sending = thread::spawn({
            let sent = sent.clone();
            move || bytes::send_all(&sent[..], stream).unwrap()
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == sent, "{} of {length} bytes", read.len());
        assert_eq!(sending.join().unwrap(), length as u64);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "it stays at its end");
    }
}

#[test]
fn a_writer_does_not_run_ahead_of_its_reader() {
    let _watchdog = Watchdog::start();
    // One write at a time has room.
    let (stream, mut reader, _connections) =
        remote(ConnConfig::new().flow_control(FlowControl::Fixed(FixedWindow::new(1))));
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let writing = thread::spawn(move || {
        let mut writer = ByteWriter::new(stream);
        for _ in 0..200 {
            writer.write_all(&[7; 100]).unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        writer.end().unwrap();
    });
    for read in 0..200 {
        let ahead = written.load(Ordering::SeqCst);
        assert!(ahead <= read + 1, "{ahead} were written when {read} were read");
        reader.read_exact(&mut [0; 100]).unwrap();
    }
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    writing.join().unwrap();
}

#[test]
fn a_writer_is_told_that_its_reader_is_gone() {
    let _watchdog = Watchdog::start();
    let (stream, mut reader, _connections) = remote(ConnConfig::new());
    let mut writer = ByteWriter::new(stream.clone());
    writer.write_all(&[1; 1000]).unwrap();
    reader.read_exact(&mut [0; 500]).unwrap();
    // In the middle of what was written.
    drop(reader);
    until("an error", || writer.write_all(&[2; 1000]).is_err());
    assert!(writer.flush().is_err());
    assert!(writer.end().unwrap_err().reason().contains("nobody reads"));

    // Or while it waits for the end.
    let (stream, reader, _connections) = remote(ConnConfig::new());
    let ending = stream.end_request().send();
    // What is answered behind the end shows that it has come.
    stream.get_substream_request().call().map(drop).unwrap_err();
    drop(reader);
    assert!(ending.wait().map(drop).unwrap_err().reason().contains("nobody reads"));
}

/// Each for itself: any later write fails, too, and would hide what became of an earlier one.
#[test]
fn what_nobody_has_read_and_what_comes_afterwards_is_not_taken() {
    let _watchdog = Watchdog::start();
    let (stream, mut reader, _connections) = remote(ConnConfig::new());
    let mut writer = ByteWriter::new(stream);
    writer.write_all(&[1; 1000]).unwrap();
    reader.read_exact(&mut [0; 500]).unwrap();
    drop(reader);
    assert!(writer.flush().is_err(), "half of it was read");

    let (stream, reader, _connections) = remote(ConnConfig::new());
    let mut writer = ByteWriter::new(stream);
    drop(reader);
    // That nobody reads it may not be known yet.
    let _ = writer.write_all(&[1; 1000]);
    assert!(writer.flush().is_err(), "it came when the reader was gone");
}

#[test]
fn a_source_that_is_interrupted_is_read_on() {
    let _watchdog = Watchdog::start();
    struct Interrupted(u8);
    impl Read for Interrupted {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 | 3 => Err(io::ErrorKind::Interrupted.into()),
                2 => {
                    into[0] = 7;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }
    let (stream, mut reader) = bytes::pipe(Vat::global());
    let sending = thread::spawn(move || bytes::send_all(Interrupted(0), stream));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, [7]);
    assert_eq!(sending.join().unwrap().unwrap(), 1);
}

#[test]
fn a_stream_that_is_cut_off_is_told_from_one_that_has_ended() {
    let _watchdog = Watchdog::start();
    let (stream, mut reader) = bytes::pipe(Vat::global());
    let mut writer = ByteWriter::new(stream);
    writer.write_all(b"some").unwrap();
    let mut read = [0; 4];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"some");
    drop(writer);
    let error = reader.read(&mut read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

    // The connection is lost while the reader waits.
    let (stream, mut reader, [here, _there]) = remote(ConnConfig::new());
    let reading = thread::spawn(move || reader.read(&mut [0; 4]).unwrap_err().kind());
    here.close();
    assert_eq!(reading.join().unwrap(), io::ErrorKind::UnexpectedEof);
    drop(stream);

    // What is to be sent cannot be read.
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("a bad sector"))
        }
    }
    let (stream, mut reader) = bytes::pipe(Vat::global());
    assert!(bytes::send_all(Broken, stream).unwrap_err().reason().contains("a bad sector"));
    assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// Passes on what is written, and fails when it is told to.
struct File(mpsc::Sender<Vec<u8>>);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes == b"fail" {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        self.0.send(bytes.to_vec()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.send(b"flushed".to_vec()).unwrap();
        Ok(())
    }
}

#[test]
fn a_sink_writes_to_a_file_and_lets_go_of_it_at_the_end() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let stream = bytes::sink(Vat::global(), File(tell));
    let mut writer = ByteWriter::new(stream.clone());
    writer.write_all(b"one").unwrap();
    writer.end().unwrap();
    let all: Vec<_> = told.iter().collect();
    assert_eq!(all, [b"one".to_vec(), b"flushed".to_vec()]);
    assert!(ByteWriter::new(stream).end().is_err(), "it was ended before");

    let (tell, told) = mpsc::channel();
    let mut writer = ByteWriter::new(bytes::sink(Vat::global(), File(tell)));
    writer.write_all(b"fail").unwrap();
    let error: capnp_threads::Error = writer.flush().unwrap_err().into();
    assert!(error.reason().contains("the disk is full"), "{error}");
    drop(writer);
    assert!(told.recv().is_err());
}

// ---- With the C++ implementation

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

#[test]
fn cpp_reads_what_is_written() {
    for library in Library::ALL {
        let Some(mut program) = or_skip(cxx_extras(library)) else { continue };
        program.args(["bytes-serve", "127.0.0.1"]);
        let server = Serving::start(program).unwrap();
        let _watchdog = Watchdog::start();
        let address: Address = server.address().parse().unwrap();
        let connection = Vat::global().connect(address.connect().unwrap(), ConnConfig::new());
        let connection = connection.unwrap();
        let sent = pattern(3 << 20);
        assert_eq!(bytes::send_all(&sent[..], connection.bootstrap()).unwrap(), 3 << 20);
        let took = format!("took {} bytes, sum {}\n", sent.len(), sum(&sent));
        until("it to have told", || server.stderr() == took);
        connection.close();
    }
}

#[test]
fn cpp_writes_what_is_read_and_is_told_when_nobody_reads() {
    for library in Library::ALL {
        let Some(program) = or_skip(cxx_extras(library)) else { continue };
        let _watchdog = Watchdog::start();
        let (stream, mut reader) = bytes::pipe(Vat::global());
        let server = Server::new(stream).listen("127.0.0.1:0").unwrap().signals(false);
        let server = server.start().unwrap();
        let send = |length: &str| {
            let mut program = Command::new(program.get_program());
            program.args(["bytes-send", &server.addresses()[0].to_string(), length]);
            thread::spawn(move || output(&mut program))
        };
        let sending = send("3000000");
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == pattern(3_000_000), "{} bytes", read.len());
        assert_eq!(sending.join().unwrap(), "sent: 3000000\n");
        drop(reader);
        let told = send("30000").join().unwrap();
        assert!(told.contains("nobody reads the rest of this stream"), "{told}");
        server.stop_now();
        server.join().unwrap();
    }
}

#[test]
fn a_stream_may_pass_through_a_third_party() -> Result<()> {
    let _watchdog = Watchdog::start();
    let (stream, mut reader, _connections) = remote(ConnConfig::new());
    let (near, far) = memory::pair();
    let _proxy = Vat::global().connect(far, ConnConfig::new().bootstrap(stream))?;
    let connection = Vat::global().connect(near, ConnConfig::new())?;
    let through: ByteStream = connection.bootstrap();
    let sent = pattern(1 << 20);
    let sending = thread::spawn({
        let sent = sent.clone();
        move || bytes::send_all(&sent[..], through)
    });
    let mut read = Vec::new();
    reader.read_to_end(&mut read)?;
    assert!(read == sent);
    sending.join().unwrap().map(drop)
}
