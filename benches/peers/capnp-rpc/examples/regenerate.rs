//! Writes the generated code that is committed in this package, with the `capnp`
//! tool that must be installed:
//!
//! ```text
//! cargo run -p benches-peer-capnp-rpc --example regenerate
//! ```

use std::path::Path;

fn main() -> capnp::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schemas = package.join("../../../schema");
    capnpc::CompilerCommand::new()
        .no_standard_import()
        .src_prefix(&schemas)
        .import_path(&schemas)
        .file(schemas.join("echo.capnp"))
        .output_path(package.join("src/generated"))
        .run()
}
