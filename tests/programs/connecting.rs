//! Clients that outlive their connections.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capnp_threads::connecting::Connector;
use capnp_threads::reconnect::Backoff;
use capnp_threads::serving::{Running, Server};
use capnp_threads::transport::tls::VatKey;
use capnp_threads::transport::unix;
use capnp_threads::{ConnConfig, Error, ErrorKind, Result, Vat};
use rpc_schema::greeter_capnp::greeter;
use rpc_tests::support::{LONG, Watchdog, until};

struct Named(String);

impl greeter::Server for Named {
    fn greet(&self, _: greeter::GreetParams, mut results: greeter::GreetResults) -> Result<()> {
        results.get().set_greeting(self.0.as_str());
        Ok(())
    }
}

fn serve(name: &str, address: &str) -> Running {
    let greeter: greeter::Client = Vat::global().export(Named(name.to_owned()));
    Server::new(greeter).listen(address).unwrap().signals(false).start().unwrap()
}

fn end(server: Running) {
    server.stop();
    assert!(server.join().unwrap());
}

fn ask(greeter: &greeter::Client) -> Result<String> {
    Ok(greeter.greet_request().call()?.get()?.get_greeting()?.to_string()?)
}

/// The answer of the first call that gets one: those that are under way when a connection
/// ends fail.
fn ask_until_answered(greeter: &greeter::Client) -> String {
    let answer = Mutex::new(None);
    until("an answer", || match ask(greeter) {
        Ok(said) => {
            *answer.lock().unwrap() = Some(said);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            false
        }
    });
    answer.into_inner().unwrap().unwrap()
}

#[test]
fn a_client_that_was_made_with_one_call_survives_a_restart_of_its_server() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let server = serve("the first", &address);
    let greeter: greeter::Client = capnp_threads::connect(&address).unwrap();
    assert_eq!(ask(&greeter).unwrap(), "the first");
    end(server);
    let server = serve("the second", &address);
    assert_eq!(ask_until_answered(&greeter), "the second");
    end(server);
}

#[test]
fn a_client_goes_on_with_another_server() {
    let _watchdog = Watchdog::start();
    let servers = ["one", "two"].map(|name| serve(name, "127.0.0.1:0"));
    let [one, two] = &servers;
    let [first, second] = [one, two].map(|server| server.addresses()[0].to_string());
    let connector = Connector::to(&first).unwrap().or(&second).unwrap();
    let greeter: greeter::Client = connector.connect().unwrap();
    assert_eq!(ask(&greeter).unwrap(), "one");
    let [one, two] = servers;
    end(one);
    assert_eq!(ask_until_answered(&greeter), "two");
    // It begins with the other one, and finds nobody there.
    let one = serve("one again", &first);
    end(two);
    assert_eq!(ask_until_answered(&greeter), "one again");
    end(one);
}

/// Not with the first one, which is there again: it may be lost again and again.
#[test]
fn an_attempt_begins_with_the_server_behind_the_last_one() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let [first, second] =
        ["one", "two"].map(|name| format!("unix:{}", folder.path().join(name).display()));
    let (one, two) = (serve("one", &first), serve("two", &second));
    let connector = Connector::to(&first).unwrap().or(&second).unwrap();
    let greeter: greeter::Client = connector.connect().unwrap();
    assert_eq!(ask(&greeter).unwrap(), "one");
    end(one);
    let one = serve("one again", &first);
    assert_eq!(ask_until_answered(&greeter), "two");
    end(two);
    let two = serve("two again", &second);
    assert_eq!(ask_until_answered(&greeter), "one again");
    end(one);
    end(two);
}

#[test]
fn what_cannot_be_connected_to_is_an_error_at_once_or_at_the_first_call() {
    let _watchdog = Watchdog::start();
    let connect = capnp_threads::connect::<greeter::Client>;
    assert!(connect("nowhere").unwrap_err().reason().contains("not an address"));
    let server = serve("gone", "127.0.0.1:0");
    let address = server.addresses()[0].to_string();
    end(server);
    let error = connect(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.reason().contains(&address), "{error}");
    let (greeter, _control) = Connector::to(&address).unwrap().lazy::<greeter::Client>();
    assert_eq!(ask(&greeter).unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn connecting_ends_with_the_last_client() {
    let _watchdog = Watchdog::start();
    let server = serve("here", "127.0.0.1:0");
    let dials = Arc::new(AtomicU32::new(0));
    let (address, counted) = (server.addresses()[0].clone(), Arc::clone(&dials));
    let vat = Vat::new();
    let connector = Connector::with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(address.connect()?)
    });
    let greeter: greeter::Client = connector.vat(vat.clone()).connect().unwrap();
    assert_eq!(ask(&greeter).unwrap(), "here");
    assert_eq!(ask(&greeter).unwrap(), "here");
    assert_eq!(dials.load(Ordering::SeqCst), 1);
    assert_eq!(vat.connection_count(), 1);
    drop(greeter);
    until("the connection has ended", || vat.connection_count() == 0);
    assert!(vat.shutdown(LONG).unwrap());
    end(server);
}

