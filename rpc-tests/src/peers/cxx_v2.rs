//! The peer in C++ with the library's branch v2, which no package has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::find::{hash_of_files, package, run};
use super::{Missing, cxx, schema_folder};

/// The C++ program of `peers/cxx-v2`, a vat that knows level 3 of the protocol. It needs the
/// sources of Cap'n Proto's branch v2, in the folder that `CAPNP_V2_SRC` names in the
/// environment, and Clang. Blocks while it builds, which takes minutes the first time.
///
/// `None` if the variable is not set, after that was said on the standard error: nothing that
/// can be installed has these sources, so nobody is required to have them.
///
/// # Errors
/// [`Missing`] if it does not build.
pub fn cxx_v2() -> Option<Result<Command, Missing>> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let Some(sources) = std::env::var_os("CAPNP_V2_SRC") else {
        eprintln!(
            "skipped: C++ with the branch v2: CAPNP_V2_SRC does not say where its sources are"
        );
        return None;
    };
    let built = BUILT.get_or_init(|| build(Path::new(&sources))).clone();
    Some(built.map(Command::new).map_err(|why| Missing::new("C++ with the branch v2", why)))
}

/// Clang, by the first of its names that there is. The library's branch takes no other compiler.
fn find_clang() -> Result<(String, String), String> {
    let names = (19..30).rev().map(|version| format!("clang++-{version}"));
    let version = |name: String| {
        let version = run(Command::new(&name).arg("--version")).ok()?;
        Some((name, version))
    };
    let given = std::env::var("CLANG").ok();
    let found = given.into_iter().chain(names).find_map(version);
    found.ok_or_else(|| "Clang 19 or later is not installed".to_owned())
}

fn build(sources: &Path) -> Result<PathBuf, String> {
    let (clang, version) = find_clang()?;
    let folder = package().join("peers/cxx-v2");
    let make = |folder: &Path| {
        let mut make = Command::new("make");
        make.env("CXX", &clang).current_dir(folder);
        make.arg(format!("CAPNP_V2_SRC={}", sources.display()));
        make
    };
    let code = sources.join("c++/src");
    let of_library = folder.join("library");
    let files: [&Path; 4] = [
        &of_library,
        &code.join("kj"),
        &code.join("capnp"),
        &code.join("capnp/compiler/capnpc-c++.c++"),
    ];
    let hash = hash_of_files(&files, &version)
        .map_err(|error| format!("no sources in {}: {error}", code.display()))?;
    let generator =
        cxx::make_in(&format!("capnp-v2-{hash:016x}"), "capnpc-c++", make(&of_library))?;
    let library = generator.parent().unwrap_or(&generator);

    let files: [&Path; 2] = [&folder, &schema_folder().join("party.capnp")];
    let hash = hash_of_files(&files, &format!("{hash:x}")).map_err(|error| error.to_string())?;
    let mut make = make(&folder);
    make.arg(format!("LIBRARY={}", library.display()));
    cxx::make_in(&format!("cxx-v2-{hash:016x}"), "peer", make)
}
