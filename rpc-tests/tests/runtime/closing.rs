//! How connections and vats end.

use std::io::Read;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use capnp_threads_core::vat::{OwnedSupervisor, StopToken, Supervisor};
use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Error, ErrorKind, FromClient,
};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{
    self, Keeper, answer_foo, call_foo, foo, foo_request, foo_with, plain,
};
use rpc_tests::support::raw::{self, RawPeer, Target};
use rpc_tests::support::{Blocked, Census, Event, LONG, Pair, Watchdog, Wire, until, vat};

fn server() -> Pair {
    Pair::new(|vat| foo(vat, answer_foo).into_client())
}

/// A server whose `foo` waits, the event that lets it go on, and who has arrived.
fn slow_server(wire: Wire) -> (Pair, Event, Census) {
    let (go, arrived) = (Event::new(), Census::new());
    let (hold, count) = (go.clone(), arrived.clone());
    let method = move |params, results| {
        drop(count.count());
        hold.wait();
        answer_foo(params, results)
    };
    let bootstrap = |vat: &_| foo_with(vat, Concurrency::Concurrent, (), method).into_client();
    (Pair::configured(bootstrap, wire, |config| config, |config| config), go, arrived)
}

#[test]
fn every_waiter_hears_of_the_end() {
    type End = fn(&Pair);
    let ends: [(&str, End); 5] = [
        ("close of the client", |pair| pair.client.close()),
        ("close of the server", |pair| pair.server.close()),
        ("abort by the client", |pair| pair.client.abort(Error::failed("on purpose"))),
        ("abort by the server", |pair| pair.server.abort(Error::failed("on purpose"))),
        ("shutdown of the vat", |pair| {
            thread::scope(|scope| {
                let down = scope.spawn(|| pair.client_vat.shutdown(LONG).unwrap());
                assert!(down.join().unwrap());
            });
        }),
    ];
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        for (how, end) in ends {
            let (pair, go, arrived) = slow_server(wire);
            let client: test_interface::Client = pair.bootstrap();
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    let call = foo_request(&client).send();
                    thread::spawn(move || call.wait().map(drop).unwrap_err().kind())
                })
                .collect();
            until("the calls to arrive", || arrived.made() == 4);
            end(&pair);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), ErrorKind::Disconnected, "{wire:?}, {how}");
            }
            let after = call_foo(&client).unwrap_err();
            assert_eq!(after.kind(), ErrorKind::Disconnected, "{wire:?}, {how}");
            go.set();
            drop(client);
            pair.end();
        }
    }
}

#[test]
fn the_peer_is_told_why_a_connection_is_aborted() {
    let _watchdog = Watchdog::start();
    let pair = server();
    pair.client.abort(Error::failed("on purpose").with_internal("a secret"));
    assert!(pair.server.join_timeout(LONG).unwrap());
    let failure = pair.server.failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::Disconnected);
    assert_eq!(failure.reason(), "the peer ended the connection: on purpose");
    pair.end();
}

/// As long as the server has nothing to say itself: it would find nobody there. The object
/// takes the calls on the thread that serves the connection, because those that waited for
/// a worker would be cancelled with the connection.
#[test]
fn what_was_sent_before_a_close_arrives() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let arrived = Census::new();
        let count = arrived.clone();
        let unanswered = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&unanswered);
        let method = move |call| {
            keep.lock().unwrap().push(call);
            drop(count.count());
        };
        let pair = Pair::configured(
            |vat| objects::any(vat, Concurrency::Inline, method),
            wire,
            |config| config.close_timeout(LONG),
            |config| config,
        );
        let client: test_interface::Client = pair.bootstrap();
        client.as_client().resolve().unwrap();
        for _ in 0..100 {
            foo_request(&client).send().on_resolve(drop);
        }
        pair.client.close();
        until("every call to arrive", || arrived.made() == 100);
        drop(client);
        pair.end();
        // They keep the object, which keeps them.
        let unanswered = std::mem::take(&mut *unanswered.lock().unwrap());
        assert_eq!(unanswered.len(), 100);
    }
}

