//! The two threads of a socket.

use std::io::BufReader;
use std::sync::Arc;

use super::link::Link;
use super::parameters::Dialect;
use super::reader::{Input, Reader};
use super::socket::Socket;
use super::writer::Writer;

/// Serves a socket whose handshake is done, until it has ended. Starts the
/// writing thread and is the reading one.
pub(super) fn serve(link: &Arc<Link>, dialect: Dialect, input: BufReader<Input>) {
    let socket = input.get_ref().socket().clone();
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
    let mut reader = Reader::new(dialect, input, link);
    reader.wait(true);
    let outcome = match socket.forget_time() {
        Ok(()) => link.read_all(reader, &socket),
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
