//! Two vats in one process, over in-memory and socket transports.

use std::fs;
use std::time::Duration;

use capnp_threads_core::{Concurrency, ConnConfig, Vat};
use capnp_threads_transport::{memory, tcp};
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::alone;
use rpc_tests::support::objects::Echo;

#[test]
fn calls_return_and_the_tables_end_up_empty() {
    let (here, there) = memory::pair();
    let (client_vat, server_vat) = (Vat::new(), Vat::new());
    let bootstrap = Echo::client(&server_vat, Concurrency::Serial);
    let server = server_vat.connect(there, ConnConfig::new().bootstrap(bootstrap)).unwrap();
    let client = client_vat.connect(here, ConnConfig::new()).unwrap();

    let echo: echo::Client = client.bootstrap();
    let mut request = echo.echo_request();
    request.get().set_data(b"hello");
    assert_eq!(request.call().unwrap().get().unwrap().get_data().unwrap(), b"hello");

    let mut deep = echo.clone();
    for _ in 0..10 {
        deep = deep.next_request().send().pipeline().get_echo();
    }
    deep.ping_request().call().unwrap();
    drop(deep);
    drop(echo);
    client.close();
    assert!(client.join_timeout(Duration::from_secs(10)).unwrap());
    assert!(server.join_timeout(Duration::from_secs(10)).unwrap());
    assert!(client.snapshot().is_empty());
    assert!(server.snapshot().is_empty());
}

#[test]
fn a_stream_arrives_whole_and_in_order_before_what_follows_it() {
    let (here, there) = memory::pair();
    let vat = Vat::new();
    let bootstrap = Echo::client(&vat, Concurrency::Serial);
    let server = vat.connect(there, ConnConfig::new().bootstrap(bootstrap)).unwrap();
    let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
    let echo: echo::Client = client.bootstrap();
    for _ in 0..100 {
        let mut request = echo.push_request();
        request.get().set_data(&[7; 10_000]);
        request.send().unwrap();
    }
    assert_eq!(echo.total_request().call().unwrap().get().unwrap().get_bytes(), 1_000_000);
    drop(echo);
    client.close();
    assert!(server.join_timeout(Duration::from_secs(10)).unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_takes_three_threads_and_two_file_descriptors() {
    if !alone("connection::a_connection_takes_three_threads_and_two_file_descriptors") {
        return;
    }
    let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (client_vat, server_vat) = (Vat::new(), Vat::new());
    let connect = || {
        let (here, there) = (tcp::connect(address).unwrap(), listener.accept().unwrap());
        let server = server_vat.connect(there, ConnConfig::new()).unwrap();
        (client_vat.connect(here, ConnConfig::new()).unwrap(), server)
    };
    let count = |folder| fs::read_dir(folder).unwrap().count();
    let held = || (count("/proc/self/task"), count("/proc/self/fd"));
    // What is made once is made.
    let _first = connect();
    let before = held();
    let _ten: Vec<_> = (0..10).map(|_| connect()).collect();
    // Each has two sides, with a socket and what its receive thread stands by at.
    assert_eq!(held(), (before.0 + 10 * 2 * 3, before.1 + 10 * 2 * 2));
}
