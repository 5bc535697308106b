//! What is held, as the allocator of the process counts it: by a connection that is used,
//! is not used any more, or has ended, and by endpoints and transports after their peak.
//!
//! What these tests allow is what `docs/limits.md` says.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use capnp_threads_core::capnp::{text, word};
use capnp_threads_core::message::Message;
use capnp_threads_core::untyped::{IncomingCall, Payload, PayloadBuilder};
use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{Client, Concurrency, ConnConfig, Connection, Error, Limits, Vat};
use capnp_threads_endpoint::{ConnectHints, Endpoint, Event, Network, Parameters};
use capnp_threads_transport::{Transport, memory as in_memory, tcp};
use parking_lot::{Condvar, Mutex};
use rpc_schema::echo_capnp::echo;

use rpc_tests::attacks::memory::held;
use rpc_tests::support::objects::{Quick, any};
use rpc_tests::support::raw::{self, RawPeer, Target};
use rpc_tests::support::{
    LONG, Watchdog, alone, threads_named, until, vat, vat_with_pool, watchdog,
};

/// Number of connections that are measured together.
const COUNT: usize = 50;

/// How many bytes of messages each of them carries on its peak.
const PEAK: usize = 2 << 20;

/// The memory of an idle connection, in bytes of one side: before its buffers have grown,
/// and afterwards.
const IDLE: usize = 17 << 10;
const IDLE_AFTER_PEAK: usize = 96 << 10;

/// The memory of a connection that has ended, in bytes of one side, for whoever still holds
/// its handle and its bootstrap object.
const ENDED: usize = 9 << 10;

/// Two vats and the connections between them.
struct Many {
    vats: [Vat; 2],
    ends: Vec<[Connection; 2]>,
    echoes: Vec<echo::Client>,
}

impl Many {
    fn connect(wire: impl Fn() -> (Transport, Transport)) -> Self {
        // Workers that wait for work are not what is measured.
        let brief = || {
            let mut pool = PoolConfig::default();
            pool.idle_time = Duration::ZERO;
            pool
        };
        let vats = [vat_with_pool("heldc", brief()), vat_with_pool("helds", brief())];
        let object: echo::Client = vats[1].export(Quick);
        let ends = (0..COUNT).map(|_| {
            let (here, there) = wire();
            let config = ConnConfig::new().bootstrap(object.clone());
            let server = vats[1].connect(there, config).unwrap();
            [vats[0].connect(here, ConnConfig::new()).unwrap(), server]
        });
        let ends: Vec<_> = ends.collect();
        let echoes = ends.iter().map(|[client, _]| client.bootstrap::<echo::Client>()).collect();
        Many { vats, ends, echoes }
    }

    /// One call on each connection.
    fn call(&self) {
        for echo in &self.echoes {
            echo.ping_request().call().unwrap();
        }
    }

    /// Many large calls at once on each.
    fn peak(&self) {
        let data = vec![7; PEAK / 64];
        for echo in &self.echoes {
            let calls = [(); 64].map(|()| {
                let mut request = echo.echo_request();
                request.get().set_data(&data);
                request.send()
            });
            for call in calls {
                assert_eq!(call.wait().unwrap().get().unwrap().get_data().unwrap(), data);
            }
        }
    }
}

/// The memory that the ends of the connections hold when nothing is under way, each of them.
fn of_each_end(before: usize, allowed: usize) -> usize {
    at_most("bytes of each end", allowed, || held().saturating_sub(before) / (2 * COUNT))
}

/// Waits until what is measured is no more than what is allowed: threads that have answered
/// are still about to wait.
fn at_most(what: &str, allowed: usize, measure: impl Fn() -> usize) -> usize {
    let _doing = watchdog::doing(what);
    let end = Instant::now() + LONG / 2;
    loop {
        let measured = measure();
        if measured <= allowed {
            return measured;
        }
        assert!(Instant::now() < end, "{measured} {what} are held, and {allowed} are allowed");
        thread::yield_now();
    }
}

/// Vats keep a little that is theirs and not the connections'. Returns when all else is gone.
fn once(wire: impl Fn() -> (Transport, Transport)) {
    table_of_sleepers_for(12 * COUNT);
    let many = Many::connect(wire);
    many.call();
    many.peak();
    assert!(many.vats.iter().all(|vat| vat.shutdown(LONG).unwrap()));
    drop(many);
    until("the threads of the vats to go", || threads_named("heldc") + threads_named("helds") == 0);
}

