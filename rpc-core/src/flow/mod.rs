//! Streams: how much may be on its way to a capability.
//!
//! A method that is declared `-> stream` is called to push something along, not
//! to learn something. Sending such a call returns as soon as the *window* has
//! room for another one, which usually is at once and long before the call has
//! returned. When the callee is slow the window fills up, and sending waits.
//!
//! A call is never held back: it is sent, and what waits is the caller,
//! afterwards. So calls of all kinds keep their order, and a message larger than
//! the window passes like any other, alone.
//!
//! Each capability has a window of its own. When a promise resolves, its window
//! goes along to what it resolves to.
//!
//! The first call that fails ends the stream: sending fails with that error from
//! then on, and the callee refuses every later call to the object, so that the
//! end of a stream, a call that is not streaming, tells whether all of it
//! arrived.

mod adaptive;
mod controller;

pub use self::adaptive::AdaptiveWindow;
pub use self::controller::{FixedWindow, FlowControl, FlowController, VariableWindow};
