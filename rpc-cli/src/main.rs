//! The program `capnp-threads`. What it does is in the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    capnp_threads_cli::main()
}
