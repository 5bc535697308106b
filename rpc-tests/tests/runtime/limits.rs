//! What happens at the limits of a connection.

use std::sync::mpsc;
use std::thread;

use capnp_threads_core::vat::VatConfig;
use capnp_threads_core::{Concurrency, ConnConfig, ErrorKind, FromClient, Limits, Vat};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{
    self, Keeper, answer_foo, call_foo, foo, foo_request, foo_with, plain,
};
use rpc_tests::support::raw::{RawPeer, Said};
use rpc_tests::support::{Blocked, Census, Event, LONG, Pair, Watchdog, Wire, until, vat};

fn limits(adjust: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    adjust(&mut limits);
    limits
}

/// A client that may have few questions outstanding, and a server whose calls
/// are each answered when told so.
fn few_questions(questions: u32) -> (Pair, test_interface::Client, mpsc::Sender<()>) {
    let (answer, answers) = mpsc::channel::<()>();
    let answers = std::sync::Mutex::new(answers);
    let pair = Pair::configured(
        move |vat| {
            let method = move |params, results| {
                answers.lock().unwrap().recv().unwrap();
                answer_foo(params, results)
            };
            foo_with(vat, Concurrency::Concurrent, (), method).into_client()
        },
        Wire::Memory,
        |config| config.limits(limits(|limits| limits.questions = questions)),
        |config| config,
    );
    let client: test_interface::Client = pair.bootstrap();
    // From here on the bootstrap question is no longer one of them.
    client.as_client().resolve().unwrap();
    (pair, client, answer)
}

#[test]
fn a_thread_waits_for_a_free_question() {
    let _watchdog = Watchdog::start();
    let (pair, client, answer) = few_questions(3);
    let calls: Vec<_> = (0..3).map(|_| foo_request(&client).send()).collect();
    assert_eq!(pair.client.snapshot().questions, 3);
    let waiting = {
        let client = client.clone();
        Blocked::spawn(move || foo_request(&client).send())
    };
    assert_eq!(pair.client.snapshot().questions, 3);
    answer.send(()).unwrap();
    let fourth = waiting.join();
    for _ in 0..3 {
        answer.send(()).unwrap();
    }
    fourth.wait().unwrap();
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    drop((client, calls, fourth));
    pair.finish();
}

#[test]
fn a_cancelled_question_makes_room_when_the_peer_has_let_go_of_it() {
    let _watchdog = Watchdog::start();
    let (pair, client, answer) = few_questions(1);
    let call = foo_request(&client).send();
    let waiting = {
        let client = client.clone();
        Blocked::spawn(move || foo_request(&client).send())
    };
    drop(call);
    let second = waiting.join();
    for _ in 0..2 {
        answer.send(()).unwrap();
    }
    second.wait().unwrap();
    drop((client, second));
    pair.finish();
}

#[test]
fn whoever_waits_for_a_question_hears_of_the_end() {
    let _watchdog = Watchdog::start();
    let (pair, client, answer) = few_questions(1);
    let call = foo_request(&client).send();
    let waiting: Vec<_> = (0..4)
        .map(|index| {
            let (client, connection) = (client.clone(), pair.client.clone());
            Blocked::spawn(move || match index % 2 {
                0 => call_foo(&client).unwrap_err().kind(),
                _ => call_foo(&connection.bootstrap()).unwrap_err().kind(),
            })
        })
        .collect();
    pair.client.close();
    for thread in waiting {
        assert_eq!(thread.join(), ErrorKind::Disconnected);
    }
    assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    // The method that was called still runs.
    answer.send(()).unwrap();
    drop((client, call));
    pair.end();
}

/// Whoever acts for a peer does not wait: a call is forwarded though all
/// questions are taken.
#[test]
fn forwarding_needs_no_free_question() {
    let _watchdog = Watchdog::start();
    let (back, client, answer) = few_questions(2);
    let behind = client.clone().into_client();
    // Inline: on the coordinator of the connection that the call came from.
    let front =
        Pair::new(|vat| objects::any(vat, Concurrency::Inline, move |call| call.forward(&behind)));
    let forwarding: test_interface::Client = front.bootstrap();
    let calls: Vec<_> = (0..2).map(|_| foo_request(&client).send()).collect();
    let forwarded: Vec<_> = (0..5).map(|_| foo_request(&forwarding).send()).collect();
    until("the calls to be forwarded", || back.client.snapshot().questions == 7);
    for _ in 0..7 {
        answer.send(()).unwrap();
    }
    for call in calls.iter().chain(&forwarded) {
        call.wait().unwrap();
    }
    drop((client, forwarding, calls, forwarded));
    front.finish();
    back.finish();
}

