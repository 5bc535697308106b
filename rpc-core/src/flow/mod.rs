//! Streams: how much may be on its way to a capability.
//!
//! A method that is declared `-> stream` is called to pass data on, not to get a
//! result. Sending such a call returns as soon as the *window* has room for another
//! one, which usually is at once and long before the call has returned. When the callee
//! is slow, the window fills up, and sending waits.
//!
//! A call itself is never held back: it is sent, and the caller waits afterwards. So
//! calls of all kinds keep their order, and a message larger than the window passes
//! like any other, but alone.
//!
//! Each capability has a window of its own. When a promise resolves, its window becomes
//! that of the capability to which it resolves.
//!
//! The first call that fails ends the stream: from then on sending fails with that
//! error, and the callee refuses every later call to the object. So the call that ends
//! the stream, one that is not streaming, tells whether everything arrived.

mod adaptive;
mod caught;
mod controller;

pub use self::adaptive::AdaptiveWindow;
pub use self::controller::{FixedWindow, FlowControl, FlowController, VariableWindow};
