//! A forked child that drops the handle of one of its parent's threads may let go of one of its
//! own, so nothing keeps such a handle but in an `OwnThread`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use super::clocks::product;

/// The files that name handles alone, and why.
const ALLOWED: [(&str, &str); 3] = [
    ("rpc-core/src/sync/model.rs", "shuttle's, in models"),
    ("rpc-cli/src/tap.rs", "a variable of a program that does not fork"),
    ("rpc-transport/src/tls/tests.rs", "a test"),
];

#[test]
fn the_handles_of_threads_know_their_process() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = product(root);
    let mut own = 0;
    let mut alone: Vec<String> = Vec::new();
    for path in found.iter().filter(|path| !path.iter().any(|part| part == "models")) {
        let text = fs::read_to_string(path).unwrap();
        let wrapped = text.matches("OwnThread<JoinHandle<").count();
        own += wrapped;
        if text.matches("JoinHandle<").count() > wrapped {
            alone.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    alone.sort();
    let mut allowed = ALLOWED.map(|(path, _)| path.to_owned());
    allowed.sort();
    assert_eq!(alone, allowed, "these files name handles of threads alone");
    assert!(own > 8, "only {own} handles know their process");
}
