//! A vat that is attacked while others use it, and what the attack takes of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnp_threads_core::vat::VatConfig;
use capnp_threads_core::{
    Concurrency, ConnConfig, Connection, Error, Limits, Result, ServeConfig, Vat,
};
use capnp_threads_transport::tcp;
use rpc_schema::echo_capnp::echo;
use socket2::{Domain, Socket, Type};

use super::assault::{Assault, React};
use super::memory;
use super::sizes::{Share, Sizes};
use super::{Attack, Ends, Seen};
use crate::support::objects::Quick;
use crate::support::{LONG, vat, watchdog};

/// From where honest clients come, and the first of the addresses of attackers.
const HONEST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// How many bytes more than before a vat may hold when an attack is over. The allocations
/// of its own that live longer, as buffers that have grown and idle workers do, are few
/// and small. To this comes [`LEFT_OF_EACH_THREAD`].
const LEFT: u64 = 128 << 10;

/// How many threads more there may be then: idle workers, of which the honest client may
/// need one more or less, and the threads that keep time. Each may have a descriptor by
/// which it is woken.
const LEFT_THREADS: u64 = 4;

/// How many bytes stay for each thread that the process had at its peak: `parking_lot` has a
/// table of the threads that sleep, with up to six buckets of 64 bytes for each of all
/// threads, and frees none of the smaller ones that it had before.
const LEFT_OF_EACH_THREAD: u64 = 2 * 6 * 64;

/// Whether so little is left of an attack that it is over. `threads` is how many threads
/// more there were at its peak.
fn is_little(left: &Share, threads: u64) -> bool {
    left.memory <= LEFT + LEFT_OF_EACH_THREAD * threads
        && left.threads <= LEFT_THREADS
        && left.descriptors <= LEFT_THREADS
}

/// A vat under attack.
#[derive(Debug)]
pub struct Siege {
    /// What bounds attacks.
    pub sizes: Sizes,
    pub(super) vat: Vat,
    /// Those that the vat keeps.
    pub(super) limits: Limits,
    address: SocketAddr,
    serving: JoinHandle<Result<()>>,
    honest: Honest,
    /// What there was before anybody attacked.
    before: Share,
    peak: Peak,
    /// The attackers' sockets and threads in this process.
    own: Arc<Attackers>,
}

#[derive(Debug, Default)]
struct Peak {
    threads: AtomicU64,
    descriptors: AtomicU64,
}

#[derive(Debug, Default)]
struct Attackers {
    descriptors: AtomicU64,
    threads: AtomicU64,
}

/// Some sockets of an attacker, with the thread that reads from them, which are not held
/// against the vat.
#[derive(Debug)]
pub(super) struct Own {
    attackers: Arc<Attackers>,
    descriptors: u64,
    threads: u64,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.attackers.descriptors.fetch_sub(self.descriptors, Ordering::SeqCst);
        self.attackers.threads.fetch_sub(self.threads, Ordering::SeqCst);
    }
}

/// What one attack came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The most that the attack took.
    pub peak: Share,
    /// What was left of it when it was over.
    pub left: Share,
    /// What the attackers saw.
    pub seen: Seen,
    /// How many calls an honest client made meanwhile.
    pub honest_calls: u64,
    /// The longest time one of these took.
    pub longest: Duration,
}

/// A client that calls all the time.
#[derive(Debug)]
struct Honest {
    vat: Vat,
    stop: mpsc::Sender<()>,
    calling: JoinHandle<Result<()>>,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    made: AtomicU64,
    longest: AtomicU64,
    /// Why there will be no more of them.
    failure: OnceLock<Error>,
}

/// How long the honest client leaves the processor to others between two calls.
const PACE: Duration = Duration::from_millis(1);

impl Honest {
    fn start(address: SocketAddr) -> Result<Self> {
        let vat = vat("honest-");
        let connection = vat.connect(tcp::connect(address)?, ConnConfig::new())?;
        let (stop, stopped) = mpsc::channel();
        let calls = Arc::new(Calls::default());
        let count = Arc::clone(&calls);
        let calling = thread::spawn(move || {
            let echo: echo::Client = connection.bootstrap();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PACE) {
                let began = Instant::now();
                if let Err(error) = echo.ping_request().call() {
                    let _ = count.failure.set(error.clone());
                    return Err(error);
                }
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                count.longest.fetch_max(took, Ordering::SeqCst);
                count.made.fetch_add(1, Ordering::SeqCst);
            }
            drop(echo);
            connection.close();
            Ok(())
        });
        Ok(Honest { vat, stop, calling, calls })
    }

    fn made(&self) -> u64 {
        self.calls.made.load(Ordering::SeqCst)
    }
}

