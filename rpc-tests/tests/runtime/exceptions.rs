//! What becomes of an error on its way to whoever made the call.

use std::any::Any;
use std::process::Command;
use std::sync::{Arc, Mutex};

use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Client, ConnConfig, Error, ErrorKind, FromClient, Limits, Result, Vat};
use capnp_threads_transport::{Address, memory};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};
use rpc_testing::log::Events;
use rpc_tests::peers::{Library, Serving, cxx_extras, or_skip};
use rpc_tests::support::objects::foo;
use rpc_tests::support::{Pair, Watchdog, Wire};
use tracing::Level;

const KINDS: [ErrorKind; 4] =
    [ErrorKind::Failed, ErrorKind::Overloaded, ErrorKind::Disconnected, ErrorKind::Unimplemented];

fn failing(vat: &Vat, error: Error) -> test_interface::Client {
    foo(vat, move |_, _| Err(error.clone()))
}

fn error_of(client: &test_interface::Client) -> Error {
    client.foo_request().call().map(|_| ()).unwrap_err()
}

/// Passes every call on.
struct Proxy(Client);

impl Dispatch for Proxy {
    fn dispatch(&self, call: IncomingCall) {
        call.forward(&self.0);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Answers with what a call of its own fails with.
fn relay(vat: &Vat, target: test_interface::Client) -> test_interface::Client {
    foo(vat, move |_, _| {
        target.foo_request().call()?;
        Ok(())
    })
}

#[test]
fn thrown_exceptions_keep_kind_reason_trace_and_details_w() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        for kind in KINDS {
            let error = Error::new(kind, "remote exception: ä")
                .with_trace("here")
                .with_detail(7, vec![1, 2, 3])
                .with_detail(u64::MAX, Vec::new());
            let thrown = error.clone();
            let pair = Pair::configured(
                |vat| failing(vat, thrown).into_client(),
                wire,
                |config| config,
                |config| config,
            );
            let received = error_of(&pair.bootstrap());
            assert_eq!(received, error);
            assert_eq!(received.trace(), "here");
            assert!(received.details().eq(error.details()));
            assert_eq!(received.location(), None);
            pair.finish();
        }
    }
}

/// What the two ends of a row of vats see of each other.
fn through_hops(hop: impl Fn(&Vat, test_interface::Client) -> Client) {
    let thrown = Error::overloaded("too much").with_trace("at the origin").with_detail(7, vec![9]);
    let vats: Vec<Vat> = (0..3).map(|_| Vat::new()).collect();
    let mut offered = failing(&vats[0], thrown).into_client();
    let mut connections = Vec::new();
    for vat in &vats {
        let (here, there) = memory::pair();
        connections.push(vat.connect(there, ConnConfig::new().bootstrap(offered)).unwrap());
        let connection = Vat::new().connect(here, ConnConfig::new()).unwrap();
        offered = hop(vat, connection.bootstrap());
        connections.push(connection);
    }
    let error = error_of(&test_interface::Client::from_client(offered));
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Overloaded, "too much"));
    assert_eq!(error.trace(), "at the origin");
    assert_eq!(error.detail(7), Some(&[9][..]));
}

#[test]
fn an_error_survives_vats_that_pass_capabilities_on() {
    let _watchdog = Watchdog::start();
    through_hops(|_, client| client.into_client());
}

#[test]
fn an_error_survives_vats_that_forward_calls() {
    let _watchdog = Watchdog::start();
    through_hops(|vat, client| vat.export_dispatch(Arc::new(Proxy(client.into_client()))));
}

#[test]
fn an_error_survives_methods_that_return_what_they_met() {
    let _watchdog = Watchdog::start();
    through_hops(|vat, client| relay(vat, client).into_client());
}

#[test]
fn a_broken_promise_keeps_the_error_that_broke_it() {
    let _watchdog = Watchdog::start();
    let error = Error::unimplemented("not yet").with_trace("there").with_detail(1, vec![2]);
    let (promise, fulfiller) = capnp_threads_core::untyped::promise();
    let pair = Pair::new(|_| promise);
    let client: test_interface::Client = pair.bootstrap();
    let call = client.foo_request().send();
    fulfiller.reject(error.clone());
    let received = call.wait().map(|_| ()).unwrap_err();
    assert_eq!(received, error);
    let resolved = client.as_client().resolve().unwrap_err();
    assert_eq!((resolved.trace(), resolved.detail(1)), ("there", Some(&[2][..])));
    drop((client, call));
    pair.finish();
}

const MADE: u32 = line!() + 3;

fn made() -> Error {
    Error::failed("x").with_internal("a secret")
}

#[test]
fn a_trace_encoder_decides_what_a_connection_tells() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(
        |vat| foo(vat, |_, _| Err(made())).into_client(),
        Wire::Memory,
        |config| config,
        |config| {
            config.trace_encoder(|error| {
                let location = error.location().expect("made here");
                assert!(location.file().ends_with("exceptions.rs"));
                format!("line {}, {}", location.line(), error.internal())
            })
        },
    );
    let error = error_of(&pair.bootstrap());
    assert_eq!(error.reason(), "x");
    assert_eq!(error.trace(), format!("line {MADE}, a secret"));
    pair.finish();
}

