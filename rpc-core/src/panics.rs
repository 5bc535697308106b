//! Calls into code that is not this library's, whose panics end there.

use crate::log::tell;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often a panic's payload may panic in its own drop before it is left alone.
const MAX_DROPS: usize = 8;

/// Runs code of the application or of a plug-in. A panic of that code goes no further,
/// because the rest of what this thread does is not concerned. The panic is logged with
/// the name of what panicked, such as "a destructor".
///
/// # Errors
/// The code panicked.
pub(crate) fn caught<R>(what: &str, code: impl FnOnce() -> R) -> Result<R, Panicked> {
    let outcome = catch(code);
    if let Err(panicked) = &outcome {
        tell!(ERROR, message = panicked.message, "{what} panicked");
    }
    outcome
}

/// As [`caught`], for callers that log the panic themselves.
///
/// # Errors
/// The code panicked.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        let panicked = Panicked { message: message(&*payload).to_owned() };
        drop_payload(payload);
        panicked
    })
}

/// What is left of a panic.
#[derive(Debug)]
pub(crate) struct Panicked {
    /// The text of the panic; empty if its payload was not a text.
    pub(crate) message: String,
}

/// Drops what a panic carried. That is the application's too: its drop may panic, with a
/// payload that has to be dropped in turn.
fn drop_payload(mut payload: Box<dyn Any + Send>) {
    for _ in 0..MAX_DROPS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    // Each drop makes another panic, without end.
    std::mem::forget(payload);
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<&str>() {
        Some(text) => text,
        None => payload.downcast_ref::<String>().map_or("", |text| text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::panic::panic_any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_panic_leaves_its_text() {
        assert_eq!(catch(|| 7).unwrap(), 7);
        assert_eq!(caught("a test", || panic!("on purpose")).unwrap_err().message, "on purpose");
        assert_eq!(catch(|| panic!("{}", 7)).unwrap_err().message, "7");
        assert_eq!(catch(|| panic_any(7)).unwrap_err().message, "");
    }

    #[test]
    fn what_it_carries_is_dropped_even_if_that_panics() {
        struct Counted(Arc<AtomicUsize>, bool);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
                assert!(!self.1, "on purpose");
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        for panics in [false, true] {
            let carried = Counted(Arc::clone(&drops), panics);
            catch(|| panic_any(carried)).unwrap_err();
        }
        assert_eq!(drops.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_payload_that_panics_again_and_again_is_given_up() {
        static DROPS: AtomicUsize = AtomicUsize::new(0);
        /// It takes no memory: the one that is given up is no leak.
        struct Endless;
        impl Drop for Endless {
            fn drop(&mut self) {
                DROPS.fetch_add(1, Ordering::SeqCst);
                panic_any(Endless);
            }
        }
        catch(|| panic_any(Endless)).unwrap_err();
        assert_eq!(DROPS.load(Ordering::SeqCst), MAX_DROPS);
    }
}
