//! What a method knows of the object that it belongs to, and of who calls.

use std::sync::mpsc;

use capnp_threads_core::membrane::{Membrane, Transparent};
use capnp_threads_core::transport::PeerDescription;
use capnp_threads_core::{Connection, ErrorKind, FromClient, Vat};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{answer_foo, call_foo, foo, foo_request};
use rpc_tests::support::{LONG, Pair, Watchdog, Wire, vat};

/// What a method was told of its caller.
struct Told {
    caller: Option<PeerDescription>,
    connection: Option<Connection>,
}

/// A pair whose server tells who calls its `foo`, before and after it defers.
fn curious(wire: Wire) -> (Pair, mpsc::Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let object = move |vat: &Vat| {
        let method = move |params: test_interface::FooParams,
                           results: test_interface::FooResults| {
            let look = || Told { caller: params.caller(), connection: params.connection() };
            tell.send(look()).unwrap();
            let later = results.defer();
            tell.send(look()).unwrap();
            later.answer(|mut results| {
                results.get().set_x("foo");
                Ok(())
            });
            // There is nobody left to whom the answer goes, nor perhaps who is told.
            let _ = tell.send(look());
            Ok(())
        };
        foo(vat, method).into_client()
    };
    (Pair::configured(object, wire, |config| config, |config| config), told)
}

#[test]
fn a_method_learns_who_calls_and_over_which_connection() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let (pair, told) = curious(wire);
        let client: test_interface::Client = pair.bootstrap();
        call_foo(&client).unwrap();
        for told in told.iter().take(2) {
            let caller = told.caller.unwrap();
            assert_eq!(caller, pair.server.peer(), "{wire:?}");
            assert_eq!(told.connection.unwrap().peer(), caller, "{wire:?}");
            let pid = caller.credentials.map(|credentials| credentials.pid);
            assert_eq!(pid, (wire == Wire::Unix).then(std::process::id), "{wire:?}");
            let is_internet = matches!(wire, Wire::Tcp | Wire::Tls);
            assert_eq!(caller.socket.is_some(), is_internet, "{wire:?}");
        }
        let over = told.recv().unwrap();
        assert!(over.caller.is_none() && over.connection.is_none());
        drop(client);
        pair.finish();
    }
}

#[test]
fn a_method_can_call_its_caller_back_and_end_its_connection() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(
        |vat| {
            let method = |params: test_interface::FooParams, results| {
                let connection = params.connection().unwrap();
                call_foo(&connection.bootstrap())?;
                connection.close();
                answer_foo(params, results)
            };
            foo(vat, method).into_client()
        },
        Wire::Memory,
        |config| config.bootstrap(foo(&vat("callback"), answer_foo)),
        |config| config,
    );
    let client: test_interface::Client = pair.bootstrap();
    assert_eq!(call_foo(&client).unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(pair.server.failure().unwrap().reason().contains("closed by this side"));
    drop(client);
    pair.end();
}

#[test]
fn a_handle_that_a_method_gets_keeps_the_connection_as_any_other_does() {
    let _watchdog = Watchdog::start();
    let (pair, told) = curious(Wire::Memory);
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    let kept = told.recv().unwrap().connection.unwrap();
    let Pair { server, client: here, .. } = pair;
    drop(server);
    call_foo(&client).unwrap();
    assert!(here.failure().is_none());
    drop((kept, told));
    assert!(here.join_timeout(LONG).unwrap());
}

#[test]
fn calls_of_this_process_have_no_caller() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let here = vat("caller");
    let object = foo(&here, move |params, results| {
        tell.send(params.caller().is_some() || params.connection().is_some()).unwrap();
        answer_foo(params, results)
    });
    call_foo(&object).unwrap();
    assert!(!told.recv().unwrap());
    // Behind a membrane the caller is hidden, even if it is a peer.
    let wrapped = Membrane::new(Transparent).wrap(&object).into_client();
    let pair = Pair::new(move |_| wrapped);
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    assert!(!told.recv().unwrap());
    drop(client);
    pair.end();
    drop(object);
    assert!(here.shutdown(LONG).unwrap());
}

#[test]
fn an_object_can_give_itself_to_others() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let method = move |params: test_interface::FooParams, results| {
            tell.send(params.this::<test_interface::Client>()).unwrap();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    let this = told.recv().unwrap();
    // The object, and not a way back to it over the connection.
    call_foo(&this).unwrap();
    assert_eq!(told.recv().unwrap().as_client(), this.as_client());
    assert_ne!(this.as_client(), client.as_client());
    drop((client, this));
    pair.finish();
}

#[test]
fn an_object_knows_itself_after_its_call_is_answered() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let here = vat("itself");
    let method = move |params: test_interface::FooParams, results: test_interface::FooResults| {
        results.defer().answer(|_| Ok(()));
        tell.send(params.this::<test_interface::Client>()).unwrap();
        Ok(())
    };
    let object = foo(&here, method);
    foo_request(&object).call().unwrap();
    assert_eq!(told.recv().unwrap().as_client(), object.as_client());
    drop((object, told));
    assert!(here.shutdown(LONG).unwrap());
}

#[test]
fn a_call_that_was_passed_on_in_its_process_comes_from_the_peer_that_made_it() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let behind = foo(vat, move |params, results| {
            tell.send((params.caller(), params.this::<test_interface::Client>())).unwrap();
            answer_foo(params, results)
        });
        let in_front = foo(vat, move |_, results| {
            results.tail_call(foo_request(&behind));
            Ok(())
        });
        in_front.into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    let (caller, this) = told.recv().unwrap();
    assert_eq!(caller, Some(pair.server.peer()));
    assert_ne!(this.as_client(), client.as_client());
    drop((client, this));
    pair.finish();
}
