//! A transport from any stream to read from and any stream to write to, such as
//! the standard output and input of a child process.

use std::io::{Read, Write};
use std::sync::Arc;

use capnp_threads_core::transport::{PeerDescription, Transport, TransportControl};
use parking_lot::Mutex;

use crate::fork::Owner;
use crate::framing::{FramedReader, FramedWriter};

/// Makes a transport of two halves.
///
/// Finishing the writer flushes and drops `writer`, which should tell the peer
/// that nothing more comes.
///
/// `shutdown` is called once, by the first [`TransportControl::shutdown`]. It has
/// to make blocked reads and writes of the two halves return whatever the peer
/// does; for a child process, kill it:
///
/// ```no_run
/// use std::process::{Command, Stdio};
/// use capnp_threads_core::transport::PeerDescription;
/// use capnp_threads_transport::halves;
///
/// # fn main() -> std::io::Result<()> {
/// let mut child =
///     Command::new("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// let (Some(reader), Some(writer)) = (child.stdout.take(), child.stdin.take()) else {
///     unreachable!("both were piped");
/// };
/// let peer = PeerDescription::from_address(format!("process {}", child.id()));
/// let transport = halves::join(reader, writer, peer, move || {
///     if let Err(error) = child.kill().and_then(|()| child.wait()) {
///         eprintln!("the worker could not be stopped: {error}");
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub fn join(
    reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    peer: PeerDescription,
    shutdown: impl FnOnce() + Send + 'static,
) -> Transport {
    Transport {
        reader: Box::new(FramedReader::new(reader)),
        writer: Box::new(FramedWriter::new(writer)),
        control: Arc::new(Control {
            shutdown: Mutex::new(Some(Box::new(shutdown))),
            peer,
            owner: Owner::this_process(),
        }),
    }
}

struct Control {
    shutdown: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    peer: PeerDescription,
    owner: Owner,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        if !self.owner.is_this_process() {
            return;
        }
        let shutdown = self.shutdown.lock().take();
        if let Some(shutdown) = shutdown {
            shutdown();
        }
    }

    fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc;

    use super::*;
    use crate::testing;
    use rpc_testing::{Blocked, content, message};

    /// A child process that does what `program` does with its input, and what
    /// is called when its transport is shut down.
    fn child(program: &str, argument: &str) -> (Transport, mpsc::Receiver<Child>) {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let (send, receive) = mpsc::channel();
        let peer = PeerDescription::from_address("a child");
        let transport = join(reader, writer, peer, move || {
            child.kill().unwrap();
            send.send(child).unwrap();
        });
        (transport, receive)
    }

    #[test]
    fn a_child_process_is_reached_through_its_pipes() {
        let (mut transport, killed) = child("cat", "-");
        assert_eq!(transport.control.peer().to_string(), "a child");
        for lengths in [&[1, 2, 3][..], &[3000]] {
            transport.writer.write(&mut vec![message(0, lengths)]).unwrap();
            let echo = transport.reader.read().unwrap().unwrap();
            assert_eq!(content(&echo), content(&message(0, lengths)));
        }
        transport.writer.finish().unwrap();
        assert!(transport.reader.read().unwrap().is_none());
        transport.control.shutdown();
        transport.control.shutdown();
        killed.recv().unwrap().wait().unwrap();
        assert!(killed.recv().is_err(), "the closure is called once");
    }

    #[test]
    fn the_closure_wakes_whoever_waits() {
        // A process that neither reads nor writes.
        let (transport, killed) = child("sleep", "1000");
        let Transport { mut reader, mut writer, control } = transport;
        let reading = Blocked::spawn(move || reader.read());
        let writing = Blocked::spawn(move || writer.write(&mut vec![message(0, &[1 << 20])]));
        control.shutdown();
        assert!(reading.join().unwrap().is_none());
        assert!(writing.join().is_err());
        killed.recv().unwrap().wait().unwrap();
    }

    #[test]
    fn any_two_streams_will_do() {
        let (left_reader, right_writer) = crate::pipe::pipe(1 << 20);
        let (right_reader, left_writer) = crate::pipe::pipe(1 << 20);
        let left = join(left_reader, left_writer, PeerDescription::default(), || {});
        let right = join(right_reader, right_writer, PeerDescription::default(), || {});
        testing::check_connected(left, right);
    }
}