#[test]
fn closing_is_bounded_in_time_when_the_peer_does_not_read() {
    let _watchdog = Watchdog::start();
    let vat = vat("cl4");
    let config = ConnConfig::new().close_timeout(Duration::from_millis(20));
    let (peer, connection) = RawPeer::connect(&vat, config);
    let client: test_interface::Client = connection.bootstrap();
    // More than any socket buffers.
    let huge = "x".repeat(4 << 20);
    for _ in 0..4 {
        let caller: test_more_stuff::Client = client.clone().cast_to();
        let mut request = caller.method_with_defaults_request();
        request.get().set_a(&huge);
        request.send().on_resolve(|outcome| {
            assert_eq!(outcome.map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
        });
    }
    connection.close();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
    drop(peer);
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_message_does_not_hold_a_close() {
    let _watchdog = Watchdog::start();
    let vat = vat("cl5");
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new());
    peer.bytes(&[0, 0, 0, 0, 200]);
    connection.close();
    assert!(connection.join_timeout(LONG).unwrap());
    let mut rest = Vec::new();
    peer.writer().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [], "a close says nothing");
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn dropping_the_last_handle_closes() {
    let _watchdog = Watchdog::start();
    let Pair { client_vat, server_vat, client, server, .. } = server();
    let foo: test_interface::Client = client.bootstrap();
    let second = client.clone();
    drop(client);
    call_foo(&foo).unwrap();
    assert_eq!(client_vat.connection_count(), 1);
    drop(second);
    assert!(server.join_timeout(LONG).unwrap());
    assert_eq!(call_foo(&foo).unwrap_err().kind(), ErrorKind::Disconnected);
    drop(foo);
    assert!(client_vat.shutdown(LONG).unwrap());
    assert!(server_vat.shutdown(LONG).unwrap());
    assert_eq!(client_vat.connection_count(), 0);
}

#[test]
fn joining_waits_for_the_end_and_does_not_cause_it() {
    let _watchdog = Watchdog::start();
    let pair = server();
    assert!(!pair.client.join_timeout(Duration::ZERO).unwrap());
    let connection = pair.client.clone();
    let joining = Blocked::spawn(move || connection.join());
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    drop(client);
    pair.server.close();
    joining.join().unwrap();
    pair.client.join().unwrap();
    pair.end();
}

#[test]
fn a_method_cannot_join_its_own_coordinator() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel::<Connection>();
    let told = std::sync::Mutex::new(told);
    let pair = Pair::new(move |vat| {
        let method = move |params, results| {
            let connection = told.lock().unwrap().recv().unwrap();
            assert!(connection.join().is_err());
            answer_foo(params, results)
        };
        foo_with(vat, Concurrency::Inline, (), method).into_client()
    });
    tell.send(pair.server.clone()).unwrap();
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    drop(client);
    pair.finish();
}

