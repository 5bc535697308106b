//! What several tests need.

/// Whether the schema compiler can be run. If not, the test that asks says so
/// under its name and passes, unless the environment variable `REQUIRE_PEERS`
/// says that everything has to be there.
pub(crate) fn have_compiler(test: &str) -> bool {
    let found = cfg!(feature = "embedded")
        || std::process::Command::new("capnp")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var_os("REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "{test} needs the program capnp, which is not installed"
        );
        println!("{test}: skipped, the program capnp is not installed");
    }
    found
}