#[test]
fn a_thread_waits_while_too_much_is_queued_for_a_peer_that_does_not_read() {
    let _watchdog = Watchdog::start();
    let vat = vat("li6");
    let config = ConnConfig::new().limits(limits(|limits| limits.queued_bytes = 1 << 20));
    let (mut peer, connection) = RawPeer::connect(&vat, config);
    let client: echo::Client = connection.bootstrap();
    let filling = Blocked::spawn(move || {
        let mut calls = Vec::new();
        // Far more than the limit and the socket together.
        for _ in 0..100 {
            let mut request = client.echo_request();
            request.get().set_data(&vec![0; 1 << 18]);
            calls.push(request.send());
        }
        calls
    });
    until("no room to be left", || connection.snapshot().queued_bytes >= 1 << 20);
    let queued = connection.snapshot().queued_bytes;
    assert!(queued < 4 << 20, "{queued}");
    // Once the peer reads it goes on.
    let mut calls = 0;
    while calls < 100 {
        calls += usize::from(matches!(peer.receive().unwrap(), Said::Call { .. }));
    }
    drop(filling.join());
    connection.close();
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn whoever_waits_for_a_peer_that_does_not_read_hears_of_the_end() {
    let _watchdog = Watchdog::start();
    let vat = vat("li7");
    let config = ConnConfig::new().limits(limits(|limits| limits.queued_bytes = 1 << 20));
    let (peer, connection) = RawPeer::connect(&vat, config);
    let client: echo::Client = connection.bootstrap();
    let filling = Blocked::spawn(move || {
        loop {
            let mut request = client.echo_request();
            request.get().set_data(&vec![0; 1 << 18]);
            let call = request.send();
            if let Some(outcome) = call.try_response() {
                break outcome.map(drop).unwrap_err().kind();
            }
            call.on_resolve(drop);
        }
    });
    connection.close();
    assert_eq!(filling.join(), ErrorKind::Disconnected);
    assert!(vat.shutdown(LONG).unwrap());
    drop(peer);
}

/// The other half of it: answers are queued whatever the limit says, or two vats
/// that answer each other would wait for each other.
#[test]
fn a_full_send_queue_does_not_stop_answers() {
    let _watchdog = Watchdog::start();
    let tiny = || limits(|limits| limits.queued_bytes = 1);
    let pair = Pair::configured(
        Keeper::client,
        Wire::Bytes,
        |config| config.limits(tiny()),
        |config| config.limits(tiny()),
    );
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let census = Census::new();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut request = keeper.call_foo_request();
                    request.get().set_cap(plain(&pair.client_vat, &census));
                    request.call().unwrap();
                }
            });
        }
    });
    drop(keeper);
    pair.finish();
    assert_eq!(census.alive(), 0);
}

#[test]
fn a_call_that_would_export_too_much_fails_and_leaves_nothing() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::configured(
        Keeper::client,
        Wire::Memory,
        |config| config.limits(limits(|limits| limits.exports = 1)),
        |config| config.limits(limits(|limits| limits.exports = 2)),
    );
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut request = keeper.hold_request();
    request.get().set_cap(plain(&pair.client_vat, &census));
    request.call().unwrap();
    // One is held, and two would be one too many.
    let mut request = keeper.hold_request();
    request.get().set_cap(plain(&pair.client_vat, &census));
    assert_eq!(request.call().unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(pair.client.snapshot().exports, 1);
    pair.client.check().unwrap();
    // The same for results: the bootstrap object and one handle are allowed.
    let handle = |keeper: &test_more_stuff::Client| keeper.get_handle_request().call();
    let one = handle(&keeper).unwrap();
    let cap = one.get().unwrap().get_handle().unwrap();
    assert_eq!(handle(&keeper).map(drop).unwrap_err().kind(), ErrorKind::Overloaded);
    drop((one, cap));
    until("the handle to be released", || pair.server.snapshot().exports == 1);
    handle(&keeper).unwrap();
    drop(keeper);
    pair.end();
    assert_eq!(census.alive(), 0);
}

#[test]
fn a_message_that_is_too_large_fails_its_call_only() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::configured(
        Keeper::client,
        Wire::Bytes,
        |config| config.limits(limits(|limits| limits.message_words = 1 << 10)),
        |config| config,
    );
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut request = keeper.method_with_null_default_request();
    request.get().set_a("x".repeat(8 << 10));
    request.get().set_b(plain(&pair.client_vat, &census));
    assert!(request.call().unwrap_err().reason().contains("limit of 1024"));
    assert_eq!(census.alive(), 0);
    assert_eq!(pair.client.snapshot().exports, 0);
    keeper.get_handle_request().call().unwrap();
    drop(keeper);
    pair.finish();
}

