//! Servers that say of themselves what there is to call.

use capnp_threads::description;
use capnp_threads::health::{self, Health};
use capnp_threads::serving::{Running, Server};
use capnp_threads::{ConnConfig, Connection, Vat};
use rpc_schema::greeter_capnp::greeter;
use rpc_tests::support::Watchdog;

struct Greeter;

impl greeter::Server for Greeter {}

const SCHEMA: &[u8] = b"as the schema compiler writes it";

fn start(change: impl FnOnce(Server) -> Server) -> (Running, Connection) {
    let greeter: greeter::Client = Vat::global().export(Greeter);
    let server = change(Server::new(greeter).listen("127.0.0.1:0").unwrap().signals(false));
    let server = server.start().unwrap();
    let transport = server.addresses()[0].connect().unwrap();
    let connection = Vat::new().connect(transport, ConnConfig::new()).unwrap();
    (server, connection)
}

#[test]
fn a_server_describes_itself_if_it_is_told_to_beside_its_health() {
    let _watchdog = Watchdog::start();
    let ask = |connection| description::of(connection).schema_request().call();
    let (silent, connection) = start(|server| server);
    assert!(ask(&connection).is_err());
    silent.stop_now();
    silent.join().unwrap();

    let health = Health::new();
    let (server, connection) = start(|server| server.describe(SCHEMA).health(&health));
    assert_eq!(ask(&connection).unwrap().get().unwrap().get_request().unwrap(), SCHEMA);
    health::of(&connection).check_request().call().unwrap();
    let other: description::Description = connection.restore("another");
    let error = other.schema_request().call().map(drop).unwrap_err();
    assert!(error.reason().contains("nothing is offered under this name"), "{error}");
    server.stop_now();
    server.join().unwrap();
}
