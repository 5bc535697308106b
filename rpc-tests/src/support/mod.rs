//! What the tests with real threads share.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod objects;
pub mod raw;
pub mod watchdog;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use capnp_threads_core::{ConnConfig, Connection, FromClient, PoolConfig, Vat, VatConfig};
use capnp_threads_transport::{Transport, memory, tcp, unix};

pub use self::watchdog::Watchdog;

/// Longer than anything here takes. Whoever waits that long has found a hang.
pub const LONG: Duration = Duration::from_secs(50);

/// How long a test that runs for a while runs: `STRESS_SECONDS`, or less than a
/// second.
pub fn stress_time() -> Duration {
    match std::env::var("STRESS_SECONDS") {
        Ok(seconds) => {
            Duration::from_secs_f64(seconds.parse().expect("STRESS_SECONDS must be a number"))
        }
        Err(_) => Duration::from_millis(700),
    }
}

/// Whether this is a process that runs one test alone. If it is not, runs the test
/// of this name in such a process, and fails if that fails.
///
/// For tests that count what belongs to the process, or change it.
#[must_use = "the test is for the other process"]
pub fn alone(test: &str) -> bool {
    const VARIABLE: &str = "RPC_TESTS_ALONE";
    if std::env::var_os(VARIABLE).is_some_and(|name| name == test) {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    // A name that is not a test's runs nothing, and succeeds.
    let passed = output.status.success() && text[0].contains("1 passed");
    assert!(
        passed,
        "{test} failed in a process of its own: {}\n{}",
        output.status,
        text.join("\n")
    );
    false
}

/// Waits until something has become true that no event tells of. If it never
/// does, the test's watchdog ends the wait.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let _doing = watchdog::doing(what);
    while !condition() {
        std::thread::yield_now();
    }
}

/// Something that happens once and that threads wait for.
#[derive(Clone, Default)]
pub struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    pub fn new() -> Self {
        Event::default()
    }

    pub fn set(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    pub fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(guard, |happened| !*happened).unwrap());
    }
}

/// A thread that is known to have gone to sleep in what it was given to do.
pub struct Blocked<T>(std::thread::JoinHandle<T>);

impl<T: Send + 'static> Blocked<T> {
    pub fn spawn(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (send, receive) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // The link leads to the thread's own folder.
            send.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            work()
        });
        let status = std::path::Path::new("/proc").join(receive.recv().unwrap()).join("stat");
        // The state follows the name, which is in parentheses.
        let asleep = || match std::fs::read_to_string(&status) {
            Ok(text) => text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')),
            Err(_) => thread.is_finished(),
        };
        until("a thread to fall asleep", || asleep() || thread.is_finished());
        assert!(!thread.is_finished(), "it should have blocked");
        Blocked(thread)
    }

    pub fn join(self) -> T {
        self.0.join().unwrap()
    }
}

/// Counts objects that were made and dropped.
#[derive(Clone, Default)]
pub struct Census(Arc<Counts>);

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    dropped: AtomicU64,
}

/// One object that is counted, from here to its drop.
pub struct Counted(Census);

impl Census {
    pub fn new() -> Self {
        Census::default()
    }

    pub fn count(&self) -> Counted {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }

    pub fn made(&self) -> u64 {
        self.0.made.load(Ordering::SeqCst)
    }

    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::SeqCst)
    }

    pub fn alive(&self) -> u64 {
        let dropped = self.dropped();
        self.made().checked_sub(dropped).expect("something was dropped that was never made")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Numbers that look random, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end as u64).unwrap()
    }

    /// `true` once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How two vats are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Memory,
    /// Framed bytes through a pipe that holds very few of them.
    Bytes,
    Unix,
    Tcp,
}

impl Wire {
    pub const ALL: [Wire; 4] = [Wire::Memory, Wire::Bytes, Wire::Unix, Wire::Tcp];

