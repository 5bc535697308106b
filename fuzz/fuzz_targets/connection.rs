#![no_main]

use rpc_tests::attacks::memory::Counting;
use rpc_tests::fuzzed::{bounded, connection};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(init: connection(&[0]), |bytes: &[u8]| bounded(connection, bytes));
