//! What interceptors see, and what becomes of calls about which they decide.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capnp_threads_core::interceptors::{InterceptedCall, Interceptors, Side, Verdict, intercept};
use capnp_threads_core::typed::{ObjectConfig, unwrap_server};
use capnp_threads_core::vat::VatConfig;
use capnp_threads_core::{
    Client, ConnConfig, Error, ErrorKind, FromClient, Limits, Result, Vat, promise_client,
};
use capnp_threads_transport::memory;
use rpc_schema::test_capnp::{test_call_order, test_interface, test_pipeline};

use super::Site;
use rpc_tests::support::objects::{
    CallOrder, Interface, Order, OrderedReference, Sequence, call_foo, foo, foo_request, leave_open,
};
use rpc_tests::support::{Census, LONG, Pair, Watchdog, Wire, settle};

#[test]
fn an_interceptor_sees_what_is_called_by_whom() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (give, seen) = channel();
        let look = move |call: &InterceptedCall<'_>| {
            let peer = call.peer().map(|peer| peer.address);
            let method = call.method().to_string();
            give.send((call.side(), method, peer, call.size(), call.deadline())).unwrap();
            Ok(Verdict::Pass)
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(look, Interface);
        let deadline = Instant::now() + LONG;
        foo_request(&client).call_deadline(deadline).unwrap();
        let (side, method, peer, size, until) = seen.recv().unwrap();
        let expected = match site {
            Site::Object | Site::Incoming => Side::Incoming,
            Site::Reference | Site::Outgoing => Side::Outgoing,
        };
        assert_eq!(side, expected, "{site:?}");
        assert_eq!(method, "test.capnp:TestInterface.foo", "{site:?}");
        assert!(peer.is_some(), "{site:?}");
        assert!(size > 0, "{site:?}");
        // The peer is not told of it.
        assert_eq!(until, (side == Side::Outgoing).then_some(deadline), "{site:?}");
        assert!(seen.try_recv().is_err(), "{site:?}: it is asked once");
        drop(client);
        pair.finish();
    }
}

#[test]
fn interceptors_of_a_vat_come_before_those_of_its_connections() {
    let _watchdog = Watchdog::start();
    let (give, seen) = channel();
    let note = |who: &'static str| {
        let give = give.clone();
        move |_: &InterceptedCall<'_>| {
            give.send(who).unwrap();
            Ok(Verdict::Pass)
        }
    };
    let vat = |incoming: &'static str, outgoing: &'static str| {
        let mut config = VatConfig::default();
        config.interceptors = Interceptors::new().incoming(note(incoming)).outgoing(note(outgoing));
        Vat::with_config(config).unwrap()
    };
    let (client_vat, server_vat) = (vat("never", "client's vat"), vat("server's vat", "never"));
    let (here, there) = memory::pair();
    let object: test_interface::Client = server_vat
        .export_configured(Interface, ObjectConfig::new().interceptor(note("the object")));
    let at_server = |who| Interceptors::new().incoming(note(who));
    let config = ConnConfig::new()
        .bootstrap(object)
        .interceptors(at_server("server's connection"))
        .interceptors(at_server("server's connection, added"));
    let server = server_vat.connect(there, config).unwrap();
    let at_client = Interceptors::new().outgoing(note("client's connection"));
    let client = client_vat.connect(here, ConnConfig::new().interceptors(at_client)).unwrap();
    let foo = intercept(&client.bootstrap::<test_interface::Client>(), note("the reference"));
    call_foo(&foo).unwrap();
    drop((foo, give));
    settle(&client, &server);
    client.close();
    assert!(client.join_timeout(LONG).unwrap() && server.join_timeout(LONG).unwrap());
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(
        seen,
        [
            "the reference",
            "client's vat",
            "client's connection",
            "server's vat",
            "server's connection",
            "server's connection, added",
            "the object",
        ]
    );
}

