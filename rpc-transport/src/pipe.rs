//! A pipe of bytes in memory, with a bounded buffer.
//!
//! It behaves as the pipes of an operating system do: reading waits for bytes,
//! writing waits for room, and each end notices when the other one is gone.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use capnp_threads_core::memory::GiveBack;
use parking_lot::{Condvar, Mutex};

/// The memory that an empty pipe keeps, in bytes.
const KEPT: usize = 4 << 10;

/// A pipe whose buffer holds `capacity` bytes, at least one.
pub fn pipe(capacity: usize) -> (PipeReader, PipeWriter) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        state: Mutex::new(State { bytes: VecDeque::new(), closed: false }),
        changed: Condvar::new(),
    });
    (PipeReader { shared: Arc::clone(&shared) }, PipeWriter { shared })
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    /// Bytes came or went, or the pipe was closed. One condition is enough: a
    /// pipe cannot be full and empty at once, so both ends never wait together.
    changed: Condvar,
}

struct State {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Shared {
    fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

/// The end of a pipe that bytes come out of. Dropping it closes the pipe.
pub struct PipeReader {
    shared: Arc<Shared>,
}

impl Read for PipeReader {
    /// Waits for bytes; after the pipe was closed, what is left can still be
    /// read.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        while state.bytes.is_empty() && !state.closed && !room.is_empty() {
            self.shared.changed.wait(&mut state);
        }
        let count = state.bytes.read(room)?;
        state.bytes.give_back(KEPT);
        drop(state);
        self.shared.changed.notify_all();
        Ok(count)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The end of a pipe that bytes go into. Dropping it closes the pipe.
pub struct PipeWriter {
    shared: Arc<Shared>,
}

impl PipeWriter {
    /// A handle that closes the pipe from any thread.
    pub fn control(&self) -> PipeControl {
        PipeControl { shared: Arc::clone(&self.shared) }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Waits for room and takes what there is room for.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] after the pipe was closed.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        while state.bytes.len() >= self.shared.capacity && !state.closed {
            self.shared.changed.wait(&mut state);
        }
        if state.closed {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the pipe was closed"));
        }
        let mut written = 0;
        for slice in slices {
            let room = self.shared.capacity - state.bytes.len();
            let count = room.min(slice.len());
            state.bytes.extend(&slice[..count]);
            written += count;
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Closes a pipe from any thread.
#[derive(Clone)]
pub struct PipeControl {
    shared: Arc<Shared>,
}

impl PipeControl {
    /// Wakes whoever waits at either end: the writer fails, the reader gets what
    /// is left and then the end. Calling it twice is harmless.
    pub fn close(&self) {
        self.shared.close();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rpc_testing::Blocked;

    #[test]
    fn a_write_takes_what_there_is_room_for() {
        let (mut reader, mut writer) = pipe(4);
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cde"), IoSlice::new(b"f")];
        assert_eq!(writer.write_vectored(&slices).unwrap(), 4);
        let mut room = [0; 3];
        assert_eq!(reader.read(&mut room).unwrap(), 3);
        assert_eq!(&room, b"abc");
        assert_eq!(writer.write(b"efgh").unwrap(), 3);
        let mut rest = Vec::new();
        drop(writer);
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"defg");
    }

    #[test]
    fn bytes_arrive_in_order_through_a_small_buffer() {
        let (mut reader, mut writer) = pipe(3);
        let sent: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let expected = sent.clone();
        let sender = Blocked::spawn(move || writer.write_all(&sent).unwrap());
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        sender.join();
        assert_eq!(arrived, expected);
    }

    #[test]
    fn a_writer_without_a_reader_fails() {
        let (reader, mut writer) = pipe(1);
        writer.write_all(b"a").unwrap();
        let blocked = Blocked::spawn(move || writer.write_all(b"b"));
        drop(reader);
        assert_eq!(blocked.join().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn closing_wakes_the_reader() {
        let (mut reader, writer) = pipe(1);
        let blocked = Blocked::spawn(move || reader.read(&mut [0]).unwrap());
        writer.control().close();
        writer.control().close();
        assert_eq!(blocked.join(), 0);
    }
}
