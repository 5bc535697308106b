//! Flow controllers: how large a stream's window is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::AdaptiveWindow;
use super::caught::Caught;

/// Decides how many bytes of a stream may be unanswered before its sender has to wait.
/// A controller is told of everything that is sent and answered, in order. Times are
/// measured from the start of the stream.
///
/// The methods are called under a lock and must not wait.
pub trait FlowController: Send + 'static {
    /// The size of the window in bytes: the sender waits while at least this many bytes
    /// are on their way.
    fn window(&self) -> u64;

    /// A message of this size was sent.
    fn sent(&mut self, bytes: u64, now: Duration) {
        let _ = (bytes, now);
    }

    /// A message of this size, sent at `sent`, was answered.
    fn answered(&mut self, bytes: u64, sent: Duration, now: Duration) {
        let _ = (bytes, sent, now);
    }
}

/// A window whose size never changes.
///
/// ```
/// use capnp_threads_core::flow::{FixedWindow, FlowController};
///
/// assert_eq!(FixedWindow::new(1 << 20).window(), 1 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow {
    bytes: u64,
}

impl FixedWindow {
    /// The window of streams to objects of the same process, and of streams over
    /// transports that do not know their send buffer: 64 KiB.
    pub const DEFAULT: FixedWindow = FixedWindow { bytes: 64 << 10 };

    /// A window of this many bytes.
    pub fn new(bytes: u64) -> Self {
        FixedWindow { bytes }
    }
}

impl FlowController for FixedWindow {
    fn window(&self) -> u64 {
        self.bytes
    }
}

/// A window whose size is asked for each time. An example is the size of the operating
/// system's buffer for the socket.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use capnp_threads_core::flow::{FlowController, VariableWindow};
///
/// let size = Arc::new(AtomicU64::new(1000));
/// let asked = Arc::clone(&size);
/// let window = VariableWindow::new(move || asked.load(Ordering::Relaxed));
/// size.store(2000, Ordering::Relaxed);
/// assert_eq!(window.window(), 2000);
/// ```
#[derive(Clone)]
pub struct VariableWindow {
    bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl VariableWindow {
    /// A window of as many bytes as `bytes` returns, which must not wait.
    pub fn new(bytes: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        VariableWindow { bytes: Arc::new(bytes) }
    }
}

impl FlowController for VariableWindow {
    fn window(&self) -> u64 {
        (self.bytes)()
    }
}

impl fmt::Debug for VariableWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariableWindow").field("bytes", &self.window()).finish()
    }
}

/// As large as the system's buffer for the socket.
struct BufferWindow {
    buffer: VariableWindow,
    /// What was answered last.
    bytes: u64,
    /// How much was sent since then.
    sent: u64,
    /// The number of windows that are sent before the size is asked for again.
    windows: u64,
}

impl BufferWindow {
    /// Greatest number of windows that are sent before the size is asked for again, which is a
    /// system call. The system lets the buffer grow with what goes through it: after a change,
    /// one window is sent, then two, and so on.
    const MOST: u64 = 16;

    fn new(buffer: VariableWindow) -> Self {
        let bytes = buffer.window();
        BufferWindow { buffer, bytes, sent: 0, windows: 1 }
    }
}

impl FlowController for BufferWindow {
    fn window(&self) -> u64 {
        self.bytes
    }

    fn sent(&mut self, bytes: u64, _: Duration) {
        self.sent += bytes;
        if self.sent / self.windows >= self.bytes {
            let bytes = self.buffer.window();
            let is_same = bytes == self.bytes;
            self.windows = if is_same { (2 * self.windows).min(Self::MOST) } else { 1 };
            (self.bytes, self.sent) = (bytes, 0);
        }
    }
}