#[test]
fn a_call_that_is_refused_fails_with_the_interceptors_error() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let refuse = |_: &InterceptedCall<'_>| Err(Error::overloaded("not today"));
        let (pair, client) = site.pair::<test_interface::Client, _>(refuse, Interface);
        let error = call_foo(&client).unwrap_err();
        assert_eq!(
            (error.reason(), error.kind()),
            ("not today", ErrorKind::Overloaded),
            "{site:?}"
        );
        drop(client);
        pair.finish();
    }
}

#[test]
fn a_call_goes_to_whatever_replaces_its_target() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (other, fulfiller) = promise_client::<test_interface::Client>();
        let away =
            move |_: &InterceptedCall<'_>| Ok(Verdict::Redirect(other.clone().into_client()));
        let refuser = foo(&Vat::new(), |_, _| Err(Error::failed("the other target")));
        let (pair, client) = site.pair::<test_interface::Client, _>(away, Interface);
        let early = foo_request(&client).send();
        fulfiller.fulfill(refuser);
        assert_eq!(early.wait().map(drop).unwrap_err().reason(), "the other target", "{site:?}");
        assert!(call_foo(&client).is_err(), "{site:?}");
        drop((client, early));
        pair.finish();
    }
}

/// What leaves over another connection than it would have is asked about there.
#[test]
fn a_call_that_is_sent_to_another_connection_meets_its_interceptors() {
    let _watchdog = Watchdog::start();
    let (client_vat, server_vat) = (Vat::new(), Vat::new());
    let connect = |outgoing: Interceptors| {
        let (here, there) = memory::pair();
        let object: test_interface::Client = server_vat.export(Interface);
        let server = server_vat.connect(there, ConnConfig::new().bootstrap(object)).unwrap();
        let client = client_vat.connect(here, ConnConfig::new().interceptors(outgoing)).unwrap();
        (client, server)
    };
    let (give, seen) = channel();
    let second = connect(Interceptors::new().outgoing(move |_: &InterceptedCall<'_>| {
        give.send(()).unwrap();
        Ok(Verdict::Pass)
    }));
    let other: test_interface::Client = second.0.bootstrap();
    let first = connect(Interceptors::new().outgoing(move |_: &InterceptedCall<'_>| {
        Ok(Verdict::Redirect(other.clone().into_client()))
    }));
    let foo: test_interface::Client = first.0.bootstrap();
    call_foo(&foo).unwrap();
    assert_eq!(seen.try_iter().count(), 1);
    drop(foo);
    for (client, server) in [first, second] {
        settle(&client, &server);
        client.close();
        assert!(client.join_timeout(LONG).unwrap() && server.join_timeout(LONG).unwrap());
    }
}

/// A replacement that is a promise keeps the order of the calls that wait in it.
#[test]
fn calls_keep_their_order_when_a_promise_replaces_their_target() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (order, census) = (Order::new(), Census::new());
        let (other, fulfiller) = promise_client::<test_call_order::Client>();
        let away =
            move |_: &InterceptedCall<'_>| Ok(Verdict::Redirect(other.clone().into_client()));
        let (pair, client) = site.pair::<test_call_order::Client, _>(away, CallOrder::default());
        let mut reference = OrderedReference::new(client, 0);
        let mut calls: Vec<_> = (0..10).map(|_| reference.send()).collect();
        let sequence = Sequence::new(&order, &census);
        let resolving = std::thread::spawn(move || fulfiller.fulfill(Vat::new().export(sequence)));
        calls.extend((0..10).map(|_| reference.send()));
        resolving.join().unwrap();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        order.assert_right(&format!("{site:?}"));
        drop((reference, calls));
        pair.finish();
    }
}

/// Gives the pipeline of its one method out early, and never answers.
struct Early;

impl test_pipeline::Server for Early {
    fn get_cap_pipeline_only(
        &self,
        _: test_pipeline::GetCapPipelineOnlyParams,
        mut results: test_pipeline::GetCapPipelineOnlyResults,
    ) -> Result<()> {
        results.get().init_out_box().set_cap(Vat::new().export(Interface));
        results.set_pipeline()?;
        leave_open(results, (), || {});
        Ok(())
    }
}