#[test]
fn a_panic_is_told_of_by_the_trace_encoder_alone() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(
        |vat| foo(vat, |_, _| panic!("on purpose")).into_client(),
        Wire::Memory,
        |config| config,
        |config| config.trace_encoder(|error| error.internal().to_owned()),
    );
    let error = error_of(&pair.bootstrap());
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(!error.reason().contains("on purpose"));
    assert_eq!(error.trace(), "test.capnp:TestInterface.foo: on purpose");
    pair.finish();
}

#[test]
fn an_abort_tells_trace_and_details_too() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| failing(vat, Error::failed("x")).into_client());
    pair.server.abort(Error::failed("enough").with_trace("there").with_detail(7, vec![1]));
    assert!(pair.client.join_timeout(rpc_tests::support::LONG).unwrap());
    let failure = pair.client.failure().unwrap();
    assert_eq!(failure.kind(), ErrorKind::Disconnected);
    assert!(failure.reason().ends_with("enough"), "{failure}");
    assert_eq!((failure.trace(), failure.detail(7)), ("there", Some(&[1][..])));
    pair.end();
}

#[test]
fn a_failure_too_large_for_a_message_fails_alone() {
    let _watchdog = Watchdog::start();
    let bootstrap = |vat: &Vat| {
        failing(vat, Error::failed("x".repeat(70 << 20)).with_detail(1, vec![0; 70 << 20]))
            .into_client()
    };
    // The client may have the first failure before the server's thread has said that it is
    // written; until then, both are counted.
    let mut limits = Limits::default();
    limits.backlog_bytes = 1 << 30;
    let of_server = |config: ConnConfig| config.limits(limits);
    let pair = Pair::configured(bootstrap, Wire::Memory, |config| config, of_server);
    for _ in 0..2 {
        let error = error_of(&pair.bootstrap());
        assert!(error.reason().starts_with("xxx") && error.reason().len() <= 1 << 16);
    }
    pair.finish();
}

/// Serves one connection to whoever comes to an address of this machine.
fn serve_one(config: ConnConfig) -> (Address, std::thread::JoinHandle<()>) {
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap();
    let serving = std::thread::spawn(move || {
        let connection = Vat::new().connect(listener.accept().unwrap(), config).unwrap();
        connection.join().unwrap();
    });
    (address, serving)
}

/// What a program printed, line by line.
fn lines_of(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

struct Throws;

impl test_call_order::Server for Throws {}

impl test_more_stuff::Server for Throws {
    fn throw_exception(
        &self,
        _: test_more_stuff::ThrowExceptionParams,
        _: test_more_stuff::ThrowExceptionResults,
    ) -> Result<()> {
        Err(Error::overloaded("too much").with_internal("a secret"))
    }
}

#[test]
fn cxx_sees_our_kind_reason_and_trace() {
    for library in Library::ALL {
        let Some(mut cxx) = or_skip(cxx_extras(library)) else { continue };
        let _watchdog = Watchdog::start();
        let object: test_more_stuff::Client = capnp_threads_core::typed::new_client(Throws);
        let config = ConnConfig::new()
            .bootstrap(object)
            .trace_encoder(|error| format!("ours({})", error.internal()));
        let (address, serving) = serve_one(config);
        assert_eq!(
            lines_of(cxx.args(["trace-call", &address.to_string()])),
            ["type: overloaded", "reason: remote exception: too much", "trace: ours(a secret)"]
        );
        serving.join().unwrap();
    }
}

#[test]
fn we_see_the_kind_reason_and_trace_of_cxx() {
    for library in Library::ALL {
        let Some(mut cxx) = or_skip(cxx_extras(library)) else { continue };
        let _watchdog = Watchdog::start();
        cxx.args(["trace-serve", "127.0.0.1"]);
        let server = Serving::start(cxx).unwrap();
        let transport = server.address().parse::<Address>().unwrap().connect().unwrap();
        let vat = Vat::new();
        let config = ConnConfig::new().trace_encoder(|_| "ours".to_owned());
        let connection = vat.connect(transport, config).unwrap();
        let object: test_more_stuff::Client = connection.bootstrap();

        let error = object.throw_exception_request().call().map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Overloaded, "too much"));
        assert_eq!(error.trace(), "c++()");

        // There and back again: the prefix is theirs, and there is one of it.
        let mut request = object.call_foo_request();
        request.get().set_cap(failing(&vat, Error::disconnected("gone")));
        let error = request.call().map(|_| ()).unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Disconnected, "remote exception: gone")
        );
        assert_eq!(error.trace(), "c++(ours)");
    }
}

#[test]
fn both_sides_log_a_failure() {
    let _watchdog = Watchdog::start();
    let events = Arc::<Mutex<Vec<String>>>::default();
    let own = Arc::clone(&events);
    let log = Events::new(Level::DEBUG, move |event| own.lock().unwrap().push(event));
    tracing::subscriber::set_global_default(log).unwrap();
    let pair = Pair::new(|vat| {
        failing(vat, Error::failed("told apart").with_internal("a secret")).into_client()
    });
    error_of(&pair.bootstrap());
    pair.finish();
    let events = events.lock().unwrap();
    let about: Vec<_> = events.iter().filter(|event| event.contains("told apart")).collect();
    assert!(about.iter().any(|event| {
        event.contains("a call of the peer's failed") && event.contains("a secret")
    }));
    assert!(about.iter().any(|event| {
        event.contains("a call failed at the peer") && !event.contains("a secret")
    }));
}
