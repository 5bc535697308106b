//! Messages that become part of the code: schemas, defaults and constants.

use std::fmt::Write;

use capnp::any_pointer;
use capnp::message::{Builder, HeapAllocator};
use capnp::schema_capnp::node;
use capnp::traits::{Owned, SetterInput};

use super::Emitter;
use super::code::line;
use crate::error::Result;

/// The size in bytes above which a message goes into a file of its own, because compilers
/// take long to read so many numbers.
const MAX_IN_CODE: usize = 16 << 10;

impl Emitter<'_> {
    /// An expression for the words of a declaration: an array.
    ///
    /// What only newer schema compilers know is cut off, so that the code is the same
    /// with all of them.
    pub(super) fn node_words(&mut self, node: node::Reader<'_>) -> Result<String> {
        let mut message = Builder::new_default();
        let mut list = message.initn_root::<capnp::struct_list::Builder<'_, node::Owned>>(1);
        list.set_with_caveats(0, node)?;
        let nodes = message.get_root_as_reader::<capnp::struct_list::Reader<'_, node::Owned>>()?;
        let node = nodes.get(0);
        let words = node.total_size()?.word_count;
        self.message_words::<node::Owned>(node, words)
    }

    /// An expression for the words of a value.
    pub(super) fn value_words(&mut self, value: any_pointer::Reader<'_>) -> Result<String> {
        let words = value.target_size()?.word_count;
        self.message_words::<any_pointer::Owned>(value, words)
    }

    fn message_words<T: Owned>(&mut self, value: impl SetterInput<T>, size: u64) -> Result<String> {
        // One segment, with the pointer to its root.
        let size = u32::try_from(size + 1).unwrap_or(u32::MAX);
        let allocator = HeapAllocator::new().first_segment_words(size);
        let mut message = Builder::new(allocator);
        message.set_root::<T>(value)?;
        let segments = message.get_segments_for_output();
        let bytes = segments.first().copied().unwrap_or_default();
        if bytes.len() > MAX_IN_CODE {
            let file = self.include(bytes);
            let words = bytes.len() / 8;
            return Ok(format!("__rt::words_of_bytes::<{words}>(include_bytes!({file:?}))"));
        }
        let mut text = String::from("__rt::words([");
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            let word = word.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            let separator = if index > 0 { ", " } else { "" };
            // Writing to a string does not fail.
            let _ = match word {
                0..10 => write!(text, "{separator}{word}"),
                _ => write!(text, "{separator}{word:#x}"),
            };
        }
        text.push_str("])");
        Ok(text)
    }

    /// Prints a static with the words of a message.
    pub(super) fn words_static(&mut self, name: &str, words: &str) {
        if words.contains("include_bytes!") {
            line!(self.code, "#[allow(long_running_const_eval)]");
        }
        line!(self.code, "static {name}: &[__rt::Word] = &{words};");
    }

    /// An expression for bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> String {
        if bytes.len() > MAX_IN_CODE {
            return format!("include_bytes!({:?})", self.include(bytes));
        }
        format!("b\"{}\"", bytes.escape_ascii())
    }

    /// An expression for text.
    pub(super) fn text(&mut self, text: &str) -> String {
        if text.len() > MAX_IN_CODE {
            return format!("include_str!({:?})", self.include(text.as_bytes()));
        }
        format!("{text:?}")
    }
}
