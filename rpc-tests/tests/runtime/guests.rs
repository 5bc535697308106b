//! Threads that read from a connection while they wait for something else: nothing that comes
//! keeps them from what they wait for, and no code of the application runs on them.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use capnp_threads_core::vat::{ConnectionThreads, VatConfig};
use capnp_threads_core::{Concurrency, ConnConfig, Connection, Limits, Result, Vat};
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Event, Watchdog, vat};

const ECHO: u64 = 0xfe75_8b36_a0d3_1641;
const PING: u16 = 0;
const NEXT: u16 = 2;

/// Does something when it is dropped.
struct AtDrop(Arc<dyn Fn() + Send + Sync>);

impl Drop for AtDrop {
    fn drop(&mut self) {
        self.0();
    }
}

/// Gives away objects with such a destructor. Answers pings.
struct Giver(Vat, Arc<dyn Fn() + Send + Sync>);

impl echo::Server for Giver {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(self.0.export(Given(AtDrop(Arc::clone(&self.1)))));
        Ok(())
    }
}

#[expect(dead_code, reason = "it is dropped")]
struct Given(AtDrop);

impl echo::Server for Given {}

/// A peer that has one object of a giver's, whose destructor does this.
struct Has {
    peer: RawPeer,
    connection: Connection,
    giver: Target,
    given: u32,
}

impl Has {
    fn new(vat: &Vat, limits: Limits, at_drop: impl Fn() + Send + Sync + 'static) -> Self {
        let giver = Giver(vat.clone(), Arc::new(at_drop));
        let giver: echo::Client = vat.export_with(giver, Concurrency::Inline);
        let config = ConnConfig::new().bootstrap(giver).limits(limits);
        let (mut peer, connection) = RawPeer::connect(vat, config);
        let giver = Target::Import(peer.bootstrapped(0));
        peer.bytes(&raw::call(1, &giver, ECHO, NEXT, &[]));
        let Outcome::Results(caps) = peer.outcome(1) else { panic!("no results") };
        peer.finish(1, false);
        let [Cap::SenderHosted(given)] = caps[..] else { panic!("{caps:?}") };
        peer.sync(2);
        Has { peer, connection, giver, given }
    }

    fn release(&self) -> Vec<u8> {
        raw::frame(|message| {
            let mut release = message.init_release();
            release.set_id(self.given);
            release.set_reference_count(1);
        })
    }

    /// So many calls.
    fn pings(&self, count: u32) -> Vec<u8> {
        (10..10 + count).flat_map(|id| raw::call(id, &self.giver, ECHO, PING, &[])).collect()
    }

    /// Writes beside what the test does: the vat may not read all of it before that.
    fn writes(&self, bytes: Vec<u8>) -> thread::JoinHandle<()> {
        let mut writer = self.peer.writer();
        thread::spawn(move || writer.write_all(&bytes).unwrap())
    }

    fn end(mut self) {
        self.peer.end();
        self.connection.join().unwrap();
    }
}

fn vat_with(threads: ConnectionThreads) -> Vat {
    let mut config = VatConfig::default();
    config.connection_threads = threads;
    Vat::with_config(config).unwrap()
}

fn called(peer: &mut RawPeer) -> u32 {
    peer.receive_until("a call", |said| match said {
        Said::Call { question, .. } => Some(*question),
        _ => None,
    })
}

fn failed(question: u32) -> Vec<u8> {
    raw::frame(|message| {
        let mut answer = message.init_return();
        answer.set_answer_id(question);
        answer.set_release_param_caps(false);
        answer.init_exception().set_reason("enough");
    })
}

