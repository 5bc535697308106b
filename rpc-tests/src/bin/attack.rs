//! `attack list`, `attack NAME SECONDS` and `attack cases`: peers that want to harm, see
//! `docs/attacks.md`.

use std::process::ExitCode;

use rpc_tests::attacks::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    rpc_tests::attacks::main(&arguments)
}