/// Makes `parking_lot`'s table of sleeping threads as large as it gets with so many threads,
/// since it never shrinks and belongs to no connection: how many threads there are at once
/// depends on how fast they come and go.
fn table_of_sleepers_for(threads: usize) {
    let (lock, all_are_there) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut there = lock.lock();
                *there += 1;
                all_are_there.notify_all();
                all_are_there.wait_while(&mut there, |there| *there < threads);
            });
        }
    });
}

fn over_tcp() -> (Transport, Transport) {
    let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let there = listener.accept().unwrap();
    (tcp::from_stream(stream).unwrap(), there)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn a_connection_holds_what_the_chapter_of_limits_says() {
    if !alone("held::a_connection_holds_what_the_chapter_of_limits_says") {
        return;
    }
    let _watchdog = Watchdog::start();
    once(over_tcp);
    let (before, files) = (held(), descriptors());
    let many = Many::connect(over_tcp);
    many.call();
    println!("idle: {}", of_each_end(before, IDLE));
    many.peak();
    println!("after its peak: {}", of_each_end(before, IDLE_AFTER_PEAK));
    // Somebody keeps the handles and the clients.
    for [client, server] in &many.ends {
        client.close();
        assert!(client.join_timeout(LONG).unwrap());
        assert!(server.join_timeout(LONG).unwrap());
    }
    println!("ended: {}", of_each_end(before, ENDED));
    until("descriptors to be closed", || descriptors() <= files);
    assert!(many.echoes[0].ping_request().call().is_err());
    assert!(many.vats.iter().all(|vat| vat.shutdown(LONG).unwrap()));
}

/// What the vat answers while nobody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Answer {
    Nothing,
    Short,
    Page,
    Long,
    Objects,
    Exception,
    LongException,
}

/// The last call: it stays open.
const LAST: u16 = 7;

const ANSWERS: [Answer; LAST as usize] = [
    Answer::Nothing,
    Answer::Short,
    Answer::Page,
    Answer::Long,
    Answer::Objects,
    Answer::Exception,
    Answer::LongException,
];

/// Answers at once, on the thread that receives the call, so that a Finish that comes right
/// behind the call comes too late to cancel it.
fn answering(vat: &Vat, kept: std::sync::mpsc::Sender<IncomingCall>) -> Client {
    let given = any(vat, Concurrency::Inline, |_| ());
    any(vat, Concurrency::Inline, move |call| {
        let bytes = |count: u32| {
            let mut results = PayloadBuilder::for_results();
            let mut data = results.content().initn_as::<text::Builder<'_>>(count);
            data.push_str(&"x".repeat(count as usize));
            Ok(results.finish(Vec::new()))
        };
        let outcome = match ANSWERS.get(usize::from(call.method_id())) {
            None => return kept.send(call).unwrap(),
            Some(Answer::Nothing) => Ok(Payload::empty().clone()),
            Some(Answer::Short) => bytes(20),
            Some(Answer::Page) => bytes(4_000),
            Some(Answer::Long) => bytes(200_000),
            Some(Answer::Objects) => {
                let mut results = PayloadBuilder::for_results();
                raw::pointer_to_first(results.content());
                Ok(results.finish(vec![given.clone(); 20]))
            }
            Some(Answer::Exception) => Err(Error::failed("no")),
            Some(Answer::LongException) => Err(Error::failed("no".repeat(2_000))),
        };
        call.respond(outcome);
    })
}

/// `Limits::backlog_bytes` and `Limits::queued_bytes` bound memory, and not something that
/// is a half or a third of it.
#[test]
fn what_is_queued_for_a_peer_that_does_not_read_is_counted_as_what_it_takes() {
    if !alone("held::what_is_queued_for_a_peer_that_does_not_read_is_counted_as_what_it_takes") {
        return;
    }
    let _watchdog = Watchdog::start();
    let wanted = 8 << 20;
    let vat = vat("backlog");
    let mut wrong = Vec::new();
    for answer in ANSWERS {
        let (keep, kept) = std::sync::mpsc::channel();
        let mut limits = Limits::default();
        limits.backlog_bytes = u64::MAX;
        let config = ConnConfig::new().bootstrap(answering(&vat, keep)).limits(limits);
        let (mut peer, connection) = RawPeer::connect(&vat, config);
        let target = Target::Import(peer.bootstrapped(0));
        let one = |method| raw::call(1, &target, 1, method, &[]);
        let some = [one(answer as u16), raw::finish(1, true)].concat().repeat(50);
        let mut writer = peer.writer();
        let before = held();
        while connection.snapshot().queued_bytes < wanted {
            writer.write_all(&some).unwrap();
        }
        writer.write_all(&one(LAST)).unwrap();
        let last = kept.recv_timeout(LONG).unwrap();
        let (taken, counted) = (held() - before, connection.snapshot().queued_bytes);
        #[allow(clippy::cast_precision_loss)]
        let ratio = taken as f64 / counted as f64;
        println!("{answer:?}: {taken} bytes are held, {counted} counted: {ratio:.2}");
        if taken > counted + counted / 5 {
            wrong.push((answer, ratio));
        }
        drop(last);
        connection.abort(Error::failed("enough"));
        drop((peer, writer));
        assert!(connection.join_timeout(LONG).unwrap());
    }
    assert!(wrong.is_empty(), "more is held than is counted: {wrong:?}");
    assert!(vat.shutdown(LONG).unwrap());
}