#[test]
fn pipelines_pass_interceptors() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let pass = |_: &InterceptedCall<'_>| Ok(Verdict::Pass);
        let (pair, client) = site.pair::<test_pipeline::Client, _>(pass, Early);
        // The pipeline is given out early, and the call is not answered.
        let pipeline = client.get_cap_pipeline_only_request().send_pipeline_only();
        call_foo(&pipeline.get_out_box().get_cap()).unwrap();
        drop((pipeline, client));
        pair.finish();
    }
}

/// An object is itself for its own vat, whatever stands in front of it, and gives itself to
/// others behind that.
#[test]
fn an_object_with_an_interceptor_is_still_recognised() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let refuse = |_: &InterceptedCall<'_>| Err(Error::failed("not through here"));
    let config = ObjectConfig::new().name("the object").interceptor(refuse);
    let object: test_interface::Client = vat.export_configured(Interface, config);
    assert!(unwrap_server::<Interface>(&object).is_some());
    assert!(format!("{object:?}").contains("the object"));
    let elsewhere = intercept(&object, |_: &InterceptedCall<'_>| Ok(Verdict::Pass));
    assert!(unwrap_server::<Interface>(&elsewhere).is_none());
    assert_ne!(object.as_client(), elsewhere.as_client());
}

#[test]
fn an_object_gives_itself_away_behind_its_interceptors() {
    let _watchdog = Watchdog::start();
    /// Keeps what it is for others.
    struct Selfish(Mutex<Option<Client>>);
    impl test_interface::Server for Selfish {
        fn foo(
            &self,
            params: test_interface::FooParams,
            _: test_interface::FooResults,
        ) -> Result<()> {
            *self.0.lock().unwrap() = Some(params.this());
            Ok(())
        }
    }
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let look = move |_: &InterceptedCall<'_>| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Verdict::Pass)
    };
    let server = Arc::new(Selfish(Mutex::default()));
    let config = ObjectConfig::new().interceptor(look);
    let object: test_interface::Client = Vat::new().export_configured(Arc::clone(&server), config);
    foo_request(&object).call().unwrap();
    let itself = server.0.lock().unwrap().take().unwrap();
    assert_eq!(&itself, object.as_client());
    foo_request(&FromClient::from_client(itself)).call().unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    // It would keep itself.
    let itself = server.0.lock().unwrap().take();
    assert!(itself.is_some());
}

/// Interceptors hold nothing back that they let pass.
#[test]
fn a_large_call_passes_interceptors() {
    let _watchdog = Watchdog::start();
    let pass = |_: &InterceptedCall<'_>| Ok(Verdict::Pass);
    let pair = Pair::configured(
        |vat| foo(vat, |_, _| Ok(())).into_client(),
        Wire::Memory,
        |config| config,
        |config| {
            let mut limits = Limits::default();
            limits.held_back_bytes = 100;
            config.limits(limits).interceptors(Interceptors::new().incoming(pass))
        },
    );
    let client: test_interface::Client = pair.bootstrap();
    let mut request = client.baz_request();
    request.get().init_s().init_data_field(10_000);
    let error = request.call().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented, "it has come to the object: {error}");
    drop(client);
    pair.finish();
}

/// The time that a call may take includes that in which it is delayed.
#[test]
fn a_delayed_call_ends_when_its_time_is_over() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (gate, releases) = super::gate("foo");
        let (pair, client) = site.pair::<test_interface::Client, _>(gate, Interface);
        let error =
            foo_request(&client).call_timeout(Duration::from_millis(1)).map(drop).unwrap_err();
        assert!(error.is_timeout(), "{site:?}: {error}");
        let error = foo_request(&client).send_timeout(Duration::from_millis(1)).wait().map(drop);
        assert!(error.as_ref().unwrap_err().is_timeout(), "{site:?}: {error:?}");
        drop((releases, client));
        pair.finish();
    }
}