#[test]
fn what_a_connector_is_told_holds_for_each_connection() {
    let _watchdog = Watchdog::start();
    let server = serve("here", "127.0.0.1:0");
    let address = server.addresses()[0].to_string();
    let made = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&made);
    let connector = Connector::to(&address).unwrap().config(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        ConnConfig::new()
    });
    let (greeter, control) = connector.connect_with_control::<greeter::Client>().unwrap();
    for connections in 1..=2 {
        ask(&greeter).unwrap();
        assert_eq!(made.load(Ordering::SeqCst), connections);
        control.reset();
    }
    drop(greeter);
    end(server);

    // Nobody is there, and the pause after the first attempt is longer than anybody waits.
    let hour = Duration::from_secs(3600);
    let connector = Connector::to(&address).unwrap().backoff(Backoff::new(hour, hour));
    let (greeter, _control) = connector.lazy::<greeter::Client>();
    assert_eq!(ask(&greeter).unwrap_err().kind(), ErrorKind::Disconnected);
    let call = greeter.greet_request().call_timeout(Duration::from_millis(500));
    assert!(call.map(drop).unwrap_err().is_timeout());
}

#[test]
fn connecting_to_a_server_that_takes_nobody_has_a_time_limit() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // Nobody accepts, and in the end no more fit into the backlog.
    let _full = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    while let Ok(transport) = unix::connect_timeout(&path, Duration::from_millis(1)) {
        waiting.push(transport);
    }
    let connector = Connector::to(&format!("unix:{}", path.display())).unwrap();
    let timeout = connector.timeout(Duration::from_millis(10));
    let error = timeout.connect::<greeter::Client>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
}

// ---- Vats with keys

/// A server that tells each peer the peer's id.
fn serve_with_key(key: &VatKey, address: &str) -> Running {
    let server = Server::with_config(|peer| {
        let id = peer.vat().ok_or_else(|| Error::failed("a peer without a key"))?;
        let greeter: greeter::Client = Vat::global().export(Named(id.to_string()));
        Ok(ConnConfig::new().bootstrap(greeter))
    });
    server.listen_as(key, address).unwrap().signals(false).start().unwrap()
}

#[test]
fn both_sides_of_an_address_with_a_vat_prove_who_they_are() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let [key, own] =
        ["server", "own"].map(|name| VatKey::load_or_create(folder.path().join(name)).unwrap());
    let server = serve_with_key(&key, "127.0.0.1:0");
    let address = server.addresses()[0].to_string();
    let connector = Connector::to(&address).unwrap().key(&own);
    let greeter: greeter::Client = connector.connect().unwrap();
    assert_eq!(ask(&greeter).unwrap(), own.id().to_string());

    // In one line, as a vat that nobody knows, which stays the same one.
    let stranger: greeter::Client = capnp_threads::connect(&address).unwrap();
    let id = ask(&stranger).unwrap();
    assert!(id != own.id().to_string() && id.len() == 64, "{id}");
    end(server);
    let server = serve_with_key(&key, &address);
    assert_eq!(ask_until_answered(&greeter), own.id().to_string());
    assert_eq!(ask_until_answered(&stranger), id);

    // It listens where it was, and is another vat.
    end(server);
    let (_, socket) = address.split_once('@').unwrap();
    let server = serve_with_key(&own, socket);
    let error = capnp_threads::connect::<greeter::Client>(&address).unwrap_err();
    assert!(error.reason().contains(&own.id().to_string()), "{error}");
    end(server);
}

#[test]
fn a_vat_is_looked_for_at_all_its_addresses() {
    let _watchdog = Watchdog::start();
    let key = VatKey::generate().unwrap();
    let [gone, server] = [(); 2].map(|()| serve_with_key(&key, "127.0.0.1:0"));
    let [first, second] = [&gone, &server].map(|server| server.addresses()[0].to_string());
    let (_, second) = second.split_once('@').unwrap();
    end(gone);
    let greeter: greeter::Client = capnp_threads::connect(&format!("{first},{second}")).unwrap();
    ask(&greeter).unwrap();
    end(server);
}

#[test]
fn a_vat_without_a_place_or_a_key_is_an_error_that_says_what_to_do() {
    let _watchdog = Watchdog::start();
    let key = VatKey::generate().unwrap();
    let (id, other) = (key.id(), VatKey::generate().unwrap());
    let connect = capnp_threads::connect::<greeter::Client>;
    let error = connect(&format!("tls:{id}")).unwrap_err();
    assert!(error.reason().contains("write tls:VATID@host:port"), "{error}");
    assert!(connect("tls:nobody@here:1").is_err());
    let server = || Server::new(Vat::global().export::<greeter::Client, _>(Named(String::new())));
    let error = server().listen(&format!("tls:{id}@127.0.0.1:0")).unwrap_err();
    assert!(error.reason().contains("Server::listen_as"), "{error}");
    let error = server().listen_as(&other, &format!("tls:{id}@127.0.0.1:0")).unwrap_err();
    assert!(error.reason().contains("of another vat"), "{error}");
    assert!(server().listen_as(&key, "unix:/nowhere").is_err());
}
