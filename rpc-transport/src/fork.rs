//! What a child process that was forked may do with what it inherits.
//!
//! A `fork` gives the child a copy of every socket but, of all threads, only the one
//! that called it. The copy leads to the same connection: what the child writes lands
//! between the parent's messages, what it reads the parent never gets, and a shutdown
//! in the child ends the connection for both. So everything of this crate that uses a
//! connection's socket remembers its process, and refuses to work in another one.
//!
//! Programs that fork, as servers with several processes do, should connect after they
//! have forked. Listeners may be inherited: parent and children then share the clients
//! among each other.

use std::io;

use capnp_threads_core::process;

/// The process to which something belongs.
///
/// [`FramedReader`](crate::framing::FramedReader) and
/// [`FramedWriter`](crate::framing::FramedWriter) have one of their own. Transports that
/// do without these, and every [`TransportControl`](crate::TransportControl) whose
/// shutdown would reach the parent, should keep one.
///
/// ```
/// use capnp_threads_transport::fork::Owner;
///
/// let owner = Owner::this_process();
/// assert!(owner.is_this_process());
/// owner.check()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pid: u32,
}

impl Owner {
    /// The process that calls this.
    pub fn this_process() -> Self {
        Owner { pid: process::id() }
    }

    /// Whether the process that calls this is the owner.
    pub fn is_this_process(self) -> bool {
        self.pid == process::id()
    }

    /// Refuses to go on in a child of the owner.
    ///
    /// # Errors
    /// The process that calls this is not the owner.
    pub fn check(self) -> io::Result<()> {
        if self.is_this_process() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "this connection belongs to process {}, from which this process, {}, was forked; \
             connect anew in this one",
            self.pid,
            process::id()
        )))
    }
}
