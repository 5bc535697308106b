//! The object that peers attack.

use capnp_threads_core::untyped::{IncomingCall, Payload, PayloadBuilder, promise};
use capnp_threads_core::{Client, Concurrency, Error, FromClient, Result, Vat};
use rpc_schema::test_capnp::test_interface;

use crate::support::Event;
use crate::support::objects::{Keeper, any, foo_request};
use crate::support::raw::pointer_to_first;

/// What the object does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Method {
    /// Answers at once.
    Answer,
    /// Keeps its worker until the call is cancelled, and waits for nothing that the
    /// library knows.
    Hold,
    /// Is passed on to a promise that nobody ever resolves.
    Keep,
    /// Calls the first capability of the parameters, and waits for that.
    CallBack,
    /// Passes the call on to the first capability of the parameters.
    Pass,
    /// Returns a new object.
    Give,
    /// Returns the parameters' capabilities.
    Return,
    /// Returns 64 KiB.
    Large,
    /// Takes an item of a stream.
    Stream,
    /// Returns a promise that nobody ever resolves.
    Promise,
    /// Returns a new object that reads the parameters of its calls.
    Typed,
}

const METHODS: [Method; 11] = [
    Method::Answer,
    Method::Hold,
    Method::Keep,
    Method::CallBack,
    Method::Pass,
    Method::Give,
    Method::Return,
    Method::Large,
    Method::Stream,
    Method::Promise,
    Method::Typed,
];

/// What [`Method::Large`] returns, in bytes.
pub(super) const LARGE: usize = 64 << 10;

/// An object that may be called like this, and does not live longer than it is held.
pub(super) fn target(vat: &Vat, concurrency: Concurrency) -> Client {
    watched_target(vat, concurrency, |_| ())
}

/// As [`target`], and tells of each call before anything comes of it.
pub(super) fn watched_target(
    vat: &Vat,
    concurrency: Concurrency,
    watch: impl Fn(&IncomingCall) + Send + Sync + 'static,
) -> Client {
    let (never, fulfiller) = promise();
    let own = vat.clone();
    any(vat, concurrency, move |call| {
        watch(&call);
        // The promise stays open as long as the object lives.
        let _ = &fulfiller;
        match METHODS.get(usize::from(call.method_id())) {
            Some(Method::Answer) => call.respond(Ok(Payload::empty().clone())),
            Some(Method::Hold) => hold(call),
            Some(Method::Keep) => call.forward(&never),
            Some(Method::CallBack) => {
                let outcome = call_back(&call);
                call.respond(outcome);
            }
            Some(Method::Pass) => match call.params().caps().first().cloned() {
                Some(first) => call.forward(&first),
                None => call.respond(Err(Error::failed("nothing to pass the call on to"))),
            },
            Some(Method::Give) => {
                let given = any(&own, Concurrency::Serial, |call| {
                    call.respond(Ok(Payload::empty().clone()));
                });
                call.respond(Ok(returned(vec![given])));
            }
            Some(Method::Return) => {
                let caps = call.params().caps().to_vec();
                call.respond(Ok(returned(caps)));
            }
            Some(Method::Promise) => call.respond(Ok(returned(vec![never.clone()]))),
            Some(Method::Typed) => call.respond(Ok(returned(vec![Keeper::client(&own)]))),
            Some(Method::Large) => call.respond(Ok(large())),
            Some(Method::Stream) => call.respond_streaming(Ok(())),
            None => call.respond(Err(Error::unimplemented("there is no such method"))),
        }
    })
}

/// Results with these capabilities, the first of which is in a field.
fn returned(caps: Vec<Client>) -> Payload {
    let mut results = PayloadBuilder::for_results();
    pointer_to_first(results.content());
    results.finish(caps)
}

fn hold(call: IncomingCall) {
    let cancelled = Event::new();
    let told = cancelled.clone();
    call.on_cancel(move || told.set());
    cancelled.wait();
    call.respond(Err(Error::failed("the call was cancelled")));
}

fn call_back(call: &IncomingCall) -> Result<Payload> {
    let first = call.params().caps().first().cloned();
    let first = first.ok_or_else(|| Error::failed("nobody to call back"))?;
    foo_request(&test_interface::Client::from_client(first)).call()?;
    Ok(Payload::empty().clone())
}

fn large() -> Payload {
    let mut results = PayloadBuilder::for_results();
    let data = results.content().initn_as::<capnp_threads_core::capnp::data::Builder<'_>>(
        u32::try_from(LARGE).unwrap_or(u32::MAX),
    );
    data.fill(1);
    results.finish(Vec::new())
}
