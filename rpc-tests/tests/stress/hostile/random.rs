//! Messages by chance: valid sessions with mistakes in them, and mistakes with
//! valid messages in them. Each run is told by its seed; `FUZZ_SEED` repeats one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use capnp_threads_core::untyped::{Fulfiller, IncomingCall, Payload, PayloadBuilder};
use capnp_threads_core::{Client, Concurrency, ConnConfig, Connection, Error, Vat, promise_client};
use capnp_threads_transport::unix;
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use super::victim::{Victim, own_vat};
use rpc_tests::support::objects::{self, Keeper, call_foo, foo_request, plain};
use rpc_tests::support::raw::{self, Cap, Loopback, RawPeer, Target};
use rpc_tests::support::{Census, Counted, LONG, Random, Watchdog, stress_time, until, watchdog};

/// Runs a test with one seed after the other for a while, or with the one that was
/// asked for.
fn for_seeds(least: u64, mut run: impl FnMut(u64)) {
    /// Says which seed it was.
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if thread::panicking() {
                println!("FUZZ_SEED={} repeats this", self.0);
            }
        }
    }
    let mut one = |seed| {
        let _doing = watchdog::doing(&format!("what FUZZ_SEED={seed} repeats"));
        let _seed = Seed(seed);
        run(seed);
    };
    if let Ok(seed) = std::env::var("FUZZ_SEED") {
        return one(seed.parse().expect("FUZZ_SEED must be a number"));
    }
    let end = Instant::now() + stress_time();
    for seed in 0.. {
        if seed >= least && Instant::now() > end {
            return;
        }
        one(seed);
    }
}

// ---- Sessions with mistakes in them

/// Uses everything that the protocol has. Whatever fails, fails.
fn session(connection: &Connection, vat: &Vat, census: &Census) -> Result<(), Error> {
    let keeper: test_more_stuff::Client = connection.bootstrap();
    let object = plain(vat, census);

    let mut request = keeper.call_foo_request();
    request.get().set_cap(object.clone());
    request.call()?;

    // A promise goes there and is fulfilled later; a field of it is called.
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    let mut request = keeper.echo_request();
    request.get().set_cap(promise.cast_to());
    let echo = request.send();
    let field: test_interface::Client = echo.pipeline().get_cap().cast_to();
    let called = foo_request(&field).send();
    fulfiller.fulfill(object.clone());
    called.wait()?;
    echo.wait()?;
    call_foo(&field)?;

    // Something is held there, called, and had back.
    let mut request = keeper.hold_request();
    request.get().set_cap(object);
    request.call()?;
    keeper.call_held_request().call()?;
    let held = keeper.get_held_request().send();
    call_foo(&held.pipeline().get_cap())?;
    drop(held);

    // A promise that fails.
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    let mut request = keeper.call_foo_when_resolved_request();
    request.get().set_cap(promise);
    let waiting = request.send();
    fulfiller.reject(Error::overloaded("on purpose"));
    let _ = waiting.wait()?;

    // What is dropped, and what is cancelled.
    for _ in 0..3 {
        drop(keeper.get_handle_request().call()?);
        drop(keeper.get_handle_request().send());
    }
    let mut request = keeper.hold_request();
    request.get().set_cap(keeper.clone().cast_to());
    request.call()?;
    Ok(())
}

/// What both sides of a session wrote, message by message.
fn recorded() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (client_vat, server_vat) = (own_vat(), own_vat());
    let (client_end, client_side) = UnixStream::pair().unwrap();
    let (server_end, server_side) = UnixStream::pair().unwrap();
    let pump = |mut from: UnixStream, mut to: UnixStream| {
        thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                let count = from.read(&mut buffer).unwrap();
                if count == 0 {
                    to.shutdown(std::net::Shutdown::Write).unwrap();
                    return all;
                }
                all.extend_from_slice(&buffer[..count]);
                to.write_all(&buffer[..count]).unwrap();
            }
        })
    };
    let there = pump(client_side.try_clone().unwrap(), server_side.try_clone().unwrap());
    let back = pump(server_side, client_side);
    let transport = |stream| unix::from_stream(stream).unwrap();
    let config = ConnConfig::new().bootstrap(Keeper::client(&server_vat));
    let server = server_vat.connect(transport(server_end), config).unwrap();
    let client = client_vat.connect(transport(client_end), ConnConfig::new()).unwrap();
    // One of its calls fails on purpose, which ends the session.
    session(&client, &client_vat, &Census::new()).unwrap_err();
    rpc_tests::support::until("the session to be over", || {
        client.snapshot().questions == 0 && server.snapshot().questions == 0
    });
    client.close();
    assert!(client_vat.shutdown(LONG).unwrap());
    assert!(server_vat.shutdown(LONG).unwrap());
    (frames(&there.join().unwrap()), frames(&back.join().unwrap()))
}

