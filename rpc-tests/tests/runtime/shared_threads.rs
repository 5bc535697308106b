//! Connections that share the threads of their vat.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use capnp_threads_core::{ConnConfig, Connection, Error, FromClient, Vat};
use capnp_threads_transport::framing::FramedReader;
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{answer_foo, call_foo, foo, foo_request};
use rpc_tests::support::raw::{self, Outcome, RawPeer};
use rpc_tests::support::{
    Event, LONG, Watchdog, Wire, alone, threads_named, until, vat, vat_that_shares_threads,
};

/// Both ends of a connection of `hub`, each of which offers an object.
fn connect(hub: &Vat, leaf: &Vat, wire: Wire) -> (Connection, Connection) {
    let (here, there) = wire.pair();
    let config = |vat: &Vat| ConnConfig::new().bootstrap(foo(vat, answer_foo).into_client());
    (hub.connect(here, config(hub)).unwrap(), leaf.connect(there, config(leaf)).unwrap())
}

fn call_both_ways((here, there): &(Connection, Connection)) {
    call_foo(&here.bootstrap()).unwrap();
    call_foo(&there.bootstrap()).unwrap();
}

#[test]
fn hundreds_of_connections_have_a_few_threads_and_end_in_order() {
    let _watchdog = Watchdog::start();
    let (hub, leaf) = (vat_that_shares_threads("sta"), vat_that_shares_threads("stl"));
    let pairs: Vec<_> = (0..300).map(|_| connect(&hub, &leaf, Wire::Unix)).collect();
    pairs.iter().for_each(call_both_ways);
    // One thread stands by, and one attendant stays.
    until("the attendants to go", || {
        threads_named("sta-att") <= 1 && threads_named("stl-att") <= 1
    });
    assert!(threads_named("sta-standby") == 1 && threads_named("stl-standby") == 1);
    pairs.iter().for_each(call_both_ways);
    for (here, there) in &pairs {
        here.close();
        assert!(here.join_timeout(LONG).unwrap());
        assert!(there.join_timeout(LONG).unwrap());
    }
    for vat in [hub, leaf] {
        assert_eq!(vat.connection_count(), 0);
        assert!(vat.shutdown(LONG).unwrap());
    }
    until("threads to go", || threads_named("sta") + threads_named("stl") == 0);
}

#[test]
fn every_transport_works() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let (hub, leaf) = (vat_that_shares_threads("stb"), vat("stm"));
        let pair = connect(&hub, &leaf, wire);
        call_both_ways(&pair);
        pair.1.close();
        assert!(pair.0.join_timeout(LONG).unwrap());
        assert!(hub.shutdown(LONG).unwrap() && leaf.shutdown(LONG).unwrap());
        until("threads to go", || threads_named("stb") == 0);
    }
}

#[test]
fn a_peer_that_does_not_read_holds_up_no_other() {
    let _watchdog = Watchdog::start();
    let (hub, leaf) = (vat_that_shares_threads("stc"), vat("stn"));
    // More than any socket buffers.
    let huge = "x".repeat(4 << 20);
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let config = ConnConfig::new().close_timeout(Duration::from_millis(20));
            let (peer, connection) = RawPeer::connect(&hub, config);
            let client: test_more_stuff::Client = connection.bootstrap();
            let mut request = client.method_with_defaults_request();
            request.get().set_a(&huge);
            let call = request.send();
            (peer, connection, call)
        })
        .collect();
    until("every peer to hold up a thread", || threads_named("stc-att") >= deaf.len());
    let pair = connect(&hub, &leaf, Wire::Unix);
    (0..10).for_each(|_| call_both_ways(&pair));
    for (peer, connection, call) in deaf {
        connection.close();
        assert!(connection.join_timeout(LONG).unwrap());
        call.wait().map(drop).unwrap_err();
        drop(peer);
    }
    assert!(hub.shutdown(LONG).unwrap() && leaf.shutdown(LONG).unwrap());
    until("threads to go", || threads_named("stc") == 0);
}

