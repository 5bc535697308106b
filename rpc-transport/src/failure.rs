//! Errors that say which address they are about.

use std::fmt::{self, Display};
use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// What an attempt met, and at which address. The errors of `main` are printed with
/// `Debug`, so that this prints it for people, too.
#[derive(Error)]
#[error("cannot {attempt} {address}: {error}")]
struct Failure {
    attempt: &'static str,
    address: String,
    #[source]
    error: io::Error,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says of an error that it came of connecting to `address`.
pub(crate) fn connecting(address: impl Display, error: io::Error) -> io::Error {
    failure("connect to", address, error)
}

/// Says of an error that it came of listening at `address`.
pub(crate) fn listening(address: impl Display, error: io::Error) -> io::Error {
    failure("listen at", address, error)
}

fn failure(attempt: &'static str, address: impl Display, error: io::Error) -> io::Error {
    // The system has no kind for this, only numbers.
    let kind = if is_exhaustion(&error) { io::ErrorKind::ResourceBusy } else { error.kind() };
    io::Error::new(kind, Failure { attempt, address: address.to_string(), error })
}

/// Whether an error of this crate, or of the standard library, says that the system was
/// out of something: file descriptors, memory or buffers. Such a lack may pass, and says
/// nothing about the peer.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
    let error = inner.map_or(error, |failure| &failure.error);
    Errno::from_io_error(error).is_some_and(|errno| EXHAUSTION.contains(&errno))
}

#[cfg(unix)]
const EXHAUSTION: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
#[cfg(not(unix))]
const EXHAUSTION: &[Errno] = &[Errno::MFILE, Errno::NOBUFS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_the_kind_are_told_and_exhaustion_is_recognised() {
        let refused = connecting("a:1", io::Error::from(Errno::CONNREFUSED));
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(refused.to_string().starts_with("cannot connect to a:1: "), "{refused}");
        assert!(format!("{refused:?}").contains(&refused.to_string()), "{refused:?}");
        assert!(!is_exhaustion(&refused));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let error = listening("a:1", errno.into());
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
            assert!(error.to_string().starts_with("cannot listen at a:1: "), "{error}");
            assert!(is_exhaustion(&error) && is_exhaustion(&errno.into()));
        }
    }
}
