//! Spans of calls.

use std::sync::{Arc, Mutex};

use capnp_threads_core::{Concurrency, Error, FromClient, Vat};
use rpc_schema::test_capnp::test_interface;
use rpc_testing::log::{Spans, Told};
use tracing::Level;

use rpc_tests::support::objects::{Foo, any, call_foo, foo_request};
use rpc_tests::support::{Pair, Watchdog, Wire, alone, until};

/// What a subscriber of this process has been told.
type Log = Arc<Mutex<Vec<Told>>>;

/// For a process of its own.
fn subscribe(most: Level) -> Log {
    let log = Log::default();
    let own = Arc::clone(&log);
    let spans = Spans::new(most, move |told| own.lock().unwrap().push(told));
    tracing::subscriber::set_global_default(spans).unwrap();
    log
}

fn find<T>(log: &Log, what: impl Fn(&Told) -> Option<T>) -> Option<T> {
    log.lock().unwrap().iter().find_map(what)
}

/// The number of the span whose name and fields contain all of these.
fn span(log: &Log, texts: &[&str]) -> u64 {
    find(log, |told| match told {
        Told::Opened { span, text, .. } if texts.iter().all(|part| text.contains(part)) => {
            Some(*span)
        }
        _ => None,
    })
    .unwrap_or_else(|| panic!("no span with {texts:?} in {log:?}"))
}

/// The span in which something was told.
fn span_of_event(log: &Log, text: &str) -> Option<u64> {
    find(log, |told| match told {
        Told::Event(span, event) if event.contains(text) => Some(*span),
        _ => None,
    })
    .unwrap_or_else(|| panic!("no event with {text:?} in {log:?}"))
}

fn is_closed(log: &Log, span: u64) -> bool {
    log.lock().unwrap().contains(&Told::Closed(span))
}

/// An object that tells the log when it is called, and fails.
fn failing(vat: &Vat) -> test_interface::Client {
    vat.export_named(
        "the object",
        Foo::new(|_: test_interface::FooParams, _: test_interface::FooResults| {
            tracing::event!(Level::INFO, "inside");
            Err(Error::failed("on purpose"))
        }),
    )
}

#[test]
fn a_call_has_a_span_on_each_side() {
    if !alone("spans::a_call_has_a_span_on_each_side") {
        return;
    }
    let _watchdog = Watchdog::start();
    let log = subscribe(Level::DEBUG);
    let pair = Pair::configured(|vat| failing(vat).into_client(), Wire::Tcp, |own| own, |own| own);
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap_err();
    let method = "test.capnp:TestInterface.foo";
    let incoming = span(
        &log,
        &["incoming call", method, "the object", "peer=", "127.0.0.1", "question=", "connection="],
    );
    assert_eq!(span_of_event(&log, "inside"), Some(incoming));
    assert_eq!(span_of_event(&log, "a call of the peer's failed"), Some(incoming));
    let outgoing = span(&log, &["outgoing call", method]);
    assert_eq!(span_of_event(&log, "a call failed at the peer"), Some(outgoing));
    for field in ["question=", "peer=\"127.0.0.1", "connection="] {
        let recorded = |told: &Told| match told {
            Told::Recorded(span, text) if *span == outgoing => text.contains(field).then_some(()),
            _ => None,
        };
        assert!(find(&log, recorded).is_some(), "{field}: {log:?}");
    }
    let number = format!("connection={}", pair.server.id());
    assert_eq!(span(&log, &["incoming call", &number]), incoming);
    until("the spans to end", || is_closed(&log, incoming) && is_closed(&log, outgoing));
    drop(client);
    pair.finish();
}

#[test]
fn a_call_within_the_process_has_its_spans_in_one_another() {
    if !alone("spans::a_call_within_the_process_has_its_spans_in_one_another") {
        return;
    }
    let _watchdog = Watchdog::start();
    let log = subscribe(Level::DEBUG);
    let object = failing(&Vat::new());
    {
        let _around = tracing::info_span!("around").entered();
        foo_request(&object).send().wait().map(drop).unwrap_err();
    }
    let around = span(&log, &["around"]);
    let outgoing = span(&log, &["outgoing call"]);
    let incoming = span(&log, &["incoming call", "this process"]);
    let parent = |of: u64| {
        find(&log, |told| match told {
            Told::Opened { span, parent, .. } if *span == of => Some(*parent),
            _ => None,
        })
    };
    assert_eq!(parent(outgoing), Some(Some(around)));
    assert_eq!(parent(incoming), Some(Some(outgoing)));
    assert_eq!(span_of_event(&log, "inside"), Some(incoming));
    until("the spans to end", || is_closed(&log, incoming) && is_closed(&log, outgoing));
    assert_eq!(span_of_event(&log, "a call failed in this process"), Some(outgoing));
}

#[test]
fn nobody_pays_for_spans_that_nobody_wants() {
    if !alone("spans::nobody_pays_for_spans_that_nobody_wants") {
        return;
    }
    let _watchdog = Watchdog::start();
    let log = subscribe(Level::INFO);
    let object = failing(&Vat::new());
    call_foo(&object).unwrap_err();
    assert_eq!(span_of_event(&log, "inside"), None);
    let opened = find(&log, |told| matches!(told, Told::Opened { .. }).then_some(()));
    assert_eq!(opened, None, "{log:?}");
}

/// So a method can let a call go on within a trace of another vat.
#[test]
fn a_call_that_is_passed_on_belongs_to_the_span_in_which_that_is_done() {
    if !alone("spans::a_call_that_is_passed_on_belongs_to_the_span_in_which_that_is_done") {
        return;
    }
    let _watchdog = Watchdog::start();
    let log = subscribe(Level::DEBUG);
    let pair = Pair::new(|vat| {
        let target = failing(vat);
        any(vat, Concurrency::Serial, move |call| {
            let _session = tracing::info_span!(parent: None, "session").entered();
            call.forward(target.as_client());
        })
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap_err();
    let target = span(&log, &["incoming call", "the object"]);
    let parent = find(&log, |told| match told {
        Told::Opened { span, parent, .. } if *span == target => Some(*parent),
        _ => None,
    });
    assert_eq!(parent, Some(Some(span(&log, &["session"]))));
    assert_eq!(span_of_event(&log, "a call of the peer's failed"), Some(target));
    drop(client);
    pair.finish();
}

/// Spans begin and end in the middle of everything, as events do.
#[test]
fn a_log_that_panics_at_every_span_stops_nothing() {
    if !alone("spans::a_log_that_panics_at_every_span_stops_nothing") {
        return;
    }
    let _watchdog = Watchdog::start();
    let spans = Spans::new(Level::TRACE, |told| {
        // Only a span that was made has more to tell.
        assert!(matches!(told, Told::Opened { .. }), "on purpose");
    });
    tracing::subscriber::set_global_default(spans).unwrap();
    let pair = Pair::new(|vat| {
        let answer = rpc_tests::support::objects::answer_foo;
        vat.export::<test_interface::Client, _>(Foo::new(answer)).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    (0..10).for_each(|_| call_foo(&client).unwrap());
    client.foo_request().call().map(drop).unwrap_err();
    drop(client);
    pair.finish();
}