/// The next event of an endpoint.
fn next(endpoint: &Endpoint) -> Event {
    endpoint.receive_timeout(LONG).unwrap().expect("an event")
}

/// Messages of so many connections wait at an endpoint, half of them claimed; then all are
/// received and the connections closed.
fn endpoints_peak(here: &Endpoint, there: &Endpoint, connections: usize) {
    let message = [7; 40];
    let opened = (0..connections).map(|_| {
        let connection = here.connect(there.address(), ConnectHints::new()).unwrap();
        (0..20).for_each(|_| connection.send(&[&message]).unwrap());
        connection
    });
    let opened: Vec<_> = opened.collect();
    let mut claimed = Vec::new();
    let mut received = 0;
    while claimed.len() < connections / 2 || received < 20 * (connections - connections / 2) {
        match next(there) {
            Event::ConnectionOpened { connection, .. } if claimed.len() < connections / 2 => {
                claimed.push(there.claim(connection).unwrap());
            }
            Event::ConnectionOpened { .. } => {}
            Event::Received { .. } => received += 1,
            other => panic!("{other:?}"),
        }
    }
    for incoming in &claimed {
        (0..20).for_each(|_| assert!(incoming.receive_timeout(LONG).unwrap().is_some()));
    }
    drop(opened);
    for incoming in claimed {
        assert!(incoming.receive_timeout(LONG).unwrap().is_none());
    }
    for _ in 0..connections - connections / 2 {
        let Event::ConnectionClosed { .. } = next(there) else { panic!() };
    }
}

#[test]
fn endpoints_give_back_what_they_held_on_their_peak() {
    if !alone("held::endpoints_give_back_what_they_held_on_their_peak") {
        return;
    }
    let _watchdog = Watchdog::start();
    let mut parameters = Parameters::default();
    parameters.max_connections = 1 << 20;
    parameters.max_events = 1 << 20;
    let networks = [(); 2].map(|()| Network::bind("127.0.0.1", 0, parameters.clone()).unwrap());
    let [here, there] = networks.each_ref().map(|network| network.new_endpoint().unwrap());
    // It stays, and so does the link.
    let one = here.connect(there.address(), ConnectHints::new()).unwrap();
    let Event::ConnectionOpened { .. } = next(&there) else { panic!() };
    endpoints_peak(&here, &there, 16);
    let before = held();
    endpoints_peak(&here, &there, 3000);
    let left = at_most("bytes", 96 << 10, || held().saturating_sub(before));
    println!("left of the peak of endpoints: {left}");
    drop(one);
}

#[test]
fn transports_in_memory_give_back_what_they_held_on_their_peak() {
    if !alone("held::transports_in_memory_give_back_what_they_held_on_their_peak") {
        return;
    }
    let _watchdog = Watchdog::start();
    let peak = |transports: &mut (Transport, Transport)| {
        let message = || Message::from_segments(vec![word(0, 0, 0, 0, 0, 0, 0, 0)], &[1]).unwrap();
        let mut batch: Vec<Message> = std::iter::repeat_with(message).take(1000).collect();
        transports.0.writer.write(&mut batch).unwrap();
        for _ in 0..1000 {
            transports.1.reader.read().unwrap().unwrap();
        }
    };
    let mut transports: Vec<_> = [(); COUNT].map(|()| in_memory::pair()).into_iter().collect();
    let before = held();
    // The queue before and the one after: two that take turns.
    transports.iter_mut().for_each(peak);
    transports.iter_mut().for_each(peak);
    let left = at_most("bytes of each pair", 8 << 10, || held().saturating_sub(before) / COUNT);
    println!("left of the peak of a pair in memory: {left}");
}
