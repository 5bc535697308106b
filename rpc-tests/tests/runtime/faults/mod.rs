//! Faults, all of them: every byte of a link at which something can happen, every thread and
//! every descriptor that may not be had, and signals everywhere.
//!
//! Each [session](session) is run once to count its bytes. Then it is run again for each
//! fault, each direction and each position. What comes behind the position is always written
//! apart from what is in front of it, so every message arrives in two pieces as well.
//! Whatever happens, every wait ends, nothing is carried out twice, what was answered was
//! carried out, what failed without having begun was not; the tables are empty at the end,
//! the threads have ended, and every object was dropped.
//!
//! A test takes the positions in which a write begins, those around them, and some of the
//! others. `FAULTS=all` takes them all.

mod interrupted;
mod link;
// It puts itself before the function that begins threads, as sanitizers do.
#[cfg(not(sanitized))]
mod scarce;
mod session;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use capnp_threads_core::{ConnConfig, Connection, Error};
use rpc_tests::support::{Event, LONG, Watchdog, threads_named, until, vat, watchdog};

use self::link::{Fault, Place, Told, link};
use self::session::{Ledger, Object, Session, Side};

/// What a run tells of the bytes of the two directions.
struct Seen {
    bytes: [usize; 2],
    begins: [BTreeSet<usize>; 2],
}

/// Does what a fault needs when it has come.
struct Attendant {
    fault: Fault,
    go_on: Event,
    connections: [Connection; 2],
    /// What the names of the threads begin with that have to wait.
    threads: [String; 2],
}

impl Attendant {
    fn attend(&self, told: &mpsc::Receiver<Told>) {
        while let Ok(Told::Fault) = told.recv() {
            match self.fault {
                Fault::None | Fault::Cut => {}
                Fault::Delay => {
                    until("everybody to wait", || self.all_wait());
                    self.go_on.set();
                }
                Fault::Stall => {
                    let reason = Error::disconnected("nothing comes any more");
                    self.connections.iter().for_each(|one| one.abort(reason.clone()));
                }
            }
        }
    }

    fn all_wait(&self) -> bool {
        let own = |name: &str| self.threads.iter().any(|prefix| name.starts_with(prefix));
        watchdog::threads().iter().filter(|one| own(&one.name)).all(|one| one.state == "S")
    }
}

fn run(session: Session, place: Place) -> Seen {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let what = format!("{place:?}");
    let names = ["c", "s"].map(|side| format!("f{number}{side}"));
    let threads = names.clone().map(|name| format!("{name}-"));
    let [client_vat, server_vat] = names.map(|name| vat(&name));
    let ledger = Ledger::default();
    let (tell, told) = mpsc::channel();
    let (here, there, troubles) = link(place, &tell);
    // Who gives up a link that stalls does not wait for it.
    let config = || match place.fault {
        Fault::Stall => ConnConfig::new().close_timeout(Duration::from_millis(5)),
        _ => ConnConfig::new(),
    };
    let offering = config().bootstrap(Object::on(&server_vat, &ledger));
    let server = server_vat.connect(there, offering).unwrap();
    let client = client_vat.connect(here, config()).unwrap();
    let side = Side { ledger: ledger.clone(), vat: client_vat.clone(), desk: client.bootstrap() };

    let trouble = Arc::clone(&troubles[usize::from(!place.from_client)]);
    let attendant = Attendant {
        fault: place.fault,
        go_on: trouble.go_on(),
        connections: [client.clone(), server.clone()],
        threads: threads.clone(),
    };
    let attending = thread::spawn(move || attendant.attend(&told));
    let outcome = session(&side);
    assert!(outcome.is_ok() || trouble.has_harmed(), "{what}: {outcome:?}");
    drop(side);
    // The fault may come behind what the session waits for.
    until(&format!("{what}: empty tables, or the fault"), || {
        trouble.has_harmed() || client.snapshot().is_empty() && server.snapshot().is_empty()
    });
    client.close();
    if trouble.has_harmed() {
        server.close();
    }
    for connection in [&client, &server] {
        assert!(connection.join_timeout(LONG).unwrap(), "{what}");
        assert!(connection.snapshot().is_empty(), "{what}: {:?}", connection.snapshot());
    }
    for vat in [&client_vat, &server_vat] {
        assert!(vat.shutdown(LONG).unwrap(), "{what}");
    }
    let seen = Seen {
        bytes: [0, 1].map(|way: usize| troubles[way].passed()),
        begins: [0, 1].map(|way: usize| troubles[way].begins()),
    };
    tell.send(Told::Over).unwrap();
    attending.join().unwrap();
    drop((client, server));
    for prefix in &threads {
        until("threads to go", || threads_named(prefix) == 0);
    }
    ledger.check(&what);
    seen
}

/// Every fault at every position, or at those that are chosen.
fn all_faults(session: Session) {
    let all = std::env::var("FAULTS").is_ok_and(|faults| faults == "all");
    // One position of so many, where not all are wanted.
    let stride = if all { 1 } else { 199 };
    let usual = run(session, Place { fault: Fault::None, from_client: true, at: usize::MAX });
    let mut runs = 0;
    for from_client in [true, false] {
        let way = usize::from(!from_client);
        let mut chosen: BTreeSet<usize> = (0..usual.bytes[way]).step_by(stride).collect();
        let begins = usual.begins[way].iter().step_by(if all { 1 } else { 5 });
        chosen.extend(begins.flat_map(|at| [at.saturating_sub(1), *at, at + 1]));
        for fault in [Fault::Cut, Fault::Delay, Fault::Stall] {
            for at in &chosen {
                let _watchdog = Watchdog::start();
                run(session, Place { fault, from_client, at: *at });
                runs += 1;
            }
        }
    }
    assert!(runs > 20, "only {runs} runs");
    eprintln!("{:?} bytes, {runs} runs", usual.bytes);
}

#[test]
fn calls_survive_every_fault() {
    all_faults(session::calls);
}

#[test]
fn call_backs_survive_every_fault() {
    all_faults(session::call_backs);
}

#[test]
fn promises_survive_every_fault() {
    all_faults(session::promises);
}

#[test]
fn embargoes_survive_every_fault() {
    all_faults(session::embargo);
}

#[test]
fn tail_calls_survive_every_fault() {
    all_faults(session::tail_call);
}

#[test]
fn streams_survive_every_fault() {
    all_faults(session::stream);
}