impl Siege {
    /// A vat with these limits, which serves on the loopback interface. An honest client
    /// is connected, and calls until the siege [is over](Self::lift).
    ///
    /// # Errors
    /// Those of the system.
    pub fn lay(sizes: Sizes) -> Result<Self> {
        Self::lay_under(sizes.clone(), sizes)
    }

    /// As [`lay`](Self::lay), with a vat whose limits are not those by which attacks are
    /// judged.
    ///
    /// # Errors
    /// Those of the system.
    pub fn lay_under(sizes: Sizes, judged: Sizes) -> Result<Self> {
        let mut config = VatConfig::default();
        config.name = "siege".into();
        config.pool = sizes.pool.clone();
        let vat = Vat::with_config(config)?;
        let listener = tcp::Listener::bind((HONEST, 0)).map_err(Error::from)?;
        let address = listener.local_addr().map_err(Error::from)?;
        let own = vat.clone();
        let limits = sizes.limits.clone();
        let serve = ServeConfig::new(move |_| {
            let echo = echo::Client::from_server(Quick);
            Ok(ConnConfig::new().bootstrap(echo).limits(limits.clone()))
        });
        let serve = serve.accept_limits(sizes.accept.clone());
        let serving = thread::spawn(move || own.serve(&listener, serve));
        let honest = Honest::start(address)?;
        let mut siege = Siege {
            sizes: judged,
            vat,
            limits: sizes.limits,
            address,
            serving,
            honest,
            before: Share::default(),
            peak: Peak::default(),
            own: Arc::default(),
        };
        // What is needed once is there then.
        siege.newcomer()?;
        siege.honest_goes_on();
        siege.before = siege.now();
        Ok(siege)
    }

    fn now(&self) -> Share {
        Share {
            memory: memory::held() as u64,
            threads: threads().saturating_sub(self.own.threads.load(Ordering::SeqCst)),
            descriptors: self.descriptors(),
        }
    }