#[test]
fn a_method_may_close_its_own_connection_and_wait_for_the_end() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel::<Connection>();
    let told = std::sync::Mutex::new(told);
    let ended = Event::new();
    let end = ended.clone();
    let pair = Pair::new(move |vat| {
        let method = move |params, results| {
            let connection = told.lock().unwrap().recv().unwrap();
            connection.close();
            connection.join().unwrap();
            end.set();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    tell.send(pair.server.clone()).unwrap();
    let client: test_interface::Client = pair.bootstrap();
    assert_eq!(call_foo(&client).unwrap_err().kind(), ErrorKind::Disconnected);
    ended.wait();
    drop(client);
    pair.end();
}

#[test]
fn times_too_long_for_any_clock_are_times_without_end() {
    let _watchdog = Watchdog::start();
    let (token, tokens) = mpsc::channel::<StopToken>();
    let pair = Pair::configured(
        |vat| foo(vat, answer_foo).into_client(),
        Wire::Memory,
        |config| config.close_timeout(Duration::MAX),
        |config| {
            config.close_timeout(Duration::MAX).bootstrap_with(move |supervisor| {
                token.send(supervisor.token()).unwrap();
                None
            })
        },
    );
    let client: test_interface::Client = pair.bootstrap();
    let call = foo_request(&client).send();
    call.wait_timeout(Duration::MAX).map(drop).unwrap_err();
    drop((client, call));
    pair.client.close();
    assert!(pair.client.join_timeout(Duration::MAX).unwrap());
    assert!(pair.server.join_timeout(Duration::MAX).unwrap());
    assert!(tokens.recv().unwrap().wait_timeout(Duration::MAX));
    assert!(pair.client_vat.shutdown(Duration::MAX).unwrap());
    pair.end();
}

#[test]
fn a_vat_that_was_shut_down_takes_no_connection_and_no_call() {
    let _watchdog = Watchdog::start();
    let vat = vat("clb");
    let object = foo(&vat, answer_foo);
    call_foo(&object).unwrap();
    assert!(vat.shutdown(LONG).unwrap());
    let error = call_foo(&object).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.reason().contains("was shut down"), "{error}");
    let (here, there) = Wire::Memory.pair();
    let error = vat.connect(here, ConnConfig::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    drop(there);
    until("the connection to go", || vat.connection_count() == 0);
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_shutdown_says_whether_the_workers_ended_in_time() {
    let _watchdog = Watchdog::start();
    let (pair, go, arrived) = slow_server(Wire::Memory);
    let client: test_interface::Client = pair.bootstrap();
    let call = foo_request(&client).send();
    until("the call to arrive", || arrived.made() == 1);
    assert!(!pair.server_vat.shutdown(Duration::from_millis(10)).unwrap());
    assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    go.set();
    drop((client, call));
    pair.end();
}

#[test]
fn supervised_threads_end_with_their_connection() {
    let _watchdog = Watchdog::start();
    let pair = server();
    let supervisor = pair.client.supervisor().clone();
    let census = Census::new();
    for index in 0..4 {
        let counted = census.count();
        let started = supervisor.spawn(format!("cld-work-{index}"), move |token| {
            assert!(!token.is_stopped());
            token.wait();
            assert!(token.is_stopped());
            drop(counted);
        });
        started.unwrap();
    }
    // One that waits for the peer, and one that is over before the connection.
    let connection = pair.client.clone();
    supervisor.spawn("cld-join", move |_| connection.join().unwrap()).unwrap();
    supervisor.spawn("cld-over", |_| ()).unwrap();
    supervisor.spawn("cld-panics", |_| panic!("on purpose")).unwrap();
    assert_eq!(census.alive(), 4);
    pair.server.close();
    assert!(pair.client.join_timeout(LONG).unwrap());
    assert_eq!(census.alive(), 0);
    let late = supervisor.spawn("cld-late", |_| unreachable!());
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Disconnected);
    pair.end();
}

/// An object with a thread of its own, which ends with it.
#[test]
fn supervised_threads_end_with_their_object() {
    let _watchdog = Watchdog::start();
    let vat = vat("clo");
    let census = Census::new();
    let work = |supervisor: &OwnedSupervisor| {
        let counted = census.count();
        let work = move |token: &StopToken| {
            token.wait();
            drop(counted);
        };
        supervisor.spawn("clo-work", work).unwrap();
    };
    let supervisor = vat.supervisor();
    work(&supervisor);
    let handle: Supervisor = supervisor.clone();
    let object = foo_with(&vat, Concurrency::Serial, supervisor, answer_foo);
    call_foo(&object).unwrap();
    // One of its own threads has the last client.
    let (own, go) = (object.clone(), Event::new());
    let told = go.clone();
    handle
        .spawn("clo-own", move |_| {
            told.wait();
            drop(own);
        })
        .unwrap();
    drop(object);
    assert!(!handle.token().is_stopped());
    assert_eq!(census.alive(), 1);
    go.set();
    until("the object's threads to end", || census.alive() == 0);
    let late = handle.spawn("clo-late", |_| unreachable!());
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Disconnected);

    // Ended by its owner, who waits.
    let supervisor = vat.supervisor();
    work(&supervisor);
    assert!(supervisor.end(LONG).unwrap());
    assert_eq!(census.alive(), 0);

    // By the drop of the last client, which waits for nobody, and then by the end of
    // the vat, whoever still holds the object.
    let supervisor = vat.supervisor();
    work(&supervisor);
    drop(foo_with(&vat, Concurrency::Serial, supervisor, answer_foo));
    let supervisor = vat.supervisor();
    work(&supervisor);
    let object = foo_with(&vat, Concurrency::Serial, supervisor, answer_foo);
    assert!(vat.shutdown(LONG).unwrap());
    assert_eq!(census.alive(), 0);
    drop(object);
    #[cfg(target_os = "linux")]
    until("threads to go", || rpc_tests::support::threads_named("clo-") == 0);
    assert!(vat.supervisor().token().is_stopped());
}

#[test]
fn a_connection_is_closed_when_its_action_returns() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::configured(
        |vat| plain(vat, &census).into_client(),
        Wire::Unix,
        |config| {
            config.with_bootstrap(|supervisor: &Supervisor, client: Client| {
                assert!(!supervisor.token().is_stopped());
                call_foo(&test_interface::Client::from_client(client)).unwrap();
            })
        },
        |config| config,
    );
    assert!(pair.server.join_timeout(LONG).unwrap());
    assert!(pair.client.join_timeout(LONG).unwrap());
    pair.end();
    assert_eq!(census.made(), 1);
    assert_eq!(census.alive(), 0);
}

