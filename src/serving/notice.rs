//! What the supervisor of a program is told: the protocol of systemd's `sd_notify`, which
//! others speak, too. A notice is a datagram of lines, sent to a Unix socket that the
//! environment names.

use std::time::Duration;

use capnp_threads_core::vat::OwnedSupervisor;

use crate::{Result, Vat};

/// The supervisor of this program, if it wants to be told.
pub(super) struct Supervisor {
    #[cfg(unix)]
    socket: Option<imp::Socket>,
    /// The thread that tells that the program is alive.
    watchdog: Option<OwnedSupervisor>,
}

impl Supervisor {
    pub(super) fn none() -> Self {
        Supervisor {
            #[cfg(unix)]
            socket: None,
            watchdog: None,
        }
    }

    /// That of the environment. While this exists it is told that `vat` is alive, if it
    /// wants to know.
    ///
    /// # Errors
    /// The system has no thread to give.
    #[cfg(unix)]
    pub(super) fn of_environment(vat: &Vat) -> Result<Self> {
        let mut supervisor = Supervisor { socket: imp::Socket::of_environment(), watchdog: None };
        if let (Some(socket), Some(period)) = (&supervisor.socket, imp::watchdog_period()) {
            supervisor.watchdog = Some(feed(vat, socket.clone(), period)?);
        }
        Ok(supervisor)
    }

    #[cfg(not(unix))]
    pub(super) fn of_environment(_: &Vat) -> Result<Self> {
        Ok(Self::none())
    }

    /// The server can be connected to.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// The server is about to end.
    pub(super) fn stopping(&mut self) {
        self.send("STOPPING=1");
    }

    #[cfg(unix)]
    fn send(&self, notice: &str) {
        if let Some(socket) = &self.socket {
            socket.send(notice);
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "only Unix has such supervisors")]
    fn send(&self, _: &str) {}
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            // It waits for no longer than a call and a notice may take.
            let _ = watchdog.end(Duration::from_secs(1));
        }
    }
}

/// Tells that the vat is alive, twice in each period, as long as its workers run methods.
#[cfg(unix)]
fn feed(vat: &Vat, socket: imp::Socket, period: Duration) -> Result<OwnedSupervisor> {
    use capnp_threads_core::untyped::Payload;

    let pulse = vat.export_dispatch(std::sync::Arc::new(Pulse));
    let supervisor = vat.supervisor();
    supervisor.spawn("watchdog", move |stop| {
        loop {
            // A call that is waited for where it is made could run on this very thread.
            let call = pulse.call_timeout(0, 0, Payload::empty().clone(), period / 2);
            if call.wait().is_ok() {
                socket.send("WATCHDOG=1");
            }
            if stop.wait_timeout(period / 2) {
                return;
            }
        }
    })?;
    Ok(supervisor)
}

/// An object that answers every call at once.
#[cfg(unix)]
struct Pulse;

#[cfg(unix)]
impl capnp_threads_core::untyped::Dispatch for Pulse {
    fn dispatch(&self, call: capnp_threads_core::untyped::IncomingCall) {
        call.respond(Ok(capnp_threads_core::untyped::Payload::empty().clone()));
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

#[cfg(unix)]
mod imp {
    use std::io;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::sync::Arc;
    use std::time::Duration;

    /// How long a notice may wait until there is room for it.
    const PATIENCE: Duration = Duration::from_millis(500);

    /// The supervisor's socket.
    #[derive(Clone)]
    pub(super) struct Socket(Arc<(UnixDatagram, SocketAddr)>);

    impl Socket {
        pub(super) fn of_environment() -> Option<Self> {
            Self::to(&std::env::var("NOTIFY_SOCKET").ok()?)
        }

        pub(super) fn to(name: &str) -> Option<Self> {
            let socket = UnixDatagram::unbound().ok()?;
            // A supervisor that reads no notices must not keep the program from ending.
            socket.set_write_timeout(Some(PATIENCE)).ok()?;
            Some(Socket(Arc::new((socket, address(name)?))))
        }

        /// A supervisor that is gone, or does not read, is no reason to fail. Waits for no
        /// longer than `PATIENCE`.
        pub(super) fn send(&self, notice: &str) {
            let (socket, address) = &*self.0;
            let sent: io::Result<usize> = socket.send_to_addr(notice.as_bytes(), address);
            drop(sent);
        }
    }

    fn address(name: &str) -> Option<SocketAddr> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = name.strip_prefix('@') {
            use std::os::linux::net::SocketAddrExt;
            return SocketAddr::from_abstract_name(name).ok();
        }
        SocketAddr::from_pathname(name).ok()
    }

    /// How often the supervisor wants a sign of life at least, if it does, and if it means
    /// this process.
    pub(super) fn watchdog_period() -> Option<Duration> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
            return None;
        }
        number("WATCHDOG_USEC").filter(|period| *period > 0).map(Duration::from_micros)
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    use capnp_threads_core::untyped::{Dispatch, IncomingCall, Payload};
    use capnp_threads_core::vat::VatConfig;
    use rpc_tests::support::{Event, LONG, Watchdog, until};

    use super::*;

    /// Keeps its worker.
    struct Stuck {
        entered: Event,
        go_on: Event,
    }

    impl Dispatch for Stuck {
        fn dispatch(&self, call: IncomingCall) {
            self.entered.set();
            self.go_on.wait();
            call.respond(Ok(Payload::empty().clone()));
        }

        fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
            self
        }
    }

    /// Feeds a supervisor that this returns, of whom nobody else knows.
    fn fed(vat: &Vat, folder: &Path, name: &str) -> (UnixDatagram, OwnedSupervisor) {
        let path = folder.join(name);
        let told = UnixDatagram::bind(&path).unwrap();
        told.set_read_timeout(Some(LONG)).unwrap();
        let socket = imp::Socket::to(path.to_str().unwrap()).unwrap();
        (told, feed(vat, socket, Duration::from_millis(20)).unwrap())
    }

    fn require_sign(told: &UnixDatagram) {
        let mut notice = [0; 64];
        let length = told.recv(&mut notice).unwrap();
        assert_eq!(&notice[..length], b"WATCHDOG=1");
    }

    #[test]
    fn a_vat_whose_workers_are_all_stuck_gives_no_sign_of_life() {
        let _watchdog = Watchdog::start();
        let folder = tempfile::tempdir().unwrap();
        let mut config = VatConfig::default();
        config.pool.max_workers = 1;
        let vat = Vat::with_config(config).unwrap();
        let (entered, go_on) = (Event::new(), Event::new());
        let stuck = Stuck { entered: entered.clone(), go_on: go_on.clone() };
        let stuck = vat.export_dispatch(std::sync::Arc::new(stuck));
        let call = stuck.call(0, 0, Payload::empty().clone());
        entered.wait();

        let (told, feeding) = fed(&vat, folder.path(), "stuck");
        until("the vat to be asked", || vat.snapshot().waiting_jobs > 0);
        // Another vat is asked later, and often, and that one is not.
        let other = Vat::new();
        let (others, feeding_other) = fed(&other, folder.path(), "other");
        (0..3).for_each(|_| require_sign(&others));
        told.set_nonblocking(true).unwrap();
        assert!(told.recv(&mut [0; 64]).is_err());

        told.set_nonblocking(false).unwrap();
        go_on.set();
        call.wait().unwrap();
        require_sign(&told);
        for feeding in [feeding, feeding_other] {
            assert!(feeding.end(LONG).unwrap());
        }
    }
}
