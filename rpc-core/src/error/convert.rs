//! Conversions from and to errors of other libraries.

use std::error::Error as StdError;
use std::io;

use super::{Error, ErrorKind};

/// Reading a message yields the capnp crate's errors; they keep their kind.
impl From<capnp::Error> for Error {
    #[track_caller]
    fn from(error: capnp::Error) -> Self {
        let kind = match error.kind {
            capnp::ErrorKind::Overloaded => ErrorKind::Overloaded,
            capnp::ErrorKind::Disconnected => ErrorKind::Disconnected,
            capnp::ErrorKind::Unimplemented => ErrorKind::Unimplemented,
            _ => ErrorKind::Failed,
        };
        let reason = match (error.kind, error.extra.is_empty()) {
            // These four reasons say nothing beyond the kind, which is kept anyway.
            (
                capnp::ErrorKind::Failed
                | capnp::ErrorKind::Overloaded
                | capnp::ErrorKind::Disconnected
                | capnp::ErrorKind::Unimplemented,
                false,
            ) => error.extra,
            _ => error.to_string(),
        };
        Error::new(kind, reason)
    }
}

/// Keeps the kind and the reason. The capnp crate's errors have no place for the rest.
impl From<Error> for capnp::Error {
    fn from(error: Error) -> Self {
        let reason = error.reason().to_owned();
        match error.kind() {
            ErrorKind::Failed => capnp::Error::failed(reason),
            ErrorKind::Overloaded => capnp::Error::overloaded(reason),
            ErrorKind::Disconnected => capnp::Error::disconnected(reason),
            ErrorKind::Unimplemented => capnp::Error::unimplemented(reason),
        }
    }
}

impl From<capnp::NotInSchema> for Error {
    #[track_caller]
    fn from(error: capnp::NotInSchema) -> Self {
        Error::failed(format!("a value is not in this version of the schema: {error}"))
    }
}

/// - `disconnected`: a connection was lost, or there is nothing to connect to.
/// - `overloaded`: something is exhausted, busy, or has taken too long.
/// - `unimplemented`: the system does not have the operation.
/// - `failed`: everything else.
///
/// An [`Error`] that was wrapped by [`io::Error::other`] comes out as it was.
impl From<io::Error> for Error {
    #[track_caller]
    fn from(error: io::Error) -> Self {
        if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return inner.clone();
        }
        let kind = match error.raw_os_error() {
            Some(number) if OUT_OF_DESCRIPTORS.contains(&number) => ErrorKind::Overloaded,
            _ => kind_of_io(error.kind()),
        };
        Error::new(kind, error.to_string())
    }
}

/// `ENFILE` and `EMFILE`, which have these numbers on every Unix and for which the standard
/// library has no kind.
const OUT_OF_DESCRIPTORS: [i32; 2] = [23, 24];

fn kind_of_io(kind: io::ErrorKind) -> ErrorKind {
    use io::ErrorKind as Io;
    match kind {
        Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::ConnectionRefused
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown
        | Io::NotConnected
        | Io::BrokenPipe
        | Io::UnexpectedEof => ErrorKind::Disconnected,
        Io::OutOfMemory
        | Io::QuotaExceeded
        | Io::StorageFull
        | Io::ResourceBusy
        | Io::TimedOut
        | Io::WouldBlock => ErrorKind::Overloaded,
        Io::Unsupported => ErrorKind::Unimplemented,
        _ => ErrorKind::Failed,
    }
}

/// Keeps everything: converting back gives the same error.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            _ if error.is_timeout() => io::ErrorKind::TimedOut,
            ErrorKind::Failed => io::ErrorKind::Other,
            ErrorKind::Overloaded => io::ErrorKind::ResourceBusy,
            ErrorKind::Disconnected => io::ErrorKind::ConnectionReset,
            ErrorKind::Unimplemented => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// An error of a type that has a conversion of its own is converted that way. Every
/// other error is `failed`; its sources are kept as [internal](Error::internal) detail.
impl From<Box<dyn StdError + Send + Sync>> for Error {
    #[track_caller]
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        let error = match error.downcast::<Error>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        let error = match error.downcast::<io::Error>() {
            Ok(error) => return (*error).into(),
            Err(error) => error,
        };
        let error = match error.downcast::<capnp::Error>() {
            Ok(error) => return (*error).into(),
            Err(error) => error,
        };
        let failed = Error::failed(error.to_string());
        let causes: Vec<String> = std::iter::successors(error.source(), |cause| (*cause).source())
            .map(ToString::to_string)
            .collect();
        if causes.is_empty() { failed } else { failed.with_internal(causes.join(": ")) }
    }
}

/// Turns errors of every type into this library's.
///
/// The common errors of the standard library and of the capnp crate convert with `?`
/// alone. For those of other types there is [`or_error`](Self::or_error). (Rust allows no
/// conversion from all types of errors into one that is an error itself.)
pub trait ResultExt<T> {
    /// The same result with this library's error. An error of this library, of the capnp
    /// crate or of I/O keeps its kind. Every other one is `failed`, with its text as the
    /// reason, and its sources as [internal](Error::internal) detail.
    ///
    /// # Errors
    /// The converted error.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use capnp_threads_core::{Result, ResultExt};
    ///
    /// fn address(text: &str) -> Result<SocketAddr> {
    ///     let address = text.parse::<SocketAddr>().or_error()?;
    ///     Ok(address)
    /// }
    /// let error = address("localhost:http").unwrap_err();
    /// assert_eq!(error.to_string(), "failed: invalid socket address syntax");
    /// ```
    fn or_error(self) -> Result<T, Error>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for Result<T, E> {
    #[track_caller]
    fn or_error(self) -> Result<T, Error> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(Error::from(error.into())),
        }
    }
}