#[test]
fn an_action_is_told_when_its_connection_ends_first() {
    let _watchdog = Watchdog::start();
    let started = Event::new();
    let begun = started.clone();
    let pair = Pair::configured(
        |vat| foo(vat, answer_foo).into_client(),
        Wire::Unix,
        |config| {
            config.with_bootstrap(move |supervisor: &Supervisor, _| {
                begun.set();
                supervisor.token().wait();
            })
        },
        |config| config,
    );
    started.wait();
    pair.server.close();
    assert!(pair.client.join_timeout(LONG).unwrap());
    pair.end();
}

#[test]
fn a_bootstrap_is_made_for_each_connection_with_its_supervisor() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let (vat, objects) = (vat("clg"), census.clone());
    let made = vat.clone();
    let (ended, ends) = mpsc::channel();
    let (mut peer, connection) = RawPeer::connect(
        &vat,
        ConnConfig::new().bootstrap_with(move |supervisor| {
            supervisor
                .spawn("clg-work", move |token| {
                    token.wait();
                    ended.send(()).unwrap();
                })
                .unwrap();
            Some(plain(&made, &objects).into_client())
        }),
    );
    let first = peer.bootstrapped(0);
    assert_eq!(peer.bootstrapped(1), first, "the same one every time");
    assert_eq!(census.made(), 1);
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    ends.recv().unwrap();
    until("the bootstrap object to go", || census.alive() == 0);
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn without_a_bootstrap_calls_on_it_fail() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(
        |vat| foo(vat, answer_foo).into_client(),
        Wire::Memory,
        |config| config,
        |config| config.bootstrap_with(|_| None),
    );
    let client: test_interface::Client = pair.bootstrap();
    let error = call_foo(&client).unwrap_err();
    assert!(error.reason().contains("offers no bootstrap"), "{error}");
    drop(client);
    pair.finish();
}

/// Write errors become read errors: when writing fails, reading ends, too, after what has
/// arrived. So the coordinator ends the connection, and does what the end leaves to be
/// done. If it waited in that, nobody could end the connection.
#[test]
fn a_broken_stream_is_seen_off_by_a_thread_that_may_not_wait() {
    struct Waits {
        never: test_interface::Client,
        told: mpsc::Sender<(String, Error)>,
    }
    impl Drop for Waits {
        fn drop(&mut self) {
            let error = call_foo(&self.never).unwrap_err();
            let thread = thread::current().name().unwrap().to_owned();
            self.told.send((thread, error)).unwrap();
        }
    }
    let _watchdog = Watchdog::start();
    let vat = vat("cli");
    let (never, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
    let (told, tells) = mpsc::channel();
    let held = Waits { never, told };
    let object = foo_with(&vat, Concurrency::Serial, held, answer_foo);
    let (mut peer, connection) =
        RawPeer::connect(&vat, ConnConfig::new().bootstrap(object.into_client()));
    peer.bootstrapped(0);
    peer.writer().shutdown(std::net::Shutdown::Read).unwrap();
    peer.call(1, &Target::Answer(0, Vec::new()), 0, &[]);
    let (thread, error) = tells.recv().unwrap();
    assert!(thread.ends_with("-coordinator"), "{thread}");
    assert!(error.reason().contains("must not wait"), "{error}");
    assert!(connection.join_timeout(LONG).unwrap());
    let reason = connection.failure().unwrap();
    assert!(reason.reason().contains("broke"), "{reason}");
    drop(fulfiller);
    assert!(vat.shutdown(LONG).unwrap());
}

/// Behaviour: write errors become read errors. What arrived before them is worked
/// off.
#[test]
fn calls_that_arrived_before_writing_failed_are_still_run() {
    /// More than are answered in one batch, so that writing fails amid them.
    const CALLS: u32 = 1000;
    let _watchdog = Watchdog::start();
    let vat = vat("cli2");
    let (census, arrived) = (Census::new(), Event::new());
    let (count, all) = (census.clone(), arrived.clone());
    // On the threads that read.
    let object = objects::any(&vat, Concurrency::Inline, move |call| {
        all.wait();
        drop(count.count());
        drop(call);
    });
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new().bootstrap(object));
    let target = Target::Import(peer.bootstrapped(0));
    // No answer can be written from now on.
    peer.writer().shutdown(std::net::Shutdown::Read).unwrap();
    let calls = (1..=CALLS).map(|question| raw::call(question, &target, raw::MORE_STUFF, 0, &[]));
    peer.bytes(&calls.collect::<Vec<_>>().concat());
    arrived.set();
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
    assert_eq!(census.made(), u64::from(CALLS));
}

