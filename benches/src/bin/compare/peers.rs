//! Who is compared, and how each is built.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use benches::Result;
use benches::figures::Figure;
use benches::within::Within;
use rpc_tests::peers::Library;

/// How an implementation is started: programs with their first arguments, which
/// take an address next.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) server: Vec<String>,
    pub(crate) client: Vec<String>,
    /// Which figures it takes between processes.
    pub(crate) figures: fn(Figure) -> bool,
    /// Takes figures within a process, without an address.
    pub(crate) within: Option<(Vec<String>, &'static [Within])>,
}

impl Peer {
    fn new(
        name: &str,
        program: &Path,
        [server, client]: [&str; 2],
        within: Option<(&str, &'static [Within])>,
    ) -> Self {
        let command = |role: &str| vec![program.to_string_lossy().into_owned(), role.to_owned()];
        Peer {
            name: name.to_owned(),
            server: command(server),
            client: command(client),
            figures: |_| true,
            within: within.map(|(role, figures)| (command(role), figures)),
        }
    }
}

const OURS: &str = "ours";
const INLINE: &str = "inline";
const RAW: &str = "raw";
const CAPNP_RPC: &str = "capnp-rpc";
/// With the system's library.
const CXX: &str = "c++";
/// With the wheel's.
const CXX_WHEEL: &str = "c++-wheel";
/// What one would take instead, with threads or a runtime. It takes some minutes to
/// build them.
const ALTERNATIVES: [&str; 3] = ["ttrpc", "tonic", "tarpc"];
const ALL: [&str; 6] = [OURS, INLINE, RAW, CAPNP_RPC, CXX, CXX_WHEEL];

/// Builds those of these names in release, or all that can be built here but the
/// alternatives.
pub(crate) fn build(names: &[String]) -> Result<Vec<Peer>> {
    let known = [&ALL[..], &ALTERNATIVES].concat();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no peer {unknown}; there are {}", known.join(", ")).into());
    }
    let optional = names.is_empty();
    let names: Vec<&str> =
        if optional { ALL.to_vec() } else { names.iter().map(String::as_str).collect() };
    let places = Places::find()?;
    let mut peers = Vec::new();
    for name in names {
        match places.build(name) {
            Ok(peer) => peers.push(peer),
            Err(error) if optional && [CXX, CXX_WHEEL].contains(&name) => {
                eprintln!("without {name}: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(peers)
}

struct Places {
    package: &'static Path,
    target: PathBuf,
}

impl Places {
    fn find() -> Result<Self> {
        // This program is target/PROFILE/compare.
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(2).ok_or("this program is not in a target folder")?;
        Ok(Places { package: Path::new(env!("CARGO_MANIFEST_DIR")), target: target.to_owned() })
    }

    fn build(&self, name: &str) -> Result<Peer> {
        Ok(match name {
            OURS => {
                let within: (_, &[_]) = ("within", &Within::ALL);
                Peer::new(
                    OURS,
                    &self.cargo("benches", "load", &[])?,
                    ["server", "client"],
                    Some(within),
                )
            }
            INLINE => {
                let program = self.cargo("benches", "load", &[])?;
                Peer::new(INLINE, &program, ["inline-server", "client"], None)
            }
            RAW => {
                let program = self.cargo("benches", "load", &[])?;
                let within: (_, &[_]) = ("raw-within", &[Within::Endpoint]);
                Peer::new(RAW, &program, ["raw-server", "raw-client"], Some(within))
            }
            CAPNP_RPC => {
                let program = self.cargo("benches-peer-capnp-rpc", "bench-capnp-rpc", &[])?;
                Peer::new(CAPNP_RPC, &program, ["server", "client"], None)
            }
            name if ALTERNATIVES.contains(&name) => {
                let program = format!("bench-{name}");
                let features = ["--features", name];
                let program = self.cargo("benches-peer-alternatives", &program, &features)?;
                let peer = Peer::new(name, &program, ["server", "client"], None);
                // They have no calls on results that are still to come.
                Peer { figures: |figure| figure != Figure::Chain, ..peer }
            }
            _ => {
                let library = if name == CXX { Library::System } else { Library::Wheel };
                let (name, program) = self.make(library)?;
                let within: (_, &[_]) = ("within", &[Within::Local, Within::TwoVats]);
                Peer::new(&name, &program, ["server", "client"], Some(within))
            }
        })
    }

    fn cargo(&self, package: &str, program: &str, options: &[&str]) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(self.package);
        command.args(["build", "--quiet", "--release", "--package", package, "--bin", program]);
        command.args(options);
        command.arg("--target-dir").arg(&self.target);
        succeed(&mut command)?;
        Ok(self.target.join("release").join(program))
    }

    /// Builds the C++ peer with a library, and names it after the library's version.
    fn make(&self, library: Library) -> Result<(String, PathBuf)> {
        let library = library.find().map_err(|missing| missing.to_string())?;
        let minor = library.version.rsplit_once('.').map_or(&*library.version, |(minor, _)| minor);
        let name = format!("C++ {minor}");
        // Two libraries may call themselves by the same version.
        let mut hasher = DefaultHasher::new();
        library.make_argument.hash(&mut hasher);
        let folder = format!("bench-peers-{}-{:x}", library.version, hasher.finish());
        let folder = self.target.join(folder);
        let mut command = Command::new("make");
        command.arg("--silent").arg("-C").arg(self.package.join("peers/cxx"));
        command.arg(format!("OUT={}", folder.display())).args(library.make_argument);
        succeed(&mut command)?;
        Ok((name, folder.join("bench")))
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status.map_err(|error| format!("{program} could not be run: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("{program} failed: {status}").into()),
    }
}
