//! `TestInterface`, and calls of its `foo`.

use capnp_threads_core::{Concurrency, Error, Promise, Request, Response, Result, Vat};
use rpc_schema::test_capnp::test_interface;

use super::require_full_message;
use crate::support::Census;

/// What is known of an answer of `foo` before it is there.
pub type FooPromise = Promise<test_interface::foo_results::Owned>;
/// An answer of `foo`.
pub type FooResponse = Response<test_interface::foo_results::Owned>;

/// Does what the schema says.
#[derive(Debug)]
pub struct Interface;

impl test_interface::Server for Interface {
    fn foo(
        &self,
        params: test_interface::FooParams,
        results: test_interface::FooResults,
    ) -> Result<()> {
        answer_foo(params, results)
    }

    fn baz(&self, params: test_interface::BazParams, _: test_interface::BazResults) -> Result<()> {
        require_full_message(params.get()?.get_s()?)
    }
}

/// The answer that the schema prescribes for `foo`.
pub fn answer_foo(
    params: test_interface::FooParams,
    mut results: test_interface::FooResults,
) -> Result<()> {
    let params = params.get()?;
    if (params.get_i(), params.get_j()) != (123, true) {
        return Err(Error::failed("foo takes 123 and true"));
    }
    results.get().set_x("foo");
    Ok(())
}

/// An object whose `foo` is a closure, and which may hold what else is to live
/// as long as it does.
pub struct Foo<F, H = ()> {
    foo: F,
    _held: H,
}

impl<F> Foo<F> {
    /// One with this `foo`.
    pub fn new(foo: F) -> Self {
        Foo { foo, _held: () }
    }
}

impl<F, H> test_interface::Server for Foo<F, H>
where
    F: Fn(test_interface::FooParams, test_interface::FooResults) -> Result<()>
        + Send
        + Sync
        + 'static,
    H: Send + Sync + 'static,
{
    fn foo(
        &self,
        params: test_interface::FooParams,
        results: test_interface::FooResults,
    ) -> Result<()> {
        (self.foo)(params, results)
    }
}

/// An object of `vat` with this `foo`, one call at a time.
pub fn foo<F>(vat: &Vat, method: F) -> test_interface::Client
where
    F: Fn(test_interface::FooParams, test_interface::FooResults) -> Result<()>
        + Send
        + Sync
        + 'static,
{
    foo_with(vat, Concurrency::Serial, (), method)
}

/// As [`foo`](fn@foo), which owns something and has a choice of concurrency.
pub fn foo_with<F, H>(
    vat: &Vat,
    concurrency: Concurrency,
    held: H,
    method: F,
) -> test_interface::Client
where
    F: Fn(test_interface::FooParams, test_interface::FooResults) -> Result<()>
        + Send
        + Sync
        + 'static,
    H: Send + Sync + 'static,
{
    vat.export_with(Foo { foo: method, _held: held }, concurrency)
}

/// An object that answers `foo` as the schema says and is counted while it
/// lives.
pub fn plain(vat: &Vat, census: &Census) -> test_interface::Client {
    foo_with(vat, Concurrency::Serial, census.count(), answer_foo)
}

/// A call of `foo` as the schema wants it.
pub fn foo_request(
    client: &test_interface::Client,
) -> Request<test_interface::foo_params::Owned, test_interface::foo_results::Owned> {
    let mut request = client.foo_request();
    request.get().set_i(123);
    request.get().set_j(true);
    request
}

/// Calls `foo` and waits for the right answer.
pub fn call_foo(client: &test_interface::Client) -> Result<()> {
    require_x(&foo_request(client).call()?, "foo")
}

/// Fails unless `foo` returned this text.
pub fn require_x(response: &FooResponse, expected: &str) -> Result<()> {
    let x = response.get()?.get_x()?;
    if x == expected {
        return Ok(());
    }
    Err(Error::failed(format!("foo returned {x:?}, not {expected:?}")))
}