/// A thread that looks at a connection holds its lock for a moment, and then releases the
/// references that were dropped in that moment.
#[test]
fn looking_at_a_connection_does_not_lose_a_release() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(|vat| {
        let keeper: test_more_stuff::Client = vat.export(Keeper::with_handles(&census));
        keeper.into_client()
    });
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let over = Event::new();
    let looking = {
        let (connection, over) = (pair.client.clone(), over.clone());
        thread::spawn(move || {
            while !over.is_set() {
                assert_eq!(connection.failure(), None);
                connection.check().unwrap();
            }
        })
    };
    let started = Instant::now();
    while started.elapsed() < rpc_tests::support::stress_time() {
        let response = keeper.get_handle_request().call().unwrap();
        let handle = response.get().unwrap().get_handle().unwrap();
        drop(response);
        drop(handle);
        until("the handle to go", || census.alive() == 0);
    }
    over.set();
    looking.join().unwrap();
    drop(keeper);
    pair.finish();
}

#[test]
fn a_shutdown_does_not_forget_the_threads_that_an_earlier_one_left() {
    let _watchdog = Watchdog::start();
    let pair = server();
    let (go, census) = (Event::new(), Census::new());
    let stubborn = || {
        let (go, counted) = (go.clone(), census.count());
        move |_: &StopToken| {
            go.wait();
            drop(counted);
        }
    };
    // One of an object, and one of a connection that has ended.
    let supervisor = pair.server_vat.supervisor();
    supervisor.spawn("left-behind", stubborn()).unwrap();
    pair.server.supervisor().spawn("left-behind", stubborn()).unwrap();
    pair.client.close();
    until("the connection to end", || pair.server_vat.connection_count() == 0);
    for _ in 0..3 {
        assert!(!pair.server_vat.shutdown(Duration::ZERO).unwrap());
    }
    drop(supervisor);
    assert!(!pair.server_vat.shutdown(Duration::ZERO).unwrap());
    go.set();
    assert!(pair.server_vat.shutdown(LONG).unwrap());
    assert_eq!(census.alive(), 0);
    pair.end();
}

#[test]
fn a_method_cannot_shut_its_own_vat_down() {
    let _watchdog = Watchdog::start();
    let (told, tells) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let own = vat.clone();
        let method = move |params, results| {
            told.send((own.shutdown(LONG), own.drain(LONG))).unwrap();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    // The vat goes on.
    for _ in 0..2 {
        call_foo(&client).unwrap();
        let (shutdown, drain) = tells.recv().unwrap();
        for error in [shutdown.unwrap_err(), drain.unwrap_err()] {
            assert!(error.reason().contains("would wait for itself"), "{error}");
        }
    }
    drop(client);
    pair.finish();
}

/// Whoever holds a connection that has ended, or a capability that came over it, does not
/// hold the transport: neither its socket nor its buffers.
#[test]
fn a_connection_that_has_ended_holds_no_transport() {
    use capnp_threads_core::message::Message;
    use capnp_threads_core::transport::{
        MessageWriter, PeerDescription, Transport, TransportControl, TransportError,
    };
    use rpc_tests::support::Counted;
    struct Writer(Box<dyn MessageWriter>, #[expect(dead_code)] Counted);
    impl MessageWriter for Writer {
        fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
            self.0.write(batch)
        }
        fn finish(&mut self) -> Result<(), TransportError> {
            self.0.finish()
        }
    }
    struct Control(std::sync::Arc<dyn TransportControl>, #[expect(dead_code)] Counted);
    impl TransportControl for Control {
        fn shutdown(&self) {
            self.0.shutdown();
        }
        fn peer(&self) -> PeerDescription {
            self.0.peer()
        }
    }
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let (near, far) = (vat("cle"), vat("clf"));
    let (here, there) = Wire::Memory.pair();
    let Transport { reader, writer, control } = here;
    let here = Transport {
        reader,
        writer: Box::new(Writer(writer, census.count())),
        control: std::sync::Arc::new(Control(control, census.count())),
    };
    let connection = near.connect(here, ConnConfig::new()).unwrap();
    let object = foo(&far, answer_foo).into_client();
    let other = far.connect(there, ConnConfig::new().bootstrap(object)).unwrap();
    let stale: test_interface::Client = connection.bootstrap();
    call_foo(&stale).unwrap();
    assert_eq!(census.alive(), 2);
    other.close();
    assert!(connection.join_timeout(LONG).unwrap());
    assert_eq!(census.alive(), 0, "the connection and a capability still exist");
    assert_eq!(call_foo(&stale).unwrap_err().kind(), ErrorKind::Disconnected);
    drop((stale, connection, other));
    assert!(near.shutdown(LONG).unwrap());
    assert!(far.shutdown(LONG).unwrap());
}
