//! Why no code was generated.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why no code was generated. Printing it says what to do about it, also with `Debug`,
/// which is how an error is printed that the `main` of a build script returns.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no schema compiler where one was looked for.
    #[error(
        "the Cap'n Proto schema compiler was not found as `{program}`. Install it (Debian and \
         Ubuntu: `apt install capnproto`, Fedora: `dnf install capnproto`, macOS: `brew install \
         capnp`, Windows: `choco install capnproto`), or name its path with \
         `Compiler::capnp_executable`, or enable the feature `embedded` of capnp-threads-codegen, which \
         brings a compiler along"
    )]
    CompilerMissing {
        /// What was looked for.
        program: PathBuf,
    },
    /// The schema compiler could not be run.
    #[error("the schema compiler `{program}` could not be run: {source}")]
    CompilerNotRun {
        /// What was run.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The schema compiler found a mistake.
    #[error("the schema compiler reported:\n{report}")]
    Schema {
        /// What it printed.
        report: String,
    },
    /// A schema file cannot be read.
    #[error("cannot read the schema file {}: {source}", path.display())]
    File {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not known where the generated code should go.
    #[error(
        "there is no folder for the generated code: run this from a build script, where Cargo \
         sets OUT_DIR, or call `Compiler::output_dir`"
    )]
    NoOutputDir,
    /// The generated code cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The schema says something for which there is no Rust code.
    #[error("{element}: {problem}")]
    Unsupported {
        /// The schema element, as `file.capnp:Scope.Name`.
        element: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// What came from the schema compiler is not a request for code.
    #[error("the code generator request cannot be read: {0}")]
    Request(#[from] capnp::Error),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<capnp::NotInSchema> for Error {
    fn from(error: capnp::NotInSchema) -> Self {
        Error::Request(error.into())
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(error: std::str::Utf8Error) -> Self {
        Error::Request(error.into())
    }
}

/// The result of generating code.
pub type Result<T, E = Error> = std::result::Result<T, E>;
