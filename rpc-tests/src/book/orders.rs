//! Nothing rests on the order in which threads see what is weaker than `SeqCst`.
//!
//! The models of the threads try every order of their operations, and no effects of weak
//! memory. So what they find is all there is only while every atomic on which something rests
//! is sequentially consistent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use super::clocks::product;

/// The lines that use a weaker order: how often, and why nothing rests on it.
const ALLOWED: [(&str, &str, usize, &str); 12] = [
    ("rpc-core/src/runtime/vat.rs", "next_connection", 1, UNIQUE),
    ("rpc-core/src/work/origin.rs", "LAST.fetch_add", 1, UNIQUE),
    ("rpc-endpoint/src/local.rs", "next_link", 1, UNIQUE),
    ("rpc-endpoint/src/network.rs", "tickets", 1, UNIQUE),
    ("rpc-endpoint/src/vats.rs", "serials", 1, UNIQUE),
    ("rpc-transport/src/network.rs", "clients", 1, UNIQUE),
    ("rpc-transport/src/tls/key_file.rs", "NUMBER", 1, UNIQUE),
    ("rpc-core/src/protocol/incoming/mod.rs", "traffic.received", 1, FOR_PEOPLE),
    ("rpc-core/src/protocol/mod.rs", "traffic.sent", 1, FOR_PEOPLE),
    ("rpc-core/src/protocol/snapshot.rs", "traffic.", 2, FOR_PEOPLE),
    ("rpc-core/src/sync/tally.rs", "Ordering::Release", 5, UNDER_A_LOCK),
    ("rpc-core/src/sync/tally.rs", "Ordering::Acquire", 4, UNDER_A_LOCK),
];

const UNIQUE: &str = "a number that only has to be unique, which adding one to it makes it";
const UNDER_A_LOCK: &str =
    "written under a lock, or once; who does not see it yet does what is right";
const FOR_PEOPLE: &str = "a sum that is shown and decides nothing";

const WEAK: [&str; 4] = ["Relaxed", "AcqRel", "Ordering::Acquire", "Ordering::Release"];

/// What of a file is not a test of its own.
fn before_tests(text: &str) -> &str {
    text.find("\nmod tests {").map_or(text, |end| &text[..end])
}

#[test]
fn nothing_rests_on_a_weak_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = product(root);
    let (mut weak, mut strong) = (Vec::new(), 0);
    for path in &found {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if name.contains("/tests") || name.contains("/models") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for line in before_tests(&text).lines() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            // With an import of the orders themselves, one could stand anywhere.
            assert!(!line.contains("Ordering::{") && !line.contains("Ordering::*"), "{name}");
            strong += line.matches("Ordering::SeqCst").count();
            if WEAK.iter().any(|weak| line.contains(weak)) {
                weak.push((name.clone(), line.trim().to_owned()));
            }
        }
    }
    for (file, words, times, why) in ALLOWED {
        let of_this = |(name, line): &(String, String)| name == file && line.contains(words);
        let there = weak.iter().filter(|&found| of_this(found)).count();
        assert_eq!(there, times, "{file} has {words} weakly ordered so often: {why}");
        weak.retain(|found| !of_this(found));
    }
    assert!(weak.is_empty(), "is there a reason why nothing rests on these? {weak:#?}");
    assert!(strong > 100, "only {strong} strong orders in {} files", found.len());
}