/// The end of a transport without a descriptor, which has a thread that receives.
#[test]
fn an_end_before_the_connection_is_noticed() {
    let _watchdog = Watchdog::start();
    let hub = vat_that_shares_threads("stg");
    for _ in 0..200 {
        let (here, there) = Wire::Memory.pair();
        drop(there);
        let connection = hub.connect(here, ConnConfig::new()).unwrap();
        assert!(connection.join_timeout(LONG).unwrap());
    }
    assert!(hub.shutdown(LONG).unwrap());
}

/// What arrives at once with the connection is read, too, although nobody is told again.
#[test]
fn what_is_there_before_the_connection_is_read() {
    let _watchdog = Watchdog::start();
    let hub = vat_that_shares_threads("std");
    for _ in 0..100 {
        let object = foo(&hub, answer_foo).into_client();
        let (mut peer, transport) = RawPeer::alone();
        peer.bootstrap(0);
        let connection = hub.connect(transport, ConnConfig::new().bootstrap(object)).unwrap();
        assert!(matches!(peer.outcome(0), Outcome::Results(_)));
        peer.end();
        assert!(connection.join_timeout(LONG).unwrap());
    }
    assert!(hub.shutdown(LONG).unwrap());
}

/// A transport may have taken something in before, of which its socket does not tell.
#[test]
fn what_a_transport_begins_with_is_read() {
    let _watchdog = Watchdog::start();
    for hub in [vat("sth"), vat_that_shares_threads("sti")] {
        let (mut peer, mut transport) = RawPeer::alone();
        let first = raw::frame(|message| message.init_bootstrap().set_question_id(0));
        let socket = Arc::new(peer.writer());
        // Nothing is ever read from it.
        let reader = FramedReader::new(io::empty()).starting_with(first).polling(socket);
        transport.reader = Box::new(reader);
        let object = foo(&hub, answer_foo).into_client();
        let connection = hub.connect(transport, ConnConfig::new().bootstrap(object)).unwrap();
        assert!(matches!(peer.outcome(0), Outcome::Results(_)));
        connection.close();
        assert!(connection.join_timeout(LONG).unwrap());
        assert!(hub.shutdown(LONG).unwrap());
    }
}

#[test]
fn many_calls_under_way_are_read_and_answered() {
    let _watchdog = Watchdog::start();
    let (hub, leaf) = (vat_that_shares_threads("ste"), vat_that_shares_threads("sto"));
    let go = Event::new();
    let hold = go.clone();
    let object = foo(&hub, move |params, results| {
        hold.wait();
        answer_foo(params, results)
    });
    let (here, there) = Wire::Unix.pair();
    let server = hub.connect(here, ConnConfig::new().bootstrap(object.into_client())).unwrap();
    let client = leaf.connect(there, ConnConfig::new()).unwrap();
    let foo: test_interface::Client = client.bootstrap();
    let calls: Vec<_> = (0..100).map(|_| foo_request(&foo).send()).collect();
    go.set();
    for call in calls {
        call.wait().unwrap();
    }
    client.abort(Error::failed("enough"));
    assert!(server.join_timeout(LONG).unwrap());
    assert!(hub.shutdown(LONG).unwrap() && leaf.shutdown(LONG).unwrap());
    until("threads to go", || threads_named("ste") + threads_named("sto") == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_connection_takes_one_descriptor_and_no_thread() {
    if !alone("shared_threads::an_idle_connection_takes_one_descriptor_and_no_thread") {
        return;
    }
    let hub = vat_that_shares_threads("stf");
    let connect = || RawPeer::connect(&hub, ConnConfig::new());
    let count = |folder| fs::read_dir(folder).unwrap().count();
    // What is made once is made.
    let _first = connect();
    // One attendant, and the thread that stands by. A thread names itself: one that was just
    // started may have another name yet, so what is seen first is no measure.
    until("the attendants to go", || threads_named("stf") == 2);
    let held = || (threads_named("stf"), count("/proc/self/fd"));
    let before = count("/proc/self/fd");
    let connections: Vec<_> = (0..10).map(|_| connect()).collect();
    // The peer has two.
    until("ten sockets and no thread more", || held() == (2, before + 10 * 3));
    for (peer, connection) in connections {
        drop(peer);
        assert!(connection.join_timeout(LONG).unwrap());
    }
    until("descriptors to be closed", || held().1 == before);
}