/// Errors of the standard library that a method may meet while it reads its
/// parameters.
macro_rules! failed {
    ($($of:ty: $what:literal),* $(,)?) => {$(
        impl From<$of> for Error {
            #[track_caller]
            fn from(error: $of) -> Self {
                Error::failed(format!(concat!($what, ": {}"), error))
            }
        }
    )*};
}

failed! {
    std::str::Utf8Error: "text is not valid UTF-8",
    std::string::FromUtf8Error: "text is not valid UTF-8",
    std::num::TryFromIntError: "a number is out of range",
    std::num::ParseIntError: "text is not a whole number",
    std::num::ParseFloatError: "text is not a number",
    std::array::TryFromSliceError: "data has another length than expected",
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::error::Timeout;

    #[derive(Debug, thiserror::Error)]
    #[error("no settings")]
    struct Outer(#[source] io::Error);

    const KINDS: [ErrorKind; 4] = [
        ErrorKind::Failed,
        ErrorKind::Overloaded,
        ErrorKind::Disconnected,
        ErrorKind::Unimplemented,
    ];

    #[test]
    fn an_error_keeps_kind_and_reason_through_the_capnp_crate_and_back() {
        for kind in KINDS {
            let error = Error::new(kind, "the reason");
            let back = Error::from(capnp::Error::from(error.clone()));
            assert_eq!(back, error);
            assert_eq!(back.reason(), "the reason");
        }
    }

    #[test]
    fn an_error_keeps_everything_through_an_io_error_and_back() {
        for kind in KINDS {
            let error = Error::new(kind, "x").with_trace("here").with_detail(7, vec![1]);
            let wrapped = io::Error::from(error.clone());
            assert_eq!(kind_of_io(wrapped.kind()), kind);
            let back = Error::from(wrapped);
            assert_eq!(back, error);
            assert_eq!((back.trace(), back.detail(7)), ("here", Some(&[1][..])));
        }
    }

    #[test]
    fn a_timeout_stays_one_through_an_io_error() {
        for how_far in [Timeout::NeverSent, Timeout::MayHaveRun] {
            let wrapped = io::Error::from(Error::timed_out(how_far, "late").with_trace("here"));
            assert_eq!(wrapped.kind(), io::ErrorKind::TimedOut);
            let back = Error::from(wrapped);
            assert_eq!((back.timeout(), back.kind()), (Some(how_far), ErrorKind::Overloaded));
        }
        assert!(!Error::overloaded("busy").is_timeout());
    }

    #[test]
    fn io_errors_get_the_kind_that_says_what_to_do() {
        for (io, kind) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Disconnected),
            (io::ErrorKind::StorageFull, ErrorKind::Overloaded),
            (io::ErrorKind::TimedOut, ErrorKind::Overloaded),
            (io::ErrorKind::Unsupported, ErrorKind::Unimplemented),
            (io::ErrorKind::NotFound, ErrorKind::Failed),
        ] {
            assert_eq!(Error::from(io::Error::from(io)).kind(), kind, "{io}");
        }
        for number in OUT_OF_DESCRIPTORS {
            let error = Error::from(io::Error::from_raw_os_error(number));
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        }
    }

    #[test]
    fn a_boxed_error_is_converted_as_what_it_is() {
        fn boxed(error: impl StdError + Send + Sync + 'static) -> Error {
            Error::from(Box::<dyn StdError + Send + Sync>::from(error))
        }
        assert_eq!(boxed(Error::overloaded("x")), Error::overloaded("x"));
        assert_eq!(
            boxed(io::Error::from(io::ErrorKind::BrokenPipe)).kind(),
            ErrorKind::Disconnected
        );
        assert_eq!(boxed(capnp::Error::unimplemented("y".into())), Error::unimplemented("y"));
        let failed = boxed(Outer(io::Error::other("it is locked")));
        assert_eq!((failed.reason(), failed.internal()), ("no settings", "it is locked"));
    }

    #[test]
    fn errors_of_every_type_convert() {
        fn converted(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
            Err::<(), _>(error).or_error().unwrap_err()
        }
        let failed: std::result::Result<(), Outer> = Err(Outer(io::Error::other("it is locked")));
        let error = failed.or_error().unwrap_err();
        assert_eq!(error.location().map(Location::line), Some(line!() - 1));
        assert_eq!((error.reason(), error.internal()), ("no settings", "it is locked"));
        assert_eq!(converted(std::fmt::Error).kind(), ErrorKind::Failed);
        assert_eq!(converted("a text"), Error::failed("a text"));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(converted(refused).kind(), ErrorKind::Disconnected);
        assert_eq!(converted(capnp::Error::overloaded("x".into())), Error::overloaded("x"));
        // One that is this library's already keeps all.
        let own = Error::timed_out(Timeout::NeverSent, "late").with_trace("here");
        let kept = converted(own.clone());
        assert_eq!((kept.timeout(), kept.trace()), (own.timeout(), own.trace()));
        assert_eq!(Ok::<_, std::fmt::Error>(7).or_error(), Ok(7));
    }

    #[test]
    fn an_error_tells_where_it_was_made_or_converted() {
        fn fails() -> Result<u8, Error> {
            Ok("x".parse::<u8>()?)
        }
        let made = Error::failed("x");
        assert!(made.location().is_some_and(|location| location.line() == line!() - 1));
        let converted = fails().map_err(|error| error.location().map(Location::file));
        assert_eq!(converted, Err(Some(file!())));
        assert_eq!(
            Error::received(ErrorKind::Failed, "x".into(), String::new(), vec![]).location(),
            None
        );
    }
}
