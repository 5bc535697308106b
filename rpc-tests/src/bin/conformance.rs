//! `conformance serve ADDR` and `conformance call ADDR [NAME...]`: this library's
//! side of interoperation, see `peers/README.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    rpc_tests::conformance::main(&arguments)
}
