//! A page that shows what a vat does: its connections, the objects that peers hold, and how
//! many calls of which method come in a second.
//!
//! ```text
//! cargo run --example dashboard
//! ```
//!
//! It prints the address of the page. The vat serves a greeter, and two clients in the same
//! process keep it busy. A program of your own needs [`Counts`] among its interceptors, and
//! [`serve`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capnp_threads::interceptors::{Ending, InterceptedCall, Interceptor, Interceptors, Verdict};
use capnp_threads::transport::tcp;
use capnp_threads::vat::VatConfig;
use capnp_threads::{ConnConfig, Error, Result, ServeConfig, Vat};
use rpc_schema::greeter_capnp::{greeter, guest};
use tiny_http::{Header, Response, Server};

/// The page. It asks for [`data`] every second and draws it.
const PAGE: &str = include_str!("page.html");

/// Counts the calls of each method.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, Count>>>);

#[derive(Clone, Copy, Default)]
struct Count {
    calls: u64,
    failures: u64,
    under_way: u64,
    seconds: f64,
}

impl Counts {
    fn of(&self, method: &str, change: impl FnOnce(&mut Count)) {
        if let Ok(mut counts) = self.0.lock() {
            change(counts.entry(method.to_owned()).or_default());
        }
    }
}

impl Interceptor for Counts {
    fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict> {
        // A peer can make up numbers of methods, but not the names of those that are known.
        let method = match (call.method().interface(), call.method().name()) {
            (Some(interface), Some(name)) => format!("{}.{name}", interface.name()),
            _ => "other methods".to_owned(),
        };
        self.of(&method, |count| count.under_way += 1);
        let (counts, began) = (self.clone(), Instant::now());
        call.on_answer(move |ending| {
            counts.of(&method, |count| {
                count.calls += 1;
                count.under_way -= 1;
                count.failures += u64::from(matches!(ending, Ending::Failed(_)));
                count.seconds += began.elapsed().as_secs_f64();
            });
        });
        Ok(Verdict::Pass)
    }
}

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// What the vat does at this moment, as JSON.
fn data(vat: &Vat, counts: &Counts, since: Instant) -> String {
    let snapshot = vat.snapshot();
    let connections = snapshot.connections.iter().map(|connection| {
        let tables = &connection.tables;
        let objects = connection.exports.iter().map(|exported| {
            let object = quoted(&exported.object);
            format!("{{\"object\":{object},\"references\":{}}}", exported.references)
        });
        format!(
            "{{\"id\":{},\"peer\":{},\"age\":{:.1},\"questions\":{},\"answers\":{},\
             \"exports\":{},\"imports\":{},\"queuedBytes\":{},\"heldBack\":{},\"objects\":{}}}",
            connection.id,
            quoted(&connection.peer.address),
            connection.age.as_secs_f64(),
            tables.questions,
            tables.answers,
            tables.exports,
            tables.imports,
            tables.queued_bytes,
            tables.held_back,
            list(objects),
        )
    });
    let counts = counts.0.lock().map(|counts| counts.clone()).unwrap_or_default();
    let methods = counts.iter().map(|(method, count)| {
        format!(
            "{{\"method\":{},\"calls\":{},\"failures\":{},\"underWay\":{},\"seconds\":{:.6}}}",
            quoted(method),
            count.calls,
            count.failures,
            count.under_way,
            count.seconds,
        )
    });
    format!(
        "{{\"vat\":{},\"seconds\":{:.3},\"workers\":{},\"idleWorkers\":{},\"waitingJobs\":{},\
         \"connections\":{},\"methods\":{}}}",
        quoted(&snapshot.name),
        since.elapsed().as_secs_f64(),
        snapshot.workers,
        snapshot.idle_workers,
        snapshot.waiting_jobs,
        list(connections),
        list(methods),
    )
}

/// Answers browsers until the process ends.
fn serve(vat: &Vat, counts: &Counts) -> Result<()> {
    let since = Instant::now();
    let pages = Server::http("127.0.0.1:0")
        .map_err(|error| Error::failed(format!("the page cannot be served: {error}")))?;
    println!("ready http://{}/", pages.server_addr());
    for request in pages.incoming_requests() {
        let (kind, body) = match request.url() {
            "/" => ("text/html; charset=utf-8", PAGE.to_owned()),
            "/data" => ("application/json", data(vat, counts, since)),
            _ => {
                request.respond(Response::empty(404))?;
                continue;
            }
        };
        let kind = Header::from_bytes("Content-Type", kind)
            .map_err(|()| Error::failed("a header is malformed"))?;
        // A browser that has gone is not missed.
        let _ = request.respond(Response::from_string(body).with_header(kind));
    }
    Ok(())
}

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

    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        let response = params.get()?.get_guest()?.name_request().call()?;
        let name = response.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Good evening, {name}."));
        Ok(())
    }
}

struct Grace;

impl guest::Server for Grace {
    fn name(&self, _: guest::NameParams, mut results: guest::NameResults) -> Result<()> {
        results.get().set_name("Grace");
        Ok(())
    }
}

/// Keeps a server busy.
fn visit(address: std::net::SocketAddr, pause: Duration) -> Result<()> {
    let vat = Vat::new();
    let connection = vat.connect(tcp::connect(address)?, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    for number in 0_u64.. {
        match number % 4 {
            0 => {
                let mut request = greeter.greet_guest_request();
                request.get().set_guest(vat.export_named("Grace, a guest", Grace));
                request.call()?;
            }
            // One that fails.
            1 => drop(greeter.greet_request().call()),
            _ => {
                let mut request = greeter.greet_request();
                request.get().set_name("Ada");
                request.call()?;
            }
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

fn main() -> Result<()> {
    let counts = Counts::default();
    let mut config = VatConfig::default();
    config.name = "greeter".into();
    config.interceptors = Interceptors::new().incoming(counts.clone()).outgoing(counts.clone());
    let vat = Vat::with_config(config)?;
    let greeter: greeter::Client = vat.export_named("the greeter", Greeter);
    let listener = tcp::Listener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serving = vat.clone();
    std::thread::spawn(move || serving.serve(&listener, ServeConfig::bootstrap(greeter)));
    for pause in [3, 20] {
        std::thread::spawn(move || visit(address, Duration::from_millis(pause)));
    }
    serve(&vat, &counts)
}
