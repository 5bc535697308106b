//! What a vat says of itself.

use std::sync::mpsc::channel;

use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{ConnConfig, FromClient};
use capnp_threads_transport::{memory, tcp};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{Foo, Interface, call_foo, foo_request};
use rpc_tests::support::{LONG, Watchdog, until, vat, vat_with_pool};

#[test]
fn a_vat_lists_its_connections_with_their_peers() {
    let _watchdog = Watchdog::start();
    let (server, client) = (vat("snap-s"), vat("snap-c"));
    assert!(server.snapshot().connections.is_empty());
    let object: test_interface::Client = server.export_named("the object", Interface);
    let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut connections = Vec::new();
    for _ in 0..3 {
        let near = std::thread::spawn(move || tcp::connect(address).unwrap());
        let far = listener.accept().unwrap();
        let config = ConnConfig::new().bootstrap(object.clone());
        let serving = server.connect(far, config).unwrap();
        let calling = client.connect(near.join().unwrap(), ConnConfig::new()).unwrap();
        connections.push((serving, calling));
    }
    let foo: test_interface::Client = connections[1].1.bootstrap();
    call_foo(&foo).unwrap();
    until("the answer to be finished", || connections[1].0.snapshot().answers == 0);

    let seen = server.snapshot();
    assert_eq!(seen.name, "snap-s");
    let ids: Vec<_> = connections.iter().map(|(serving, _)| serving.id()).collect();
    assert_eq!(seen.connections.iter().map(|own| own.id).collect::<Vec<_>>(), ids);
    for (own, (serving, _)) in seen.connections.iter().zip(&connections) {
        assert!(own.peer.address.starts_with("127.0.0.1:"), "{own:?}");
        assert_eq!(own.peer.address, serving.peer().address);
        assert!(own.age < LONG);
    }
    assert_eq!(seen.connections[0].tables.exports, 0);
    assert_eq!(seen.connections[1].tables.exports, 1);
    assert!(seen.connections[1].exports[0].object.contains("the object"), "{seen:?}");
    assert_eq!(client.snapshot().connections[1].tables.imports, 1);

    // Time does not stand still between two looks.
    let again = server.snapshot();
    assert!(again.connections[0].age > seen.connections[0].age);

    drop(foo);
    let (serving, calling) = connections.remove(0);
    calling.close();
    assert!(serving.join_timeout(LONG).unwrap() && calling.join_timeout(LONG).unwrap());
    let left: Vec<_> = server.snapshot().connections.iter().map(|own| own.id).collect();
    assert_eq!(left, ids[1..]);
}

#[test]
fn a_vat_counts_its_workers_and_what_waits_for_them() {
    let _watchdog = Watchdog::start();
    let mut pool = PoolConfig::default();
    pool.max_workers = 1;
    let (server, client) = (vat_with_pool("snap-w", pool), vat("snap-v"));
    let (started, starts) = channel();
    let (go_on, goes_on) = channel::<()>();
    let (goes_on, started) = (std::sync::Mutex::new(goes_on), std::sync::Mutex::new(started));
    let slow: test_interface::Client = server.export(Foo::new(
        move |_: test_interface::FooParams, _: test_interface::FooResults| {
            started.lock().unwrap().send(()).unwrap();
            let _ = goes_on.lock().unwrap().recv();
            Ok(())
        },
    ));
    let other: test_interface::Client = server.export(Interface);
    let (near, far) = memory::pair();
    let serving = server.connect(far, ConnConfig::new().bootstrap(slow)).unwrap();
    let calling = client.connect(near, ConnConfig::new()).unwrap();
    let slow: test_interface::Client = calling.bootstrap();
    let call = foo_request(&slow).send();
    starts.recv().unwrap();
    let waiting = foo_request(&FromClient::from_client(other.into_client())).send();
    let seen = server.snapshot();
    assert_eq!((seen.workers, seen.idle_workers, seen.waiting_jobs), (1, 0, 1), "{seen:?}");
    assert!(seen.connections[0].tables.answers >= 1, "{seen:?}");
    drop(go_on);
    call.wait().unwrap();
    waiting.wait().unwrap();
    until("the worker to be idle", || {
        let seen = server.snapshot();
        (seen.idle_workers, seen.waiting_jobs) == (seen.workers, 0)
    });
    drop((slow, serving, calling));
}
