//! The time of day may jump, so nothing that waits looks at it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The files that may ask for the time of day, and what for.
const ALLOWED: [(&str, &str); 3] = [
    ("rpc-transport/src/tls/network.rs", "the number of an incarnation, once"),
    ("rpc-endpoint/src/network.rs", "the number of an incarnation, once"),
    ("rpc-transport/src/introducing.rs", "whether a token has expired that another vat has made"),
];

/// Where the sources of what users get are.
const PRODUCT: [&str; 6] = [
    "src",
    "rpc-core/src",
    "rpc-transport/src",
    "rpc-endpoint/src",
    "rpc-persist/src",
    "rpc-cli/src",
];

/// Finds the sources in a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The sources of what users get.
pub(super) fn product(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in PRODUCT {
        files(&root.join(folder), &mut found);
    }
    found
}

#[test]
fn only_what_does_not_wait_knows_the_time_of_day() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = product(root);
    let mut monotonic = 0;
    let mut asks: Vec<String> = Vec::new();
    for path in &found {
        let text = fs::read_to_string(path).unwrap();
        monotonic += usize::from(text.contains("Instant"));
        // A clock of the system's would have to be named in one of these ways.
        let clocks = ["SystemTime", "UNIX_EPOCH", "REALTIME", "Realtime", "gettimeofday"];
        if clocks.iter().any(|clock| text.contains(clock)) {
            asks.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    asks.sort();
    let mut allowed = ALLOWED.map(|(path, _)| path.to_owned());
    allowed.sort();
    assert_eq!(asks, allowed, "these files ask for the time of day");
    assert!(monotonic > 10, "only {monotonic} of {} files use the other clock", found.len());
}