    /// Those of this process without the attackers'. Of what attackers open or close at
    /// this moment too little is counted rather than too much.
    fn descriptors(&self) -> u64 {
        let own = self.own.descriptors.load(Ordering::SeqCst);
        let all = std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64);
        all.saturating_sub(own.max(self.own.descriptors.load(Ordering::SeqCst)))
    }

    /// Looks at what the attack takes at this moment.
    pub fn look(&self) {
        let own = self.own.threads.load(Ordering::SeqCst);
        let threads = threads().saturating_sub(own.max(self.own.threads.load(Ordering::SeqCst)));
        self.peak.threads.fetch_max(threads, Ordering::SeqCst);
        self.peak.descriptors.fetch_max(self.descriptors(), Ordering::SeqCst);
    }

    /// Notes that an attacker is going to open so many descriptors, and to read from them
    /// with a thread.
    pub(super) fn own(&self, descriptors: u64) -> Own {
        self.own_with(descriptors, 1)
    }

    pub(super) fn own_with(&self, descriptors: u64, threads: u64) -> Own {
        self.own.descriptors.fetch_add(descriptors, Ordering::SeqCst);
        self.own.threads.fetch_add(threads, Ordering::SeqCst);
        Own { attackers: Arc::clone(&self.own), descriptors, threads }
    }

    /// A connection to an attacker.
    pub(super) fn assault(&self, concurrency: Concurrency) -> Assault<'_> {
        Assault::begin(self, concurrency)
    }

    pub(super) fn assault_reacting(&self, concurrency: Concurrency, react: React) -> Assault<'_> {
        Assault::reacting(self, concurrency, react)
    }

    /// Connects to the vat's listener from the attacker's address of this number.
    pub(super) fn storm(&self, attacker: u16) -> std::io::Result<TcpStream> {
        let [first, second, ..] = HOSTILE.octets();
        let [third, fourth] = (attacker + 1).to_be_bytes();
        let from = IpAddr::from([first, second, third, fourth]);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&self.address.into())?;
        Ok(socket.into())
    }

    /// Waits until the honest client has made some more calls.
    pub fn honest_goes_on(&self) {
        let wanted = self.honest.made() + 10;
        self.until("an honest client to be served", || {
            let failure = self.honest.calls.failure.get();
            assert!(failure.is_none(), "an honest client was cut off: {failure:?}");
            self.honest.made() >= wanted
        });
    }

    /// Waits until something has become true that no event tells of.
    pub(super) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + LONG;
        let _doing = watchdog::doing(what);
        while !condition() {
            assert!(Instant::now() < deadline, "waited too long for {what}");
            self.look();
            thread::yield_now();
        }
    }

    /// One more honest client, which comes, calls and goes.
    ///
    /// # Errors
    /// It is not served.
    pub fn newcomer(&self) -> Result<()> {
        let vat = vat("newcomer-");
        let connection = vat.connect(tcp::connect(self.address)?, ConnConfig::new())?;
        let served = call_once(&connection);
        connection.close();
        connection.join_timeout(LONG)?;
        vat.shutdown(LONG)?;
        served
    }

    /// The same when an attack is over. The vat may have to notice first that those are gone
    /// who took all places: whoever is told to try again later does so.
    fn newcomer_afterwards(&self) -> Result<()> {
        let _doing = watchdog::doing("a newcomer to be let in");
        let deadline = Instant::now() + LONG;
        loop {
            match self.newcomer() {
                Err(error)
                    if error.reason().contains("try again later") && Instant::now() < deadline => {}
                served => return served,
            }
        }
    }

    /// Attacks the vat once.
    ///
    /// # Errors
    /// What the attack got that it must not get.
    pub fn attack(&self, attack: &Attack) -> std::result::Result<Report, String> {
        memory::forget_peak();
        let now = self.now();
        self.peak.threads.store(now.threads, Ordering::SeqCst);
        self.peak.descriptors.store(now.descriptors, Ordering::SeqCst);
        self.honest.calls.longest.store(0, Ordering::SeqCst);
        let calls = self.honest.made();

        let seen = (attack.run)(self);

        let peak = Share {
            memory: (memory::peak() as u64).saturating_sub(self.before.memory),
            threads: self.peak.threads.load(Ordering::SeqCst).saturating_sub(self.before.threads),
            descriptors: self
                .peak
                .descriptors
                .load(Ordering::SeqCst)
                .saturating_sub(self.before.descriptors),
        };
        self.honest_goes_on();
        self.newcomer_afterwards()
            .map_err(|error| format!("a newcomer was not served: {error}"))?;
        let left = self.recovered(peak.threads);
        let report = Report {
            peak,
            left,
            seen,
            honest_calls: self.honest.made() - calls,
            longest: Duration::from_micros(self.honest.calls.longest.load(Ordering::SeqCst)),
        };
        self.judge(attack, &report).map(|()| report)
    }

    /// Waits until what the attack took is given back, or for so long as that may take.
    fn recovered(&self, threads: u64) -> Share {
        let _doing = watchdog::doing("the vat to recover");
        let deadline = Instant::now() + LONG / 2;
        loop {
            let now = self.now();
            let left = Share {
                memory: now.memory.saturating_sub(self.before.memory),
                threads: now.threads.saturating_sub(self.before.threads),
                descriptors: now.descriptors.saturating_sub(self.before.descriptors),
            };
            if is_little(&left, threads) || Instant::now() > deadline {
                return left;
            }
            thread::yield_now();
        }
    }

    fn judge(&self, attack: &Attack, report: &Report) -> std::result::Result<(), String> {
        let Report { peak, left, seen, .. } = report;
        let allowed = attack.allowed(&self.sizes);
        let bounds = attack.bounds();
        let figures = [
            ("bytes", peak.memory, allowed.memory),
            ("threads", peak.threads, allowed.threads),
            ("descriptors", peak.descriptors, allowed.descriptors),
        ];
        for (what, taken, allowed) in figures {
            if taken > allowed {
                return Err(format!(
                    "it took {taken} {what}; {bounds} should have held it to {allowed}; \
                     it saw {seen}"
                ));
            }
        }
        if !is_little(left, peak.threads) {
            return Err(format!("it left behind {left:?}; it saw {seen}"));
        }
        let told = match attack.ends {
            Ends::CutOff(limit) => {
                !seen.aborts.is_empty() && seen.aborts.keys().all(|reason| reason.contains(limit))
            }
            Ends::Refused(limit) => {
                seen.aborts.is_empty()
                    && seen.exceptions.keys().any(|reason| reason.contains(limit))
            }
            Ends::Either(limit) => {
                seen.aborts.keys().chain(seen.exceptions.keys()).any(|told| told.contains(limit))
            }
            Ends::GoesOn => seen.aborts.is_empty(),
            Ends::Untold => true,
        };
        if told { Ok(()) } else { Err(format!("instead of {:?} it saw {seen}", attack.ends)) }
    }

    /// Ends everything, and tells whether the honest client was always served.
    ///
    /// # Errors
    /// It was not.
    pub fn lift(self) -> Result<()> {
        let Siege { vat, serving, honest, .. } = self;
        let Honest { vat: client, stop, calling, .. } = honest;
        drop(stop);
        let served = calling.join().map_err(|_| Error::failed("an honest client panicked"))?;
        client.shutdown(LONG)?;
        if !vat.shutdown(LONG)? {
            return Err(Error::failed("the vat that was attacked does not end"));
        }
        serving.join().map_err(|_| Error::failed("the serving thread panicked"))??;
        served
    }
}

fn call_once(connection: &Connection) -> Result<()> {
    let echo: echo::Client = connection.bootstrap();
    let request = echo.ping_request();
    request.call_timeout(LONG).map(drop)
}

/// The number of threads of this process.
fn threads() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
