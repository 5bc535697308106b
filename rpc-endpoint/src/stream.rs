//! The two threads of a socket.

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::deadline::Deadline;
use super::link::Link;
use super::parameters::Dialect;
use super::socket::Socket;
use super::wire::{self, Control, Header, WireError};
use super::writer::Writer;

/// The reading side of a socket.
pub(super) struct Input {
    socket: Arc<Socket>,
    /// When reads begin to fail.
    deadline: Deadline,
    heard: Option<Arc<AtomicBool>>,
}

impl Input {
    /// To be used in a handshake.
    pub(super) fn until(socket: Arc<Socket>, deadline: Deadline) -> BufReader<Self> {
        let input = Input { socket, deadline, heard: None };
        BufReader::with_capacity(64 << 10, input)
    }
}

impl Read for Input {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(room, self.deadline.remaining())?;
        if let Some(heard) = &self.heard
            && count > 0
        {
            heard.store(true, Ordering::SeqCst);
        }
        Ok(count)
    }
}

/// Serves a socket whose handshake is done, until it has ended. Starts the
/// writing thread and is the reading one.
pub(super) fn serve(link: &Arc<Link>, dialect: Dialect, mut input: BufReader<Input>) {
    let socket = input.get_ref().socket.clone();
    if dialect == Dialect::Multiplexed {
        keep_little_in_the_system(&socket);
    }
    let (writer, writers_socket) = (link.clone(), socket.clone());
    let started = link.local.network.spawn("endpoint-write", move || {
        write_all(&writer, dialect, &writers_socket);
    });
    if let Err(error) = started {
        link.broken(&format!("there is no thread for the socket: {error}"));
    }
    input.get_mut().deadline = Deadline::NEVER;
    input.get_mut().heard = Some(link.heard.clone());
    let outcome = match socket.forget_time() {
        Ok(()) => read_all(link, dialect, &mut input),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => link.broken("the peer closed the socket"),
        Err(error) => link.broken(&error),
    }
    link.local.network.done_with(&socket);
}

/// What the system has taken cannot be overtaken any more.
fn keep_little_in_the_system(socket: &Socket) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // Without it, urgent messages are late, but nothing is wrong.
        let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(128 << 10);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = socket;
    }
}

fn read_all(
    link: &Arc<Link>,
    dialect: Dialect,
    input: &mut BufReader<Input>,
) -> Result<(), WireError> {
    // Incomplete messages by their connection.
    let mut started: HashMap<u32, Vec<u8>> = HashMap::new();
    while link.may_read() {
        match wire::read_header(input, dialect)? {
            None => return Ok(()),
            Some(Header::Control(control)) => {
                if let Control::Close { lcid } = control {
                    started.remove(&lcid);
                    started.give_back(KEPT);
                }
                link.control(control);
            }
            Some(Header::Data { lcid, length, more }) => {
                if !link.data(lcid, length, more) {
                    io::copy(&mut input.take(length.into()), &mut io::sink())?;
                } else if more {
                    wire::read_payload(input, length, started.entry(lcid).or_default())?;
                } else {
                    let mut message = started.remove(&lcid).unwrap_or_default();
                    started.give_back(KEPT);
                    wire::read_payload(input, length, &mut message)?;
                    link.deliver(lcid, message);
                }
            }
        }
    }
    Ok(())
}

fn write_all(link: &Arc<Link>, dialect: Dialect, socket: &Arc<Socket>) {
    let mut writer = Box::new(Writer::new(dialect, socket.clone()));
    while let Some(next) = link.next_batch(writer) {
        writer = next;
        if let Err(error) = writer.write_all() {
            link.broken(&error);
            socket.shut();
            return;
        }
    }
    // The reader goes on until the peer does the same, or somebody shuts the
    // socket.
    if socket.finish().is_err() {
        socket.shut();
    }
}
