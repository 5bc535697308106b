//! Foreign peers for tests: programs in `peers/` that serve and call the
//! conformance interfaces with other implementations of Cap'n Proto RPC.
//!
//! [`Peer::find`] builds what has to be built and says why a peer is missing. A
//! test that can do without calls [`or_skip`], which prints the peer that was
//! skipped, or fails if the environment has `REQUIRE_PEERS=1`.
//!
//! ```no_run
//! use rpc_tests::peers::{Library, Peer, or_skip};
//!
//! let Some(peer) = or_skip(Peer::Cxx(Library::System).find()) else { return Ok(()) };
//! let serving = peer.serve("127.0.0.1:0")?;
//! // A client of this project's own, connected to serving.address()…
//! let report = peer.call(serving.address(), &[])?;
//! report.require_success();
//! # Ok::<(), std::io::Error>(())
//! ```

mod cxx;
mod cxx_v2;
mod find;
mod process;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

pub use cxx::{Installed, Library};
pub use cxx_v2::cxx_v2;
pub use process::{Line, Report, Serving, Verdict};

/// A peer, by what it is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// C++, with one of its libraries.
    Cxx(Library),
    /// Python, with pycapnp.
    Pycapnp,
    /// Rust, with the `capnp-rpc` crate.
    CapnpRpc,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cxx(library) => write!(f, "C++ peer with {library}"),
            Self::Pycapnp => f.write_str("pycapnp peer"),
            Self::CapnpRpc => f.write_str("capnp-rpc peer"),
        }
    }
}

/// A peer that this machine can run.
#[derive(Clone, Debug)]
pub struct Program {
    peer: Peer,
    command: Vec<OsString>,
}

/// Something that a test could not find, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    what: String,
    why: String,
}

impl Missing {
    /// Says that `what` is missing because of `why`.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What was found, or none after it was named on the standard error.
///
/// # Panics
/// With `REQUIRE_PEERS=1` in the environment, if it is missing.
#[track_caller]
pub fn or_skip<T>(found: Result<T, Missing>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(missing) => {
            let required = std::env::var_os("REQUIRE_PEERS").is_some_and(|value| value == "1");
            assert!(!required, "REQUIRE_PEERS=1, but missing: {missing}");
            eprintln!("skipped: {missing}");
            None
        }
    }
}

/// The `capnp` tool, for tests that compile schemas.
///
/// # Errors
/// [`Missing`] if it cannot be run.
pub fn schema_compiler() -> Result<Command, Missing> {
    find::run(Command::new("capnp").arg("--version"))
        .map(|_| Command::new("capnp"))
        .map_err(|why| Missing::new("capnp", format!("not installed ({why})")))
}

/// The C++ program of `peers/cxx-extras`, which shows what is not among the
/// conformance behaviours. Blocks while it builds.
///
/// # Errors
/// [`Missing`] as for [`Peer::find`].
pub fn cxx_extras(library: Library) -> Result<Command, Missing> {
    static PROGRAM: cxx::Program = cxx::Program::new("cxx-extras", "peer");
    PROGRAM.command(library)
}

/// The C++ program of `peers/cxx-calculator`. Blocks while it builds.
///
/// # Errors
/// [`Missing`] as for [`Peer::find`].
pub fn cxx_calculator(library: Library) -> Result<Command, Missing> {
    static PROGRAM: cxx::Program = cxx::Program::new("cxx-calculator", "calculator");
    PROGRAM.command(library)
}

/// The folder of the `.capnp` files.
pub fn schema_folder() -> PathBuf {
    find::workspace().join("schema")
}

impl Peer {
    /// Every peer.
    pub const ALL: [Self; 4] =
        [Self::Cxx(Library::System), Self::Cxx(Library::Wheel), Self::Pycapnp, Self::CapnpRpc];

    /// Locates the peer's program, after building it if that is needed. Blocks
    /// while it builds, once per process.
    ///
    /// # Errors
    /// [`Missing`] with what is not installed, or with the end of a compiler's
    /// complaints.
    pub fn find(self) -> Result<Program, Missing> {
        static CXX: cxx::Program = cxx::Program::new("cxx", "peer");
        static PYCAPNP: OnceLock<Result<Vec<OsString>, String>> = OnceLock::new();
        static CAPNP_RPC: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let alone = |program: PathBuf| vec![program.into()];
        let found = match self {
            Self::Cxx(library) => CXX.find(library).map(alone),
            Self::Pycapnp => PYCAPNP.get_or_init(find::pycapnp).clone(),
            Self::CapnpRpc => CAPNP_RPC.get_or_init(find::build_capnp_rpc).clone().map(alone),
        };
        found
            .map(|command| Program { peer: self, command })
            .map_err(|why| Missing::new(self.to_string(), why))
    }
}

impl Program {
    /// Which peer this is.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The program with its own arguments, to which `serve ADDR` or `call ADDR`
    /// are to be added.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    /// Starts a server on `host:port` (port 0 picks one) or `unix:/path`, and
    /// blocks until it listens.
    ///
    /// # Errors
    /// If it cannot be started or does not come to listen; the error has what it
    /// printed.
    pub fn serve(&self, address: &str) -> io::Result<Serving> {
        let mut command = self.command();
        command.args(["serve", address]);
        Serving::start(command)
    }

    /// Runs the client against a server, with the behaviours of these names, or
    /// with all if there are none. Blocks until it is done.
    ///
    /// # Errors
    /// If the client cannot be started or hangs.
    pub fn call(&self, address: &str, names: &[&str]) -> io::Result<Report> {
        let mut command = self.command();
        command.args(["call", address]).args(names);
        Report::of(command)
    }
}
