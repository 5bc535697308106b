//! The end of a vat that is being used.

use std::thread;

use capnp_threads_core::{ConnConfig, ErrorKind, RpcSystem};
use capnp_threads_transport::{Address, SocketNetwork};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{answer_foo, call_foo, foo_with};
use rpc_tests::support::{Census, Event, LONG, Watchdog, until, vat};

/// Clients come, call and go all the time when the system is dropped and its vat is
/// shut down: every call that is made ends, and so does everything else.
#[test]
fn a_shutdown_while_vats_are_accepted_and_methods_run_w() {
    const CLIENTS: usize = 4;
    let _watchdog = Watchdog::start();
    let (server, census) = (vat("bwa"), Census::new());
    let counted = census.clone();
    let object = foo_with(
        &server,
        capnp_threads_core::Concurrency::Concurrent,
        (),
        move |params, results| {
            drop(counted.count());
            answer_foo(params, results)
        },
    );
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let network = SocketNetwork::listening(address.listen().unwrap()).unwrap();
    let address = network.local_address().unwrap().clone();
    let system = RpcSystem::builder(&server, network).bootstrap(object).start().unwrap();
    let over = Event::new();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, over) = (address.clone(), over.clone());
            thread::spawn(move || {
                let vat = vat("bwc");
                while !over.is_set() {
                    // Nobody listens any more.
                    let Ok(transport) = address.connect() else { break };
                    let connection = vat.connect(transport, ConnConfig::new()).unwrap();
                    let theirs: test_interface::Client = connection.bootstrap();
                    if let Err(error) = (0..8).try_for_each(|_| call_foo(&theirs)) {
                        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                    }
                    connection.close();
                    assert!(connection.join_timeout(LONG).unwrap());
                }
                assert!(vat.shutdown(LONG).unwrap());
            })
        })
        .collect();
    until("methods to run", || census.made() > 100);
    drop(system);
    assert!(server.shutdown(LONG).unwrap());
    over.set();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(server.connection_count(), 0);
}