/// The kind of window that the streams of a connection get.
///
/// ```
/// use capnp_threads_core::ConnConfig;
/// use capnp_threads_core::flow::{FixedWindow, FlowControl};
///
/// let over_a_slow_way = FlowControl::Adaptive { initial: 16 << 10 };
/// let config = ConnConfig::new().flow_control(over_a_slow_way);
/// let config = config.flow_control(FlowControl::Fixed(FixedWindow::new(1 << 20)));
/// # drop(config);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum FlowControl {
    /// As large as the operating system's buffer for the socket, or
    /// [`FixedWindow::DEFAULT`] where the transport knows of none.
    #[default]
    Transport,
    /// Always of this size.
    Fixed(FixedWindow),
    /// Adapts to what the way to the callee carries; see [`AdaptiveWindow`].
    Adaptive {
        /// Size of the window at the start, in bytes.
        initial: u64,
    },
    /// Decided by a controller that the application makes for each stream.
    Custom(Arc<dyn Fn() -> Box<dyn FlowController> + Send + Sync>),
}

impl FlowControl {
    pub(crate) fn controller(
        &self,
        transport: Option<&Arc<dyn Fn() -> Option<u64> + Send + Sync>>,
    ) -> Box<dyn FlowController> {
        match (self, transport) {
            (FlowControl::Fixed(window), _) => Box::new(*window),
            (FlowControl::Adaptive { initial }, _) => Box::new(AdaptiveWindow::new(*initial)),
            (FlowControl::Custom(make), _) => Caught::made_by(&**make),
            (FlowControl::Transport, Some(buffer)) => {
                let buffer = Arc::clone(buffer);
                // The transport may be a plug-in.
                Caught::made_by(|| {
                    Box::new(BufferWindow::new(VariableWindow::new(move || {
                        buffer().unwrap_or(FixedWindow::DEFAULT.bytes)
                    })))
                })
            }
            (FlowControl::Transport, None) => Box::new(FixedWindow::DEFAULT),
        }
    }
}

impl fmt::Debug for FlowControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowControl::Transport => f.write_str("Transport"),
            FlowControl::Fixed(window) => f.debug_tuple("Fixed").field(&window.bytes).finish(),
            FlowControl::Adaptive { initial } => {
                f.debug_struct("Adaptive").field("initial", initial).finish()
            }
            FlowControl::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_variable_window_follows_its_source() {
        let size = Arc::new(AtomicU64::new(10));
        let source = Arc::clone(&size);
        let window = VariableWindow::new(move || source.load(Ordering::SeqCst));
        assert_eq!(window.window(), 10);
        size.store(20, Ordering::SeqCst);
        assert_eq!(window.window(), 20);
    }

    #[test]
    fn the_buffer_is_asked_for_less_often_the_longer_it_stays_the_same() {
        let size = Arc::new(AtomicU64::new(10));
        let asked = Arc::new(AtomicU64::new(0));
        let (own, count) = (Arc::clone(&size), Arc::clone(&asked));
        let buffer: Arc<dyn Fn() -> Option<u64> + Send + Sync> = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Some(own.load(Ordering::SeqCst))
        });
        let mut window = FlowControl::Transport.controller(Some(&buffer));
        let mut sends = |bytes| {
            (0..bytes).for_each(|_| window.sent(1, Duration::ZERO));
            (window.window(), asked.swap(0, Ordering::SeqCst))
        };
        assert_eq!(sends(10), (10, 2));
        assert_eq!(sends(20 + 40 + 80 + 160), (10, 4));
        assert_eq!(sends(159), (10, 0));
        size.store(20, Ordering::SeqCst);
        assert_eq!(sends(1), (20, 1));
        assert_eq!(sends(20), (20, 1));
    }

    #[test]
    fn the_transport_decides_unless_it_does_not_know() {
        let known: Arc<dyn Fn() -> Option<u64> + Send + Sync> = Arc::new(|| Some(7));
        let unknown: Arc<dyn Fn() -> Option<u64> + Send + Sync> = Arc::new(|| None);
        let window = |source| FlowControl::Transport.controller(source).window();
        assert_eq!(window(Some(&known)), 7);
        assert_eq!(window(Some(&unknown)), 64 << 10);
        assert_eq!(window(None), 64 << 10);
    }
}