/// Splits a stream into its messages.
fn frames(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let segments = number(stream, 0) + 1;
        let words: usize = (1..=segments).map(|index| number(stream, 4 * index)).sum();
        let length = (4 * (segments + 1)).next_multiple_of(8) + 8 * words;
        frames.push(stream[..length].to_vec());
        stream = &stream[length..];
    }
    frames
}

/// Makes mistakes in a session.
fn mutated(frames: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut frames = frames.to_vec();
    for _ in 0..1 + random.below(4) {
        if frames.is_empty() {
            break;
        }
        let at = random.below(frames.len());
        if frames[at].len() < 16 {
            // Little is left of it from the mistake before.
            continue;
        }
        match random.below(10) {
            0 => drop(frames.remove(at)),
            1 => {
                let again = frames[at].clone();
                frames.insert(random.below(frames.len() + 1), again);
            }
            2 => {
                let other = random.below(frames.len());
                frames.swap(at, other);
            }
            3 => {
                // Anywhere, the framing included.
                let byte = random.below(frames[at].len());
                frames[at][byte] = random.draw().to_le_bytes()[0];
            }
            4 => {
                let length = random.below(frames[at].len());
                frames[at].truncate(length);
            }
            5 => {
                let word = 8 * random.below(frames[at].len() / 8);
                let value = [0, u64::MAX, 3, 1 << 32, 0xffff_fffc | 1 << 48][random.below(5)];
                frames[at][word..word + 8].copy_from_slice(&value.to_le_bytes());
            }
            // What looks like an id, or a tag, becomes another one.
            _ => {
                let places: Vec<usize> = (8..frames[at].len() - 3)
                    .step_by(2)
                    .filter(|place| frames[at][place + 1] == 0 && frames[at][*place] < 16)
                    .collect();
                if let Some(place) = places.get(random.below(places.len().max(1))) {
                    frames[at][*place] = u8::try_from(random.below(8)).unwrap();
                }
            }
        }
    }
    frames.concat()
}

#[test]
fn a_server_survives_sessions_with_mistakes_in_them() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (there, _) = recorded();
    for_seeds(100, |seed| {
        let mut random = Random::new(seed);
        let (mut peer, connection) = victim.attack();
        peer.bytes(&mutated(&there, &mut random));
        peer.end();
        peer.drain();
        victim.survive(&connection);
    });
    victim.finish();
}

