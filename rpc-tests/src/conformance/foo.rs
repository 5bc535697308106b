//! The calls and values that both sides know.

use capnp_threads_core::capnp::message::{Builder, HeapAllocator};
use capnp_threads_core::{Error, Promise, Response, Result};
use rpc_schema::test_capnp::{test_all_types, test_interface};
use rpc_schema::test_values_capnp::FULL_MESSAGE;

pub(super) type FooPromise = Promise<test_interface::foo_results::Owned>;
pub(super) type FooResponse = Response<test_interface::foo_results::Owned>;

/// Calls `foo` as every `TestInterface` but `TestExtends` wants it.
pub(super) fn send_foo(object: &test_interface::Client) -> FooPromise {
    let mut request = object.foo_request();
    let mut params = request.get();
    params.set_i(123);
    params.set_j(true);
    request.send()
}

/// Calls `foo` as `TestExtends` wants it.
pub(super) fn send_extends_foo(object: &test_interface::Client) -> FooPromise {
    let mut request = object.foo_request();
    let mut params = request.get();
    params.set_i(321);
    params.set_j(false);
    request.send()
}

/// What the answer to one of the calls above must say.
pub(super) fn require_x(response: &FooResponse, expected: &str) -> Result<()> {
    let x = response.get()?.get_x()?;
    if x == expected {
        return Ok(());
    }
    Err(Error::failed(format!("foo returned {x:?}, not {expected:?}")))
}

/// The full message, in which every field and list is set.
pub(super) fn full_message() -> Result<test_all_types::Reader<'static>> {
    Ok(FULL_MESSAGE.get()?)
}

/// Fails unless this is the full message.
pub(super) fn require_full_message(message: test_all_types::Reader<'_>) -> Result<()> {
    // Not a number differs from itself, so the encodings are compared.
    if canonical(message)? == canonical(full_message()?)? {
        return Ok(());
    }
    Err(Error::failed("this is not the full message"))
}

fn canonical(message: test_all_types::Reader<'_>) -> Result<Vec<u8>> {
    // The canonical form is one segment: the content, and the pointer to it.
    let words = message.total_size()?.word_count + 1;
    let words = u32::try_from(words).map_err(|_| Error::failed("the message is too large"))?;
    let mut builder = Builder::new(HeapAllocator::new().first_segment_words(words));
    builder.set_root_canonical(message)?;
    Ok(builder.get_segments_for_output().concat())
}
