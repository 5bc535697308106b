#![no_main]

use rpc_tests::attacks::memory::Counting;
use rpc_tests::fuzzed::{bounded, endpoint};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(init: endpoint(&[0]), |bytes: &[u8]| bounded(endpoint, bytes));
