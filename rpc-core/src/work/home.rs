//! The process to which threads belong.
//!
//! A child that was forked has a copy of everything, but none of the threads that would do
//! the work. Without a check it would wait for them for ever.

use crate::error::{Error, Result};
use crate::process;

/// The process in which something was made that has threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    process: u32,
}

impl Home {
    /// The process that calls this.
    pub(crate) fn here() -> Self {
        Home { process: process::id() }
    }

    /// The id of the process.
    pub(crate) fn process(self) -> u32 {
        self.process
    }

    /// Whether this is that process.
    pub(crate) fn is_here(self) -> bool {
        self.process == process::id()
    }

    /// Refuses to go on in a child of that process.
    ///
    /// # Errors
    /// `failed`: this process was forked.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::failed(format!(
            "this belongs to process {}, from which this process, {}, was forked, and its \
             threads are only there; fork before there are threads, or start another program",
            self.process,
            process::id()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_another_process_is_refused() {
        assert_eq!(Home::here().check(), Ok(()));
        let parent = Home { process: process::id() + 1 };
        let told = parent.check().err().map(|error| error.reason().to_owned());
        assert!(told.is_some_and(|told| told.contains("was forked")));
    }
}
