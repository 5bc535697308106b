//! Threads and descriptors that cannot be had any more from a certain one on, or that one of
//! them cannot be had: each of them in turn.
//!
//! Whatever a session gets, what it does not get is an error, and nothing waits for it. What
//! it got is given back, and the next session, which gets everything, has nothing to
//! complain of.

use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use capnp_threads_core::{ConnConfig, Connection, Vat};
use capnp_threads_transport::{Address, Transport};
use rpc_tests::support::{LONG, Watchdog, alone, threads_named, until, vat};

use super::session::{self, Ledger, Object, Session, Side};
use crate::out_of_descriptors::with_room_for;

const SESSIONS: [Session; 4] =
    [session::calls, session::call_backs, session::promises, session::tail_call];

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The descriptors that are sockets. Others may belong to threads that stay.
fn sockets() -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

fn connected() -> std::io::Result<(Transport, Transport)> {
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen()?;
    // The system connects it before anybody accepts it.
    let here = listener.local_address()?.connect()?;
    Ok((here, listener.accept()?))
}

fn session_of(
    vats: [&Vat; 2],
    ledger: &Ledger,
    session: Session,
    begun: &mut Vec<Connection>,
) -> Outcome {
    let [client_vat, server_vat] = vats;
    let (here, there) = connected()?;
    let config = ConnConfig::new().bootstrap(Object::on(server_vat, ledger));
    let server = server_vat.connect(there, config)?;
    begun.push(server);
    let client = client_vat.connect(here, ConnConfig::new())?;
    begun.push(client.clone());
    let (ledger, vat) = (ledger.clone(), client_vat.clone());
    Ok(session(&Side { ledger, vat, desk: client.bootstrap() })?)
}

/// Runs a session inside of `limits`, and ends it outside.
fn run(session: Session, limits: impl FnOnce(&mut dyn FnMut() -> Outcome) -> Outcome) -> Outcome {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let name = format!("q{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let [client_vat, server_vat] = ["c", "s"].map(|side| vat(&format!("{name}{side}")));
    let (ledger, mut begun) = (Ledger::default(), Vec::new());
    let outcome =
        limits(&mut || session_of([&client_vat, &server_vat], &ledger, session, &mut begun));
    begun.iter().for_each(Connection::close);
    for connection in &begun {
        assert!(connection.join_timeout(LONG).unwrap());
        assert!(connection.snapshot().is_empty(), "{:?}", connection.snapshot());
    }
    drop(begun);
    for vat in [client_vat, server_vat] {
        assert!(vat.shutdown(LONG).unwrap());
    }
    for side in ["c", "s"] {
        until("threads to go", || threads_named(&format!("{name}{side}-")) == 0);
    }
    ledger.check(&name);
    outcome
}

// ---- Descriptors

#[test]
fn a_session_without_descriptors_from_any_one_on_ends() {
    if !alone("faults::scarce::a_session_without_descriptors_from_any_one_on_ends") {
        return;
    }
    for session in SESSIONS {
        // What is made once is made.
        run(session, |work| work()).unwrap();
        let before = sockets();
        let mut failed = 0;
        for room in 0.. {
            let _watchdog = Watchdog::start();
            let outcome = run(session, |work| with_room_for(room, work));
            until("sockets to be closed", || sockets() == before);
            run(session, |work| work()).unwrap();
            match outcome {
                Ok(()) => break,
                Err(_) => failed += 1,
            }
        }
        assert!(failed >= 3, "a session needs more than {failed} descriptors");
    }
}

// ---- Threads

/// How many more threads can be had.
static THREADS: AtomicI64 = AtomicI64::new(i64::MAX);
/// Whether it is one thread that cannot be had, and the next one can.
static ONE_ONLY: AtomicI64 = AtomicI64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

type Start = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut libc::c_void,
) -> libc::c_int;

/// Stands before the function of the system, for the whole test program.
///
/// # Safety
/// As that one.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut libc::c_void,
) -> libc::c_int {
    let left = THREADS.fetch_sub(1, Ordering::SeqCst);
    if left == 0 || left < 0 && ONE_ONLY.load(Ordering::SeqCst) == 0 {
        REFUSED.fetch_add(1, Ordering::SeqCst);
        return libc::EAGAIN;
    }
    // SAFETY: the name ends with a zero, and the function is of this type.
    unsafe {
        let found = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
        assert!(!found.is_null());
        let create: Create = std::mem::transmute(found);
        create(thread, attributes, start, argument)
    }
}

fn with_threads<R>(count: i64, one_only: bool, work: impl FnOnce() -> R) -> R {
    ONE_ONLY.store(i64::from(one_only), Ordering::SeqCst);
    THREADS.store(count, Ordering::SeqCst);
    let result = work();
    THREADS.store(i64::MAX, Ordering::SeqCst);
    result
}

#[test]
fn a_session_without_any_of_its_threads_ends() {
    if !alone("faults::scarce::a_session_without_any_of_its_threads_ends") {
        return;
    }
    for (session, one_only) in SESSIONS.into_iter().flat_map(|one| [(one, true), (one, false)]) {
        run(session, |work| work()).unwrap();
        let mut failed = 0;
        for count in 0.. {
            let _watchdog = Watchdog::start();
            let before = REFUSED.load(Ordering::SeqCst);
            let outcome = run(session, |work| with_threads(count, one_only, work));
            run(session, |work| work()).unwrap();
            failed += u32::from(outcome.is_err());
            // How many threads a session takes depends on how fast they are.
            if REFUSED.load(Ordering::SeqCst) == before {
                outcome.unwrap();
                break;
            }
        }
        assert!(failed > 0, "no session failed for want of a thread");
    }
}
