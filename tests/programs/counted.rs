//! What is counted of calls, by how they end, and of vats.

use capnp_threads::interceptors::{CallMetrics, Interceptors, intercept};
use capnp_threads::transport::memory;
use capnp_threads::vat::VatConfig;
use capnp_threads::{Concurrency, ConnConfig, Error, FromClient, Result, Vat};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rpc_schema::greeter_capnp::{greeter, guest};
use rpc_tests::support::{Event, Watchdog, until};

/// Ends each call as its parameters ask for it.
#[derive(Clone, Default)]
struct Greeter {
    entered: Event,
    go_on: Event,
}

impl greeter::Server for Greeter {
    fn greet(&self, params: greeter::GreetParams, _: greeter::GreetResults) -> Result<()> {
        match params.get()?.get_name()?.to_str()? {
            "fail" => Err(Error::failed("on purpose")),
            "busy" => Err(Error::overloaded("on purpose")),
            "later" => {
                self.entered.set();
                self.go_on.wait();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Lets the caller answer, who has passed a greeter.
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        results: greeter::GreetGuestResults,
    ) -> Result<()> {
        let caller = params.get()?.get_guest()?.cast_to::<greeter::Client>();
        results.tail_call(caller.greet_guest_request());
        Ok(())
    }
}

struct Caller;

impl greeter::Server for Caller {
    fn greet_guest(
        &self,
        _: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        results.get().set_greeting("answered where it was asked");
        Ok(())
    }
}

struct Guest;

impl guest::Server for Guest {
    fn name(&self, _: guest::NameParams, mut results: guest::NameResults) -> Result<()> {
        results.get().set_name("Ada");
        Ok(())
    }
}

fn vat(name: &str) -> Vat {
    let mut config = VatConfig::default();
    config.name = name.into();
    config.interceptors =
        Interceptors::new().incoming(CallMetrics::new()).outgoing(CallMetrics::new());
    Vat::with_config(config).unwrap()
}

fn greeting(greeter: &greeter::Client, name: &str) -> capnp_threads::Promise<Greeting> {
    let mut request = greeter.greet_request();
    request.get().set_name(name);
    request.send()
}

type Greeting = greeter::greet_results::Owned;

/// The value of a metric, by what stands before it in its line.
fn value(counted: &PrometheusHandle, metric: &str) -> Option<f64> {
    counted.run_upkeep();
    let page = counted.render();
    let found = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    found.map(|value| value.parse().unwrap())
}

#[track_caller]
fn require(counted: &PrometheusHandle, metric: &str, expected: f64) {
    // Calls are counted when they are over, which their callers may see before.
    until(metric, || value(counted, metric).is_some_and(|own| (own - expected).abs() < 0.5));
}

#[test]
fn calls_are_counted_by_how_they_end_and_vats_by_what_they_hold() {
    let _watchdog = Watchdog::start();
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();

    let (server, client) = (vat("counted-s"), vat("counted-c"));
    let object = Greeter::default();
    let greeter: greeter::Client = server.export_with(object.clone(), Concurrency::Concurrent);
    let (near, far) = memory::pair();
    let serving = server.connect(far, ConnConfig::new().bootstrap(greeter)).unwrap();
    let connection = client.connect(near, ConnConfig::new()).unwrap();
    let greeter: greeter::Client = connection.bootstrap();
    greeting(&greeter, "Ada").wait().unwrap();
    greeting(&greeter, "fail").wait().map(drop).unwrap_err();
    greeting(&greeter, "busy").wait().map(drop).unwrap_err();
    let not_a_guest = guest::Client::from_client(greeter.clone().into_client());
    not_a_guest.name_request().call().map(drop).unwrap_err();
    let mut request = greeter.greet_guest_request();
    let caller: greeter::Client = client.export(Caller);
    request.get().set_guest(guest::Client::from_client(caller.into_client()));
    request.call().unwrap();
    let cancelled = greeting(&greeter, "later");
    object.entered.wait();
    drop(cancelled);
    // What is answered behind the end of that call shows that it has come.
    greeting(&greeter, "Bob").wait().unwrap();

    let gauge = |name: &str, vat: &str| {
        let metric = format!("capnp_rpc_{name}{{vat=\"counted-{vat}\"}}");
        value(&counted, &metric).unwrap()
    };
    until("what the vats hold to be told", || {
        server.record_metrics();
        client.record_metrics();
        let held = ["connections", "exports", "imports", "waiting_jobs", "held_back_calls"];
        format!("{:?}", held.map(|name| gauge(name, "s"))) == "[1.0, 1.0, 0.0, 0.0, 0.0]"
            && gauge("imports", "c") > 0.5
            // One worker runs the method that nobody waits for.
            && gauge("workers", "s") > 0.5
            && gauge("idle_workers", "s") < gauge("workers", "s")
    });
    assert!(gauge("sent_bytes", "s") > 0.0 && gauge("received_bytes", "s") > 0.0);

    let lost = greeting(&greeter, "later");
    connection.close();
    lost.wait().map(drop).unwrap_err();
    until("the server to know", || server.connection_count() == 0);
    object.go_on.set();
    serving.join().unwrap();

    let guest: guest::Client = client.export(Guest);
    intercept(&guest, CallMetrics::new()).name_request().call().unwrap();

    let labels = |side: &str, method: &str| {
        let (interface, method) = method.split_once('.').unwrap();
        format!("side=\"{side}\",interface=\"greeter.capnp:{interface}\",method=\"{method}\"")
    };
    for (side, method, outcome, calls) in [
        ("incoming", "Greeter.greet", "returned", 2.0),
        ("incoming", "Greeter.greet", "failed", 1.0),
        ("incoming", "Greeter.greet", "overloaded", 1.0),
        ("incoming", "Guest.name", "unimplemented", 1.0),
        ("incoming", "Greeter.greetGuest", "tail_called", 1.0),
        ("incoming", "Greeter.greetGuest", "returned", 1.0),
        ("outgoing", "Greeter.greet", "returned", 2.0),
        ("outgoing", "Greeter.greet", "cancelled", 1.0),
        ("outgoing", "Greeter.greet", "disconnected", 1.0),
        ("outgoing", "Guest.name", "returned", 1.0),
    ] {
        let labels = labels(side, method);
        let metric = format!("capnp_rpc_calls_total{{{labels},outcome=\"{outcome}\"}}");
        require(&counted, &metric, calls);
    }
    // That which was lost may not have left any more.
    let cancelled = labels("incoming", "Greeter.greet") + ",outcome=\"cancelled\"";
    let cancelled = format!("capnp_rpc_calls_total{{{cancelled}}}");
    until("the cancelled call to be counted", || {
        value(&counted, &cancelled).is_some_and(|calls| (0.5..2.5).contains(&calls))
    });
    for side in ["incoming", "outgoing"] {
        require(&counted, &format!("capnp_rpc_calls_under_way{{side=\"{side}\"}}"), 0.0);
        let parameters = labels(side, "Greeter.greet") + ",content=\"parameters\"";
        let parameters = format!("capnp_rpc_call_bytes_total{{{parameters}}}");
        assert!(value(&counted, &parameters).unwrap() > 0.0);
    }
    let guest = labels("outgoing", "Guest.name");
    let results = format!("capnp_rpc_call_bytes_total{{{guest},content=\"results\"}}");
    assert!(value(&counted, &results).unwrap() > 0.0);
    // Times are kept for what was counted.
    assert!(value(&counted, &format!("capnp_rpc_call_seconds_count{{{guest}}}")).unwrap() > 1.5);
}
