//! The example does what it says. Cargo builds it along with the tests of this
//! package; with `--test example` alone it does not.
#![cfg(all(target_os = "linux", feature = "redb"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

#[test]
fn persistent_object() {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(std::path::Path::parent).unwrap();
    let example = profile.join("examples/persistent_object");
    assert!(example.exists(), "build the example: cargo build -p capnp-threads-persist --examples");
    let output = Command::new(example).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = "\
        Good evening, Grace!\n\
        saved; the server is killed\n\
        Good evening, Grace!\n\
        revoked: there is no such reference, or it is sealed for somebody else\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
