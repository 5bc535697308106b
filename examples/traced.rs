//! A trace that begins in one vat and goes on in another.
//!
//! ```text
//! cargo run --example traced
//! ```
//!
//! The server offers an object together with a capability by which callers join it with
//! their traces: `Traced` in `tracing.capnp`. Nothing is added to the messages, and a vat
//! that does not join calls the object as ever. The spans go to OpenTelemetry; here they
//! are printed in the end.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use capnp_threads::transport::memory;
use capnp_threads::untyped::{Dispatch, IncomingCall};
use capnp_threads::{Client, ConnConfig, Error, FromClient, Result, Vat};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use rpc_schema::greeter_capnp::greeter;
use rpc_schema::tracing_capnp::traced;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

struct Greeter;

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let _thinking = tracing::info_span!("thinking").entered();
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Hello, {name}!"));
        Ok(())
    }
}

/// Lets callers join a greeter with their traces.
struct Joining {
    vat: Vat,
    greeter: Client,
}

impl traced::Server for Joining {
    fn join(&self, params: traced::JoinParams, mut results: traced::JoinResults) -> Result<()> {
        let params = params.get()?;
        let fields = HashMap::from([
            ("traceparent".to_owned(), params.get_traceparent()?.to_string()?),
            ("tracestate".to_owned(), params.get_tracestate()?.to_string()?),
        ]);
        let trace = TraceContextPropagator::new().extract(&fields);
        let session = Session { trace, object: self.greeter.clone() };
        let session = self.vat.export_dispatch(Arc::new(session));
        results.get().set_greeter(greeter::Client::from_client(session));
        Ok(())
    }
}

/// An object for the calls of one trace.
struct Session {
    trace: Context,
    object: Client,
}

impl Dispatch for Session {
    fn dispatch(&self, call: IncomingCall) {
        let span = tracing::debug_span!(parent: None, "session");
        // A trace that was named wrongly is no reason to refuse the call.
        let _ = span.set_parent(self.trace.clone());
        // A call that is passed on belongs to the span in which that is done.
        let _entered = span.entered();
        call.forward(&self.object);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Joins a greeter with the trace of this thread's span.
fn join(traced: &traced::Client) -> greeter::Client {
    let mut fields = HashMap::new();
    let trace = tracing::Span::current().context();
    TraceContextPropagator::new().inject_context(&trace, &mut fields);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let mut request = traced.join_request();
    request.get().set_traceparent(field("traceparent"));
    request.get().set_tracestate(field("tracestate"));
    // The session can be called before it is there.
    request.send().pipeline().get_greeter()
}

fn main() -> Result<()> {
    let spans = Collected::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("traced"));
    let subscriber = tracing_subscriber::registry().with(LevelFilter::DEBUG).with(layer);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Error::failed(error.to_string()))?;

    let (near, far) = memory::pair();
    let server = Vat::new();
    let greeter: greeter::Client = server.export(Greeter);
    let joining: traced::Client =
        server.export(Joining { vat: server.clone(), greeter: greeter.into_client() });
    let serving = server.connect(far, ConnConfig::new().bootstrap(joining))?;
    let connection = Vat::new().connect(near, ConnConfig::new())?;
    {
        let _visit = tracing::info_span!("visit").entered();
        let greeter = join(&connection.bootstrap());
        let mut request = greeter.greet_request();
        request.get().set_name("Ada");
        println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);
    }
    connection.close();
    connection.join()?;
    serving.join()?;
    provider.force_flush().map_err(|error| Error::failed(error.to_string()))?;
    spans.print();
    Ok(())
}

/// The spans that are over.
#[derive(Clone, Debug, Default)]
struct Collected(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Collected {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if let Ok(mut spans) = self.0.lock() {
            spans.extend(batch);
        }
        Ok(())
    }
}

impl Collected {
    /// Prints the one trace that has a visit, each span within its parent.
    fn print(&self) {
        let Ok(mut spans) = self.0.lock() else { return };
        let visit = spans.iter().find(|span| span.name == "visit");
        let Some(trace) = visit.map(|visit| visit.span_context.trace_id()) else { return };
        spans.retain(|span| span.span_context.trace_id() == trace);
        spans.sort_by_key(|span| span.start_time);
        print_within(&spans, SpanId::INVALID, 0);
    }
}

fn print_within(spans: &[SpanData], parent: SpanId, depth: usize) {
    for span in spans.iter().filter(|span| span.parent_span_id == parent) {
        let method = span.attributes.iter().find(|own| own.key.as_str() == "method");
        let method = method.map_or(String::new(), |own| format!(": {}", own.value));
        println!("{}{}{method}", "  ".repeat(depth), span.name);
        print_within(spans, span.span_context.span_id(), depth + 1);
    }
}