/// A lock, and a destructor that takes it.
fn lock_and_destructor() -> (Arc<Mutex<()>>, impl Fn() + Send + Sync + 'static) {
    let lock = Arc::new(Mutex::new(()));
    let wanted = Arc::clone(&lock);
    (lock, move || drop(wanted.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// In front of the coordinator is a destructor that waits for the thread whose time is over, and
/// behind that more than may wait there.
#[test]
fn a_deadline_counts_whatever_comes_meanwhile() {
    let _watchdog = Watchdog::start();
    for vat in [ConnectionThreads::Own, ConnectionThreads::Shared].map(vat_with) {
        let (lock, at_drop) = lock_and_destructor();
        let mut has = Has::new(&vat, Limits::default(), at_drop);
        let theirs: echo::Client = has.connection.bootstrap();
        let waits = thread::spawn(move || {
            let _guard = lock.lock().unwrap();
            theirs.ping_request().call_timeout(Duration::from_millis(100)).map(drop)
        });
        called(&mut has.peer);
        let writes = has.writes([has.release(), has.pings(1000)].concat());
        let error = waits.join().unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error}");
        for question in 10..1010 {
            has.peer.outcome(question);
        }
        writes.join().unwrap();
        has.end();
    }
}

/// The destructor behind its answer waits for it.
#[test]
fn a_thread_whose_answer_another_one_reads_is_woken_whatever_comes_behind() {
    let _watchdog = Watchdog::start();
    let vat = vat("many-behind");
    let (lock, at_drop) = lock_and_destructor();
    let mut limits = Limits::default();
    limits.received_messages = 16;
    let mut has = Has::new(&vat, limits, at_drop);
    let theirs: echo::Client = has.connection.bootstrap();
    let first = theirs.clone();
    // This one reads.
    let reads = thread::spawn(move || first.ping_request().call().map(drop));
    let last = called(&mut has.peer);
    let waits = thread::spawn(move || {
        let _guard = lock.lock().unwrap();
        theirs.ping_request().call().map(drop)
    });
    let answered = called(&mut has.peer);
    let writes = has.writes([failed(answered), has.release(), has.pings(64)].concat());
    assert_eq!(waits.join().unwrap().unwrap_err().reason(), "enough");
    writes.join().unwrap();
    has.peer.bytes(&failed(last));
    assert_eq!(reads.join().unwrap().unwrap_err().reason(), "enough");
    has.end();
}

/// Both come with one read.
fn leaves_before_a_destructor_that_blocks(
    threads: ConnectionThreads,
    first: fn(&Target) -> Vec<u8>,
) {
    let vat = vat_with(threads);
    let seen = Event::new();
    let waits = seen.clone();
    let mut has = Has::new(&vat, Limits::default(), move || waits.wait());
    has.peer.bytes(&[first(&has.giver), has.release()].concat());
    has.peer.outcome(7);
    seen.set();
    has.end();
}

#[test]
fn an_answer_leaves_before_a_destructor_that_waits_for_its_effect() {
    let _watchdog = Watchdog::start();
    for threads in [ConnectionThreads::Own, ConnectionThreads::Shared] {
        leaves_before_a_destructor_that_blocks(threads, |giver| {
            raw::call(7, giver, ECHO, PING, &[])
        });
        leaves_before_a_destructor_that_blocks(threads, |_| {
            raw::frame(|message| message.init_bootstrap().set_question_id(7))
        });
    }
}

/// What it sends itself does not wait for its end, either.
#[test]
fn what_a_destructor_sends_leaves_while_it_waits_for_its_effect() {
    let _watchdog = Watchdog::start();
    for threads in [ConnectionThreads::Own, ConnectionThreads::Shared] {
        let vat = vat_with(threads);
        let seen = Event::new();
        let waits = seen.clone();
        let theirs = Arc::new(Mutex::new(None::<echo::Client>));
        let called_there = Arc::clone(&theirs);
        let mut has = Has::new(&vat, Limits::default(), move || {
            let theirs = called_there.lock().unwrap().take().unwrap();
            let sent = theirs.ping_request().send();
            waits.wait();
            drop(sent);
        });
        *theirs.lock().unwrap() = Some(has.connection.bootstrap());
        has.peer.bytes(&has.release());
        called(&mut has.peer);
        seen.set();
        has.end();
    }
}

/// Of a thread that waits with a lock that the encoder would take.
#[test]
fn the_trace_encoder_runs_on_no_thread_of_the_application() {
    let _watchdog = Watchdog::start();
    let vat = vat("encodes");
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let config = ConnConfig::new().trace_encoder(move |_| {
        let name = thread::current().name().map(str::to_owned);
        tell.lock().unwrap().send(name).unwrap();
        String::new()
    });
    let (mut peer, connection) = RawPeer::connect(&vat, config);
    let theirs: echo::Client = connection.bootstrap();
    let waits = thread::Builder::new().name("waits".into());
    let waits = waits.spawn(move || theirs.ping_request().call().map(drop)).unwrap();
    let question = called(&mut peer);
    // There is no such object.
    peer.bootstrap(77);
    let outcome = peer.outcome(77);
    assert!(matches!(outcome, Outcome::Exception(_)), "{outcome:?}");
    peer.bytes(&failed(question));
    waits.join().unwrap().unwrap_err();
    let name = told.recv().unwrap().unwrap();
    assert!(name.ends_with("-send"), "{name}");
    peer.end();
    connection.join().unwrap();
}
