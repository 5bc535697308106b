//! Peers that do not know level 4: what they are asked has a documented outcome.

use capnp_threads_core::{ConnConfig, ErrorKind, FromClient, Vat};
use capnp_threads_transport::Address;
use rpc_schema::test_capnp::{test_handle, test_more_stuff};
use rpc_tests::peers::{Library, Peer, or_skip};
use rpc_tests::support::Watchdog;

fn ask(peer: Peer) {
    let Some(program) = or_skip(peer.find()) else { return };
    let _watchdog = Watchdog::start();
    let server = program.serve("127.0.0.1:0").unwrap();
    let transport = server.address().parse::<Address>().unwrap().connect().unwrap();
    let connection = Vat::new().connect(transport, ConnConfig::new()).unwrap();
    let stuff: test_more_stuff::Client = connection.bootstrap();
    let handle = || -> test_handle::Client {
        let response = stuff.get_handle_request().call().unwrap();
        response.get().unwrap().get_handle().unwrap()
    };
    let [one, other] = [handle(), handle()];
    // What this vat knows itself is not asked.
    assert_eq!(one.same_object(&one.clone()), Ok(true), "{peer}");
    // Once because the peer says so, and once because it has said so.
    for _ in 0..2 {
        let told = one.same_object(&other).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Unimplemented, "{peer}: {told}");
        assert!(told.reason().contains("level 4"), "{peer}: {told}");
    }
    // The connection goes on.
    drop(handle());
    drop((one, other, stuff));
    connection.close();
}

#[test]
fn cxx_0_9_knows_no_joins() {
    ask(Peer::Cxx(Library::System));
}

#[test]
fn cxx_1_3_knows_no_joins() {
    ask(Peer::Cxx(Library::Wheel));
}

#[test]
fn pycapnp_knows_no_joins() {
    ask(Peer::Pycapnp);
}

#[test]
fn capnp_rpc_knows_no_joins() {
    ask(Peer::CapnpRpc);
}
