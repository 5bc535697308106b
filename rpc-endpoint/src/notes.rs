//! What is to be logged and was noticed where logging is not possible.
//!
//! A subscriber of log messages is code of the application, which must not run under a
//! lock. And what peers can bring about as often as they like must not fill the log. So
//! such things are noted, and the thread that keeps time logs them, a few at a time.

use capnp_threads_core::log::tell;
use parking_lot::Mutex;

/// The most notes that are logged at a time.
const MOST: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Notes {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    texts: Vec<String>,
    left_out: usize,
}

impl Notes {
    pub(crate) fn add(&self, text: impl FnOnce() -> String) {
        let mut noted = self.noted.lock();
        if noted.texts.len() < MOST {
            noted.texts.push(text());
        } else {
            noted.left_out += 1;
        }
    }

    /// Logs what was noted. No lock is held.
    pub(crate) fn log(&self) {
        let noted = std::mem::take(&mut *self.noted.lock());
        for text in noted.texts {
            tell!(WARN, "{text}");
        }
        if noted.left_out > 0 {
            tell!(WARN, "{} more like these", noted.left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_and_the_others_counted() {
        let notes = Notes::default();
        for number in 0..100 {
            notes.add(|| number.to_string());
        }
        assert_eq!(notes.noted.lock().texts.len(), MOST);
        assert_eq!(notes.noted.lock().left_out, 100 - MOST);
        notes.log();
        assert!(notes.noted.lock().texts.is_empty());
    }
}
