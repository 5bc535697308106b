//! A server that counts what it does, and serves the counts as text for Prometheus.
//!
//! ```text
//! cargo run --example metrics
//! ```
//!
//! It prints an address to ask: `curl http://127.0.0.1:PORT/metrics`.

use capnp_threads::interceptors::{CallMetrics, Interceptors};
use capnp_threads::transport::memory;
use capnp_threads::vat::VatConfig;
use capnp_threads::{ConnConfig, Error, Result, Vat};
use metrics_exporter_prometheus::PrometheusBuilder;
use rpc_schema::greeter_capnp::greeter;
use tiny_http::{Response, Server};

struct Greeter;

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        if name.is_empty() {
            return Err(Error::failed("nobody to greet"));
        }
        results.get().set_greeting(format!("Hello, {name}!"));
        Ok(())
    }
}

fn vat(name: &str) -> Result<Vat> {
    let mut config = VatConfig::default();
    config.name = name.into();
    config.interceptors =
        Interceptors::new().incoming(CallMetrics::new()).outgoing(CallMetrics::new());
    Vat::with_config(config)
}

fn main() -> Result<()> {
    // Whatever counts is told to this recorder.
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|error| Error::failed(format!("another recorder is installed: {error}")))?;

    // A server and its client, in one process to be short.
    let (near, far) = memory::pair();
    let (server, client) = (vat("server")?, vat("client")?);
    let greeter: greeter::Client = server.export(Greeter);
    let _serving = server.connect(far, ConnConfig::new().bootstrap(greeter))?;
    let connection = client.connect(near, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    for name in ["Ada", "Grace", ""] {
        let mut request = greeter.greet_request();
        request.get().set_name(name);
        // One of them fails, and is counted as that.
        let _ = request.call();
    }

    let pages = Server::http("127.0.0.1:0")
        .map_err(|error| Error::failed(format!("the pages cannot be served: {error}")))?;
    println!("ready http://{}/metrics", pages.server_addr());
    for request in pages.incoming_requests() {
        // What a vat holds is looked at when somebody asks.
        server.record_metrics();
        client.record_metrics();
        counted.run_upkeep();
        request.respond(Response::from_string(counted.render()))?;
    }
    Ok(())
}
