#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rpc_tests::fuzzed::tls_address(bytes));
