//! Vats that prove who they are, and what each of them is admitted to.

use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use capnp_threads_core::vat::AcceptLimits;
use capnp_threads_core::{ConnConfig, Connection, Error, Limits, Result, ServeConfig, Vat};
use capnp_threads_transport::tls::{Listener, VatKey};
use capnp_threads_transport::{Transport, tcp};
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::objects::Quick;
use rpc_tests::support::{LONG, Watchdog};

fn quick() -> echo::Client {
    echo::Client::from_server(Quick)
}

fn ping(connection: &Connection) -> Result<()> {
    let echo: echo::Client = connection.bootstrap();
    echo.ping_request().call().map(drop)
}

fn listener(key: &VatKey) -> Listener {
    key.listen(&"127.0.0.1:0".parse().unwrap()).unwrap()
}

fn client(key: &VatKey, server: &VatKey, at: SocketAddr) -> Connection {
    let transport = key.connect(&server.address(at)).unwrap();
    Vat::new().connect(transport, ConnConfig::new()).unwrap()
}

/// Serves until the test has run.
fn while_serving(listener: &Listener, config: ServeConfig, test: impl FnOnce(SocketAddr)) {
    let at = listener.local_addr();
    let vat = Vat::new();
    thread::scope(|scope| {
        let serving = scope.spawn(|| vat.serve(listener, config));
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| test(at)));
        listener.closer().close();
        serving.join().unwrap().unwrap();
        if let Err(panic) = outcome {
            panic::resume_unwind(panic);
        }
    });
}

/// Why the other side ended a connection.
fn told(connection: &Connection) -> String {
    assert!(connection.join_timeout(LONG).unwrap());
    connection.failure().unwrap().reason().to_owned()
}

#[test]
fn each_vat_gets_what_it_is_admitted_to_and_strangers_get_nothing() {
    let _watchdog = Watchdog::start();
    let [server, friend, tenant, stranger] = [(); 4].map(|()| VatKey::generate().unwrap());
    let (friend_id, tenant_id) = (friend.id(), tenant.id());
    let config = ServeConfig::new(move |peer| {
        let config = ConnConfig::new().bootstrap(quick());
        match peer.vat() {
            Some(vat) if vat == friend_id => Ok(config),
            Some(vat) if vat == tenant_id => {
                // A message of this many words cannot even ask for the bootstrap.
                let mut limits = Limits::default();
                limits.message_words = 2;
                Ok(config.limits(limits))
            }
            Some(vat) => Err(Error::failed(format!("{vat} is a stranger"))),
            None => Err(Error::failed("come with a key")),
        }
    });
    let listener = listener(&server);
    while_serving(&listener, config, |at| {
        for _ in 0..2 {
            let connection = client(&stranger, &server, at);
            let reason = told(&connection);
            assert!(reason.contains(&format!("{} is a stranger", stranger.id())), "{reason}");
            assert!(ping(&connection).is_err());
            let connection = client(&tenant, &server, at);
            assert!(ping(&connection).is_err());
            // The reason may be lost: this side writes, and the other does not read any more.
            assert!(connection.join_timeout(LONG).unwrap());
            let connection = client(&friend, &server, at);
            assert_eq!(connection.peer().vat(), Some(server.id()));
            ping(&connection).unwrap();
        }
    });
}

#[test]
fn a_vat_counts_as_one_peer() {
    let _watchdog = Watchdog::start();
    let [server, greedy, other] = [(); 3].map(|()| VatKey::generate().unwrap());
    let mut limits = AcceptLimits::default();
    limits.connections_per_peer = 1;
    let listener = listener(&server);
    let config = ServeConfig::bootstrap(quick()).accept_limits(limits);
    while_serving(&listener, config, |at| {
        let first = client(&greedy, &server, at);
        ping(&first).unwrap();
        let second = client(&greedy, &server, at);
        assert!(told(&second).contains("1 connections with you"));
        // From the same address it cannot have more under another key.
        let third = client(&other, &server, at);
        assert!(told(&third).contains("1 connections with you"));
        ping(&first).unwrap();
    });
}

/// What both sides say of the end of a connection over which there were calls.
fn ends(here: Transport, there: Transport) -> [String; 2] {
    let server = Vat::new().connect(there, ConnConfig::new().bootstrap(quick())).unwrap();
    let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
    let echo: echo::Client = client.bootstrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..250).for_each(|_| drop(echo.ping_request().call().unwrap()));
            });
        }
    });
    client.close();
    [&client, &server].map(told)
}

#[test]
fn connections_work_and_end_over_tls_as_they_do_without() {
    let _watchdog = Watchdog::start();
    let plain = tcp::Listener::bind(("127.0.0.1", 0)).unwrap();
    let here = tcp::connect(plain.local_addr().unwrap()).unwrap();
    let expected = ends(here, plain.accept().unwrap());
    let [server, own] = [(); 2].map(|()| VatKey::generate().unwrap());
    let listener = listener(&server);
    let here = own.connect(&server.address(listener.local_addr())).unwrap();
    assert_eq!(ends(here, listener.accept().unwrap()), expected);
}
