//! What a peer is told of an error.
//!
//! This is decided on the thread that is about to write the message with the error,
//! where no lock is held. If there is an encoder of the application's, that is the send thread
//! or an attendant: see `sending.rs`.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::limits::Limits;
use crate::log::tell;
use crate::panics;
use crate::sync::RwLock;

/// Makes the trace of an error that is sent.
pub(super) type Encode = Arc<dyn Fn(&Error) -> String + Send + Sync>;

/// A trace encoder that may be set while connections use it.
#[derive(Clone, Default)]
pub(super) struct TraceEncoder(Arc<RwLock<Option<Encode>>>);

impl TraceEncoder {
    pub(super) fn set(&self, encode: Option<Encode>) {
        let before = std::mem::replace(&mut *self.0.write(), encode);
        drop(before);
    }

    fn current(&self) -> Option<Encode> {
        self.0.read().clone()
    }
}

impl fmt::Debug for TraceEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.current().is_some() { "set" } else { "not set" })
    }
}

/// On which thread messages are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Anywhere,
    /// The send thread, or an attendant.
    Resident,
}

/// Whether the peer is told the internal detail of an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Detail {
    #[default]
    Hidden,
    Shown,
}

/// Maximum size of a reason or of a trace, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// Lower and upper bound of an exception's budget, in bytes, whatever size of messages
/// the connection takes.
const EXCEPTION: [u64; 2] = [16 << 10, 1 << 20];

/// Turns errors into what a peer is sent.
#[derive(Debug)]
pub(super) struct ExceptionEncoder {
    pub(super) detail: Detail,
    pub(super) encoder: TraceEncoder,
    /// Maximum size of an exception, in bytes: a message larger than the peer's limit
    /// would end the connection.
    budget: usize,
}

impl ExceptionEncoder {
    pub(super) fn new(detail: Detail, encoder: TraceEncoder, limits: &Limits) -> Self {
        let [least, most] = EXCEPTION;
        let budget = (limits.message_words.saturating_mul(8) / 4).clamp(least, most);
        let budget = usize::try_from(budget).unwrap_or(MAX_TEXT);
        ExceptionEncoder { detail, encoder, budget }
    }

    /// The error as the peer will see it; `None` if the application's encoder must not run in
    /// this place.
    pub(super) fn encode(&self, error: &Error, place: Place) -> Option<Error> {
        let trace = match self.encoder.current() {
            None => error.trace().to_owned(),
            Some(_) if place == Place::Anywhere => return None,
            Some(encode) => panics::caught("a trace encoder", || encode(error))
                .unwrap_or_else(|_| error.trace().to_owned()),
        };
        let reason = match (self.detail, error.internal()) {
            (Detail::Hidden, _) | (Detail::Shown, "") => error.reason().to_owned(),
            (Detail::Shown, internal) => format!("{}: {internal}", error.reason()),
        };
        let text = MAX_TEXT.min(self.budget / 4);
        let (reason, trace) = (cut(reason, text), cut(trace, text));
        let mut left = self.budget.saturating_sub(reason.len() + trace.len());
        let fitting = error.details().take_while(|(_, data)| {
            let enough = data.len() <= left;
            left = left.saturating_sub(data.len());
            enough
        });
        let details = fitting.count();
        if details < error.details().len() {
            tell!(WARN, %error, "details of an error are too large to be sent");
        }
        Some(error.as_sent(reason, trace, details))
    }
}

/// The start of a text, if it is longer than `max` bytes.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[allow(clippy::unwrap_used)]
#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(detail: Detail) -> ExceptionEncoder {
        ExceptionEncoder::new(detail, TraceEncoder::default(), &Limits::default())
    }

    #[test]
    fn internal_detail_is_for_debug_mode() {
        let error = Error::failed("no").with_internal("a secret");
        let sent = encoder(Detail::Hidden).encode(&error, Place::Resident).unwrap();
        assert_eq!((sent.reason(), sent.internal()), ("no", ""));
        assert_eq!(
            encoder(Detail::Shown).encode(&error, Place::Resident).unwrap().reason(),
            "no: a secret"
        );
    }

    #[test]
    fn the_encoder_makes_the_trace_and_sees_everything() {
        let encoder = encoder(Detail::Hidden);
        let error = Error::failed("no").with_internal("a secret").with_trace("there");
        assert_eq!(encoder.encode(&error, Place::Resident).unwrap().trace(), "there");
        encoder.encoder.set(Some(Arc::new(|error: &Error| {
            format!("{}, {}, {:?}", error.trace(), error.internal(), error.location().is_some())
        })));
        assert_eq!(
            encoder.encode(&error, Place::Resident).unwrap().trace(),
            "there, a secret, true"
        );
        encoder.encoder.set(Some(Arc::new(|_: &Error| panic!("on purpose"))));
        assert_eq!(encoder.encode(&error, Place::Resident).unwrap().trace(), "there");
    }

    #[test]
    fn an_error_of_any_size_fits_into_a_message() {
        let long = "ä".repeat(1 << 20);
        let error = Error::failed(long.clone())
            .with_trace(long)
            .with_detail(1, vec![1; 1000])
            .with_detail(2, vec![2; 2 << 20])
            .with_detail(3, vec![3]);
        let sent = encoder(Detail::Hidden).encode(&error, Place::Resident).unwrap();
        assert_eq!((sent.reason().len(), sent.trace().len()), (MAX_TEXT, MAX_TEXT));
        assert_eq!(sent.details().map(|(id, _)| id).collect::<Vec<_>>(), [1]);

        let limits = Limits { message_words: 64, ..Limits::default() };
        let sent = ExceptionEncoder::new(Detail::Hidden, TraceEncoder::default(), &limits)
            .encode(&error, Place::Resident)
            .unwrap();
        assert!(sent.reason().len() + sent.trace().len() <= 8 << 10 && sent.details().len() == 1);
    }
}
