//! `soak`: many threads on many connections for as long as one likes, see `soak --help`.

use std::process::ExitCode;

use rpc_tests::attacks::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    rpc_tests::soak::main(&arguments)
}
