//! Flow controllers of the application and of plug-ins, whose panics go no further.

use std::cell::Cell;
use std::time::Duration;

use super::{FixedWindow, FlowController};
use crate::panics;

/// A controller that is not this library's. Once it has panicked, the window is
/// [`FixedWindow::DEFAULT`].
pub(super) struct Caught {
    /// Present until drop.
    controller: Option<Box<dyn FlowController>>,
    broken: Cell<bool>,
}

impl Caught {
    /// Makes a controller.
    pub(super) fn made_by(
        make: impl FnOnce() -> Box<dyn FlowController>,
    ) -> Box<dyn FlowController> {
        match panics::caught("what makes flow controllers", make) {
            Ok(controller) => {
                Box::new(Caught { controller: Some(controller), broken: Cell::new(false) })
            }
            Err(_) => Box::new(FixedWindow::DEFAULT),
        }
    }

    /// What the controller says; `None` if it panics, or has panicked before.
    fn ask<R>(&self, ask: impl FnOnce() -> R) -> Option<R> {
        if self.broken.get() {
            return None;
        }
        let said = panics::caught("a flow controller", ask).ok();
        self.broken.set(said.is_none());
        said
    }
}

impl FlowController for Caught {
    fn window(&self) -> u64 {
        let said = self.controller.as_ref().and_then(|own| self.ask(|| own.window()));
        said.unwrap_or_else(|| FixedWindow::DEFAULT.window())
    }

    fn sent(&mut self, bytes: u64, now: Duration) {
        if let Some(mut own) = self.controller.take() {
            self.ask(|| own.sent(bytes, now));
            self.controller = Some(own);
        }
    }

    fn answered(&mut self, bytes: u64, sent: Duration, now: Duration) {
        if let Some(mut own) = self.controller.take() {
            self.ask(|| own.answered(bytes, sent, now));
            self.controller = Some(own);
        }
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let own = self.controller.take();
        let _ = panics::caught("the drop of a flow controller", || drop(own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics in one of its methods, and when it is dropped.
    struct Panics(&'static str);

    impl Panics {
        fn comes_to(&self, method: &str) {
            assert!(self.0 != method, "on purpose");
        }
    }

    impl FlowController for Panics {
        fn window(&self) -> u64 {
            self.comes_to("window");
            7
        }

        fn sent(&mut self, _: u64, _: Duration) {
            self.comes_to("sent");
        }

        fn answered(&mut self, _: u64, _: Duration, _: Duration) {
            self.comes_to("answered");
        }
    }

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_controller_that_panics_is_replaced_by_a_fixed_window() {
        for method in ["window", "sent", "answered"] {
            let mut controller = Caught::made_by(|| Box::new(Panics(method)));
            controller.sent(1, Duration::ZERO);
            controller.answered(1, Duration::ZERO, Duration::ZERO);
            assert_eq!(controller.window(), 64 << 10, "after {method}");
            controller.sent(1, Duration::ZERO);
            controller.answered(1, Duration::ZERO, Duration::ZERO);
        }
        let controller = Caught::made_by(|| Box::new(Panics("none of them")));
        assert_eq!(controller.window(), 7);
        assert_eq!(Caught::made_by(|| panic!("on purpose")).window(), 64 << 10);
    }
}