#[test]
fn a_client_survives_sessions_with_mistakes_in_them() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (_, back) = recorded();
    for_seeds(100, |seed| {
        let mut random = Random::new(seed);
        let (mut peer, connection) = victim.attack();
        let mut writer = peer.writer();
        let bytes = mutated(&back, &mut random);
        // So that most answers come after what they answer, each waits a moment for
        // something to be said. What comes too early is one mistake more.
        writer.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        let answering = thread::spawn(move || {
            let mut heard = [0; 512];
            for part in bytes.chunks(96) {
                let _ = writer.read(&mut heard);
                if writer.write_all(part).is_err() {
                    break;
                }
            }
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let census = Census::new();
        // It may even succeed.
        let _ = session(&connection, &victim.vat, &census);
        connection.close();
        answering.join().unwrap();
        peer.drain();
        victim.survive(&connection);
        until("the objects to go", || census.alive() == 0);
    });
    victim.finish();
}

// ---- Mistakes with valid messages in them

/// An object that does what the method's number says, with what it is given.
#[derive(Default)]
struct Stash {
    caps: Vec<Client>,
    calls: Vec<IncomingCall>,
    fulfillers: Vec<Fulfiller>,
}

/// How many methods it has.
const METHODS: usize = 14;

fn results(caps: Vec<Client>) -> Payload {
    use capnp_threads_core::capnp::traits::ImbueMut;
    use capnp_threads_core::typed::FromClient;
    let Some(first) = caps.first() else { return Payload::empty().clone() };
    let mut builder = PayloadBuilder::for_results();
    {
        let mut table = capnp_threads_core::hook::CapTable::new();
        let mut content = builder.content();
        content.imbue_mut(&mut table);
        let mut results = content.init_as::<test_more_stuff::echo_results::Builder<'_>>();
        if !first.is_null() {
            results.set_cap(FromClient::from_client(first.clone()));
        }
    }
    builder.finish(caps)
}

fn chaos(vat: &Vat, stash: &Arc<Mutex<Stash>>, census: &Census) -> Client {
    struct Object {
        stash: Arc<Mutex<Stash>>,
        census: Census,
        _counted: Counted,
    }
    let object =
        Object { stash: Arc::clone(stash), census: census.clone(), _counted: census.count() };
    let own = vat.clone();
    objects::any(vat, Concurrency::Concurrent, move |call| {
        // All of it belongs to the closure, what is only counted, too.
        let object = &object;
        let stash = || object.stash.lock().unwrap_or_else(PoisonError::into_inner);
        let caps = call.params().caps().to_vec();
        let first = caps.first().cloned().unwrap_or_default();
        let last = || stash().caps.last().cloned().unwrap_or_default();
        match call.method_id() {
            0 => call.respond(Ok(results(caps))),
            1 => {
                stash().caps.extend(caps);
                call.respond(Ok(results(Vec::new())));
            }
            2 => call.respond(Ok(results(vec![last()]))),
            3 => call.forward(&first),
            4 => call.forward(&last()),
            5 => {
                let outcome = first.call(1, 0, results_as_params(vec![last()])).wait();
                call.respond(outcome.map(|payload| results(payload.caps().to_vec())));
            }
            6 => {
                call.set_pipeline(results(caps));
                stash().calls.push(call);
            }
            7 => {
                let waiting = stash().calls.pop();
                if let Some(waiting) = waiting {
                    waiting.respond(Ok(results(caps)));
                }
                call.respond(Err(Error::failed("on purpose")));
            }
            8 => {
                let (promise, fulfiller) = capnp_threads_core::untyped::promise();
                stash().fulfillers.push(fulfiller);
                stash().caps.push(promise.clone());
                call.respond(Ok(results(vec![promise])));
            }
            9 => {
                let fulfiller = stash().fulfillers.pop();
                if let Some(fulfiller) = fulfiller {
                    fulfiller.fulfill(first);
                }
                call.respond(Ok(results(Vec::new())));
            }
            10 => {
                let taken = std::mem::take(&mut stash().caps);
                call.respond(Ok(results(taken.into_iter().take(4).collect())));
            }
            11 => call.respond(Ok(results(vec![Client::broken(Error::failed("on purpose"))]))),
            12 => {
                // Pipelined on what may never return.
                let pending = first.call(1, 0, results_as_params(vec![]));
                let field = pending.pipelined(&[0]);
                stash().caps.push(field.clone());
                call.respond(Ok(results(vec![field])));
            }
            _ => {
                let new = plain(&own, &object.census);
                let new = capnp_threads_core::FromClient::into_client(new);
                call.respond(Ok(results(vec![new])));
            }
        }
    })
}

/// The same content as parameters: a call takes any, it copies what does not fit.
fn results_as_params(caps: Vec<Client>) -> Payload {
    results(caps)
}

/// One message about one of very few things.
fn message(random: &mut Random) -> Vec<u8> {
    fn id(random: &mut Random) -> u32 {
        u32::try_from(random.below(6)).unwrap()
    }
    fn path(random: &mut Random) -> Vec<u16> {
        match random.below(6) {
            0 => vec![],
            1 => vec![0, 0],
            2 => vec![1],
            _ => vec![0],
        }
    }
    fn target(random: &mut Random) -> Target {
        match random.below(5) {
            0 | 1 => Target::Answer(id(random), path(random)),
            _ => Target::Import(id(random) % 3),
        }
    }
    fn cap(random: &mut Random) -> Cap {
        match random.below(12) {
            0..=2 => Cap::SenderHosted(id(random)),
            // Mostly other ids than those of what is no promise.
            3..=5 => Cap::SenderPromise(10 + id(random)),
            6 | 7 => Cap::ReceiverHosted(id(random) % 3),
            8..=10 => Cap::ReceiverAnswer(id(random), path(random)),
            _ => Cap::None,
        }
    }
    fn caps(random: &mut Random) -> Vec<Cap> {
        (0..random.below(3)).map(|_| cap(random)).collect()
    }
    let kind = random.below(40);
    match kind {
        0..=15 => {
            let (question, target, caps) = (id(random), target(random), caps(random));
            let method = u16::try_from(random.below(METHODS)).unwrap();
            let yourself = random.one_in(6);
            raw::frame(|message| {
                let mut call = message.init_call();
                call.set_question_id(question);
                call.set_interface_id(1);
                call.set_method_id(method);
                raw::write_target(call.reborrow().init_target(), &target);
                if yourself {
                    call.reborrow().get_send_results_to().set_yourself(());
                }
                raw::write_payload(call.init_params(), &caps);
            })
        }
        16..=22 => raw::finish(id(random), random.one_in(2)),
        23..=29 => {
            let (answer, caps) = (id(random) % 4, caps(random));
            let (outcome, other) = (random.below(8), id(random));
            let (release, no_finish) = (random.one_in(3), random.one_in(4));
            raw::frame(|message| {
                let mut ret = message.init_return();
                ret.set_answer_id(answer);
                ret.set_release_param_caps(release);
                ret.set_no_finish_needed(no_finish);
                match outcome {
                    0 => ret.set_canceled(()),
                    1 => ret.set_results_sent_elsewhere(()),
                    2 => ret.set_take_from_other_question(other),
                    3 => ret.init_exception().set_reason("by chance"),
                    _ => raw::write_payload(ret.init_results(), &caps),
                }
            })
        }
        30..=33 => {
            let (promise, to, failed) = (10 + id(random), cap(random), random.one_in(5));
            raw::frame(|message| {
                let mut resolve = message.init_resolve();
                resolve.set_promise_id(promise);
                if failed {
                    resolve.init_exception().set_reason("by chance");
                } else {
                    raw::write_cap(resolve.init_cap(), &to);
                }
            })
        }
        34 | 35 => {
            let id = id(random);
            raw::frame(|message| {
                let mut release = message.init_release();
                release.set_id(id);
                release.set_reference_count(1);
            })
        }
        36 => {
            let question = id(random);
            raw::frame(|message| message.init_bootstrap().set_question_id(question))
        }
        _ => {
            let (target, id) = (target(random), id(random) % 3);
            let loopback = if kind == 37 { Loopback::Receiver(id) } else { Loopback::Sender(id) };
            raw::frame(|message| {
                let mut disembargo = message.init_disembargo();
                raw::write_target(disembargo.reborrow().init_target(), &target);
                let mut context = disembargo.get_context();
                match loopback {
                    Loopback::Sender(id) => context.set_sender_loopback(id),
                    Loopback::Receiver(id) => context.set_receiver_loopback(id),
                }
            })
        }
    }
}

/// Peers that know the words and no rules, two at once so that what one gives ends
/// up with the other.
#[test]
fn a_vat_survives_peers_that_speak_by_chance() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    for_seeds(100, |seed| {
        let mut random = Random::new(seed);
        let (stash, census) = (Arc::default(), Census::new());
        let offered = chaos(&victim.vat, &stash, &census);
        let mut peers: Vec<(RawPeer, Connection, thread::JoinHandle<()>)> = (0..2)
            .map(|_| {
                let (mut peer, connection) = RawPeer::connect(
                    &victim.vat,
                    ConnConfig::new().bootstrap(offered.clone()).close_timeout(LONG),
                );
                peer.bootstrap(0);
                let mut reader = peer.writer();
                let reading = thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
                });
                (peer, connection, reading)
            })
            .collect();
        for _ in 0..30 + random.below(60) {
            let at = random.below(2);
            let (peer, connection, _) = &mut peers[at];
            peer.bytes(&message(&mut random));
            if random.one_in(8) {
                connection.check().unwrap();
            }
        }
        for (peer, ..) in &mut peers {
            peer.end();
        }
        for (peer, connection, reading) in peers {
            victim.survive(&connection);
            reading.join().unwrap();
            drop(peer);
        }
        // What is still stashed may hold the object itself.
        drop(offered);
        until("the objects to go", || {
            let taken = std::mem::take(&mut *stash.lock().unwrap_or_else(PoisonError::into_inner));
            drop(taken);
            census.alive() == 0
        });
    });
    victim.finish();
}
