//! Tests that need a process of their own.

use std::env;
use std::process::Command;

/// Tells the other process which test it is there for.
const VARIABLE: &str = "RPC_TESTS_ALONE";

/// Whether this process is there for this test alone. If it is not, runs the test in
/// such a process, and panics if it fails there.
///
/// For a test that counts what belongs to its process, or changes it: it returns at
/// once where this returns `false`. The name is the test's full one, as `cargo test`
/// prints it.
#[must_use = "only the other process is to run the test"]
pub fn alone(test: &str) -> bool {
    if env::var_os(VARIABLE).is_some_and(|name| name == test) {
        return true;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    // With a wrong name nothing is run, and nothing fails.
    if !output.status.success() || !stdout.contains("1 passed") {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{test}, in a process of its own: {}\n{stdout}\n{stderr}", output.status);
    }
    false
}