#[test]
fn a_peer_that_asks_and_does_not_read_is_cut_off() {
    let _watchdog = Watchdog::start();
    let vat = vat("lib");
    let config = ConnConfig::new()
        .bootstrap(foo(&vat, answer_foo))
        .limits(limits(|limits| limits.backlog_bytes = 1 << 20))
        .close_timeout(LONG);
    let (mut peer, connection) = RawPeer::connect(&vat, config);
    let stopped = Event::new();
    let writing = {
        let mut writer = peer.writer();
        let stopped = stopped.clone();
        thread::spawn(move || {
            let pair = rpc_tests::support::raw::frame(|message| {
                message.init_bootstrap().set_question_id(1);
            });
            let finish = rpc_tests::support::raw::finish(1, true);
            while std::io::Write::write_all(&mut writer, &[&pair[..], &finish].concat()).is_ok() {
                if stopped.is_set() {
                    break;
                }
            }
        })
    };
    until("the connection to end", || connection.failure().is_some());
    let failure = connection.failure().unwrap();
    assert!(failure.reason().contains("backlog_bytes"), "{failure}");
    stopped.set();
    // It is told so, if it reads after all.
    let reason = peer.aborted();
    assert!(reason.contains("backlog_bytes"), "{reason}");
    writing.join().unwrap();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

/// Two vats whose threads have all calls under way that they may have, each of
/// which is answered with a call back.
#[test]
fn call_backs_do_not_wait_for_the_calls_that_they_answer() {
    let _watchdog = Watchdog::start();
    let one = || ConnConfig::new().limits(limits(|limits| limits.questions = 1));
    let vats = [vat("lia"), vat("lib")];
    // Both methods run before either calls back.
    let both = std::sync::Arc::new(std::sync::Barrier::new(2));
    let offered = vats.each_ref().map(|vat| {
        let both = std::sync::Arc::clone(&both);
        objects::any(vat, Concurrency::Serial, move |call| {
            both.wait();
            let back = test_interface::Client::from_client(call.params().caps()[0].clone());
            // One call after the other, and two at once.
            let outcome = call_foo(&back).and_then(|()| {
                let calls = [foo_request(&back).send(), foo_request(&back).send()];
                calls.iter().try_for_each(|call| call.wait().map(drop))
            });
            call.respond(outcome.map(|()| capnp_threads_core::untyped::Payload::empty().clone()));
        })
    });
    let (here, there) = Wire::Memory.pair();
    let connections = [
        vats[0].connect(here, one().bootstrap(offered[0].clone())).unwrap(),
        vats[1].connect(there, one().bootstrap(offered[1].clone())).unwrap(),
    ];
    thread::scope(|scope| {
        for (vat, connection) in vats.iter().zip(&connections) {
            scope.spawn(move || {
                let peer: test_more_stuff::Client = connection.bootstrap();
                peer.as_client().resolve().unwrap();
                let mut request = peer.call_foo_request();
                request.get().set_cap(foo(vat, answer_foo));
                request.call().unwrap();
            });
        }
    });
    rpc_tests::support::settle(&connections[0], &connections[1]);
    connections.iter().for_each(capnp_threads_core::Connection::close);
    drop(offered);
    for vat in vats {
        assert!(vat.shutdown(LONG).unwrap());
    }
}

#[test]
fn settings_with_which_nothing_works_are_errors_where_they_are_given() {
    type Change = fn(&mut VatConfig);
    let wrong: [(&str, Change); 2] = [
        ("VatConfig::name", |config| config.name = "a\0b".to_owned()),
        ("PoolConfig::max_workers", |config| config.pool.max_workers = 0),
    ];
    for (name, change) in wrong {
        let mut config = VatConfig::default();
        change(&mut config);
        let error = Vat::with_config(config).unwrap_err();
        assert!(error.reason().starts_with(name), "{error}");
    }
    let none = || limits(|limits| limits.questions = 0);
    let (here, _there) = Wire::Memory.pair();
    let error = Vat::new().connect(here, ConnConfig::new().limits(none())).unwrap_err();
    assert!(error.reason().starts_with("Limits::questions"), "{error}");
    let network = capnp_threads_transport::SocketNetwork::client();
    let system = capnp_threads_core::RpcSystem::builder(&Vat::new(), network).limits(none());
    let error = system.start().unwrap_err();
    assert!(error.reason().starts_with("Limits::questions"), "{error}");
    let error = Vat::new().supervisor().spawn("a\0b", |_| unreachable!()).unwrap_err();
    assert!(error.reason().contains("NUL"), "{error}");
}
