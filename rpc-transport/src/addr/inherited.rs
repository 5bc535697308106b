//! Sockets that a supervisor has opened and handed over.

use std::io;

#[cfg(unix)]
use listenfd::ListenFd;

use super::Listener;
#[cfg(unix)]
use crate::{TcpOptions, tcp, unix};

impl Listener {
    /// The listening sockets that a supervisor, such as systemd with its socket units,
    /// has handed over to this process (`LISTEN_FDS`), in its order. None if there are
    /// none, or if they were taken before; and never any on systems that are not like Unix.
    ///
    /// The variables of the environment that tell of them are removed, so that programs
    /// that this one starts do not take them for theirs. Call this before there are
    /// other threads: they might read the environment at the same time.
    ///
    /// ```no_run
    /// use capnp_threads_transport::{Address, Listener};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut listeners = Listener::inherited()?;
    /// if listeners.is_empty() {
    ///     // Started by hand.
    ///     listeners.push("*:7000".parse::<Address>()?.listen()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// One of them is neither a TCP nor a Unix stream socket, or does not listen: with
    /// systemd, set `ListenStream=` and `Accept=no`.
    #[cfg_attr(not(unix), expect(clippy::unnecessary_wraps, reason = "others can fail"))]
    pub fn inherited() -> io::Result<Vec<Self>> {
        inherited()
    }
}

#[cfg(not(unix))]
fn inherited() -> io::Result<Vec<Listener>> {
    Ok(Vec::new())
}

#[cfg(unix)]
fn inherited() -> io::Result<Vec<Listener>> {
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..sockets.len() {
        let unix = sockets.take_unix_listener(index).ok().flatten();
        let listener = if let Some(socket) = unix {
            check_listening(&socket, index)?;
            Listener::Unix(unix::Listener::from_std(socket)?)
        } else {
            let tcp = sockets.take_tcp_listener(index).ok().flatten();
            let socket = tcp.ok_or_else(|| unusable(index))?;
            check_listening(&socket, index)?;
            Listener::Tcp(tcp::Listener::from_std(socket, TcpOptions::new())?)
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn check_listening(socket: &impl std::os::fd::AsFd, index: usize) -> io::Result<()> {
    if rustix::net::sockopt::socket_acceptconn(socket)? {
        return Ok(());
    }
    Err(unusable(index))
}

/// These systems do not tell, and nothing on them hands sockets over in this way.
#[cfg(target_vendor = "apple")]
fn check_listening(_: &impl std::os::fd::AsFd, _: usize) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn unusable(index: usize) -> io::Error {
    let reason = format!(
        "the inherited descriptor {index} is no stream socket that listens; for systemd, set \
         ListenStream= and Accept=no in its socket unit"
    );
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
