#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| capnp_threads_cli::fuzzed::recording(bytes));
