//! Writes the generated code that is committed in this workspace:
//!
//! ```text
//! cargo run -p capnp-threads-codegen --bin regenerate
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use capnp_threads_codegen::{Compiler, Error, GeneratedFile};

/// The schemas whose code is a part of rpc-persist.
const OF_PERSIST: [&str; 2] = ["persistent.capnp", "sturdy.capnp"];

/// The schemas whose code is a part of the root package.
const OF_ROOT: [&str; 4] =
    ["byte-stream.capnp", "description.capnp", "health.capnp", "items.capnp"];

/// The schema whose code is a part of rpc-cli, which speaks with objects of its interface.
/// rpc-schema includes the same code: rpc-cli is published, and cannot depend on it.
const OF_TOOLS: &str = "echo.capnp";

/// The schema whose code is a part of the examples, because it imports one of the root package.
const OF_EXAMPLES: &str = "files.capnp";

fn main() -> Result<(), Error> {
    for (folder, files) in generated()? {
        for file in files {
            file.write(&folder)?;
            println!("{}", folder.join(&file.path).display());
        }
    }
    Ok(())
}

/// Everything that is committed: files, and the folders in which they lie.
pub(crate) fn generated() -> Result<Vec<(PathBuf, Vec<GeneratedFile>)>, Error> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let schemas = workspace.join("schema");
    // The schemas bring what they import along, so that the code does not depend
    // on what is installed.
    let mut compiler = Compiler::new();
    compiler.src_prefix(&schemas).import_path(&schemas).no_standard_import();

    // `capnp-threads` depends on these packages, so their code cannot depend on it.
    compiler.runtime_path("::capnp_threads_core");

    // rpc-core speaks the protocol itself and has no use for typed clients.
    let mut protocol = compiler.clone();
    protocol.messages_only().runtime_path("crate").default_parent_module("wire");
    protocol.file(schemas.join("rpc.capnp")).file(schemas.join("rpc-twoparty.capnp"));

    // What `-> stream` returns is the same for everybody.
    let mut stream = compiler.clone();
    stream.runtime_path("crate").default_parent_module("generated");
    stream.file(schemas.join("stream.capnp"));

    let mut persist = compiler.clone();
    for name in OF_PERSIST {
        persist.file(schemas.join(name));
    }

    let mut root = compiler.clone();
    for name in OF_ROOT {
        root.file(schemas.join(name));
    }

    let mut tools = compiler.clone();
    tools.file(schemas.join(OF_TOOLS));
    let mut recordings = compiler.clone();
    recordings.messages_only().src_prefix(workspace.join("rpc-cli/schema"));
    recordings.file(workspace.join("rpc-cli/schema/recording.capnp"));
    let tools = [tools.generate()?, recordings.generate()?].concat();

    // All other schemas next to it belong to rpc-schema; the protocol's own is there
    // for tests that speak it by hand.
    for path in schema_files(&schemas)? {
        // stream.capnp is what `-> stream` imports, under the name
        // /capnp/stream.capnp; it cannot be compiled under two names.
        let mut others = OF_PERSIST.iter().chain(&OF_ROOT).chain([&OF_TOOLS, &OF_EXAMPLES]);
        let mut elsewhere =
            |name: &OsStr| name == "stream.capnp" || others.any(|other| name == *other);
        if path.file_name().is_some_and(|name| !elsewhere(name)) {
            compiler.file(path);
        }
    }

    // The examples are programs that depend on `capnp-threads`, as those of users do.
    let mut examples = Compiler::new();
    examples.src_prefix(&schemas).import_path(&schemas).no_standard_import();
    examples.file(schemas.join(OF_EXAMPLES));

    let tests = workspace.join("rpc-codegen/tests");
    let mut torture = Compiler::new();
    torture.src_prefix(tests.join("schema")).no_standard_import();
    torture.import_path(tests.join("schema/import")).import_path(&schemas);
    for path in schema_files(&tests.join("schema"))? {
        torture.file(path);
    }
    Ok(vec![
        (workspace.join("rpc-core/src/wire/generated"), protocol.generate()?),
        (workspace.join("rpc-core/src/generated"), stream.generate()?),
        (schemas.join("src/generated"), compiler.generate()?),
        (workspace.join("rpc-persist/src/generated"), persist.generate()?),
        (workspace.join("src/generated"), root.generate()?),
        (workspace.join("rpc-cli/src/generated"), tools),
        (workspace.join("examples/support/generated"), examples.generate()?),
        (tests.join("generated"), torture.generate()?),
    ])
}

fn schema_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "capnp") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
