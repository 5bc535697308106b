//! The values that the schemas prescribe.

use capnp_threads_core::capnp::message::{Builder, HeapAllocator};
use capnp_threads_core::{Error, Result};
use rpc_schema::test_capnp::test_all_types;
use rpc_schema::test_values_capnp::FULL_MESSAGE;

/// The full message, in which every field and list is set.
pub fn full_message() -> Result<test_all_types::Reader<'static>> {
    Ok(FULL_MESSAGE.get()?)
}

/// Fails unless this is the full message.
pub fn require_full_message(message: test_all_types::Reader<'_>) -> Result<()> {
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