    pub fn pair(self) -> (Transport, Transport) {
        match self {
            Wire::Memory => memory::pair(),
            Wire::Bytes => memory::byte_pair(256),
            Wire::Unix => unix::pair().unwrap(),
            Wire::Tcp => {
                let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let there = std::thread::spawn(move || listener.accept().unwrap());
                (tcp::connect(address).unwrap(), there.join().unwrap())
            }
        }
    }
}

/// A vat whose threads' names start with `name`, which must be short: the system
/// keeps fifteen bytes of a thread's name.
pub fn vat(name: &str) -> Vat {
    vat_with_pool(name, PoolConfig::default())
}

pub fn vat_with_pool(name: &str, pool: PoolConfig) -> Vat {
    let mut config = VatConfig::default();
    config.name = name.to_owned();
    config.pool = pool;
    Vat::with_config(config)
}

/// How many threads of this process have a name that starts with `name`.
#[cfg(target_os = "linux")]
pub fn threads_named(name: &str) -> usize {
    watchdog::threads().iter().filter(|thread| thread.name.starts_with(name)).count()
}

/// A client vat connected to a server vat that offers one object.
pub struct Pair {
    pub client_vat: Vat,
    pub server_vat: Vat,
    pub client: Connection,
    pub server: Connection,
    name: String,
}

impl Pair {
    /// Connects two new vats over memory; `bootstrap` makes what the server
    /// offers.
    pub fn new(name: &str, bootstrap: impl FnOnce(&Vat) -> capnp_threads_core::Client) -> Self {
        Self::configured(name, bootstrap, Wire::Memory, |config| config, |config| config)
    }

    /// As [`new`](Self::new), with adjusted configurations of the client's and
    /// the server's side.
    pub fn configured(
        name: &str,
        bootstrap: impl FnOnce(&Vat) -> capnp_threads_core::Client,
        wire: Wire,
        of_client: impl FnOnce(ConnConfig) -> ConnConfig,
        of_server: impl FnOnce(ConnConfig) -> ConnConfig,
    ) -> Self {
        let (client_vat, server_vat) = (vat(&format!("{name}c")), vat(&format!("{name}s")));
        let (here, there) = wire.pair();
        let config = of_server(ConnConfig::new().bootstrap(bootstrap(&server_vat)));
        let server = server_vat.connect(there, config).unwrap();
        let client = client_vat.connect(here, of_client(ConnConfig::new())).unwrap();
        Pair { client_vat, server_vat, client, server, name: name.to_owned() }
    }

    pub fn bootstrap<C: FromClient>(&self) -> C {
        self.client.bootstrap()
    }

    /// Waits until neither side holds anything of the other, and checks that
    /// the tables are sound.
    pub fn settle(&self) {
        settle(&self.client, &self.server);
    }

    /// Settles, ends everything, and checks that no thread is left.
    pub fn finish(self) {
        self.settle();
        self.end();
    }

    /// Ends everything, and checks that no thread is left.
    pub fn end(self) {
        let Pair { client_vat, server_vat, client, server, name } = self;
        client.close();
        assert!(client.join_timeout(LONG).unwrap());
        assert!(server.join_timeout(LONG).unwrap());
        assert!(client_vat.shutdown(LONG));
        assert!(server_vat.shutdown(LONG));
        #[cfg(target_os = "linux")]
        {
            until("threads to go", || threads_named(&format!("{name}c")) == 0);
            until("threads to go", || threads_named(&format!("{name}s")) == 0);
        }
    }
}

/// Waits until two connected sides hold nothing of each other.
pub fn settle(left: &Connection, right: &Connection) {
    until(&format!("tables to empty: {:?} and {:?}", left.snapshot(), right.snapshot()), || {
        left.snapshot().is_empty() && right.snapshot().is_empty()
    });
    left.check().unwrap();
    right.check().unwrap();
    assert_eq!(left.failure(), None);
    assert_eq!(right.failure(), None);
}
