//! Capabilities that outlive their connections to a server.

use std::sync::{Arc, Mutex};
use std::thread;

use capnp_threads_core::reconnect::{ReconnectControl, auto_reconnect, lazy_auto_reconnect};
use capnp_threads_core::transport::TransportControl;
use capnp_threads_core::{ConnConfig, Connection, ErrorKind, Result};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use super::peers::{Session, at_each_server};
use rpc_tests::support::objects::call_foo;
use rpc_tests::support::until;

const TCP: &str = "127.0.0.1:0";

type Foo = test_interface::Client;

/// A connection, and what breaks it.
type Link = (Connection, Arc<dyn TransportControl>);

/// The connections that were made so far.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Vec<Link>>>);

impl Made {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Breaks the last one, and waits until this side knows.
    fn break_last(&self) {
        let (connection, control) = self.0.lock().unwrap().last().unwrap().clone();
        control.shutdown();
        connection.join().unwrap();
    }
}

/// Makes a connection to the server of a session.
fn connecting(session: &Session, made: &Made) -> impl Fn() -> Result<Foo> + Send + Sync + 'static {
    let (address, vat, made) = (session.address.clone(), session.vat.clone(), made.clone());
    move || {
        let transport = address.connect()?;
        let control = Arc::clone(&transport.control);
        let connection = vat.connect(transport, ConnConfig::new())?;
        let theirs = connection.bootstrap();
        made.0.lock().unwrap().push((connection, control));
        Ok(theirs)
    }
}

/// What both kinds do once there is a first connection.
fn reconnects(session: &Session, client: &Foo, control: &ReconnectControl, made: &Made) {
    let server = &session.server;
    call_foo(client).unwrap();
    assert_eq!(made.count(), 1, "{server}");

    // What is under way fails, and what is called then makes one connection.
    let in_flight = client.clone().cast_to::<test_more_stuff::Client>();
    let in_flight = in_flight.never_return_request().send();
    call_foo(client).unwrap();
    made.break_last();
    let error = in_flight.wait().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{server}");
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || call_foo(&client).unwrap())
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    assert_eq!(made.count(), 2, "{server}");

    control.reset();
    call_foo(client).unwrap();
    assert_eq!(made.count(), 3, "{server}");
}

#[test]
fn automatic_reconnecting_and_a_reset_control_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let made = Made::default();
            let (client, control) = auto_reconnect(connecting(session, &made));
            until("the first connection", || made.count() == 1);
            reconnects(session, &client, &control, &made);
        },
    );
}

#[test]
fn lazy_reconnecting_and_a_reset_control_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let made = Made::default();
            let (client, control) = lazy_auto_reconnect(connecting(session, &made));
            assert_eq!(made.count(), 0);
            reconnects(session, &client, &control, &made);
        },
    );
}
