//! From a code generator request to Rust files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use capnp::schema_capnp::code_generator_request;

use crate::emit;
use crate::error::{Error, Result};
use crate::names;
use crate::request::{self, display_name};
use crate::schema::Schema;
use crate::settings::Settings;

/// One generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeneratedFile {
    /// Its path below the output folder. It is that of the schema below its prefix, with
    /// `foo.capnp` as `foo_capnp.rs`.
    pub path: PathBuf,
    /// Its content.
    pub code: String,
    /// Files in the same folder that the code includes, by their names: constants that
    /// are too large to be written as code.
    pub included: Vec<(String, Vec<u8>)>,
}

impl GeneratedFile {
    /// Writes the file below `folder`, with those that it includes. A file that is
    /// there already with the same content is left alone, because build tools look at
    /// the time of the last change.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(&self.path);
        write(&path, self.code.as_bytes())?;
        for (name, content) in &self.included {
            write(&path.with_file_name(name), content)?;
        }
        Ok(())
    }
}

/// Writes a file, unless it is up to date.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, content).map_err(failed)
}

/// Generates code for a `CodeGeneratorRequest` in the form in which the schema
/// compiler passes it to its plugins.
pub(crate) fn generate(request: &[u8], settings: &Settings) -> Result<Vec<GeneratedFile>> {
    let message = request::read(request)?;
    let request = message.get_root::<code_generator_request::Reader<'_>>()?;
    let schema = Schema::new(request, settings)?;
    let mut schemas: HashMap<PathBuf, u64> = HashMap::new();
    let mut generated = Vec::new();
    for file in request.get_requested_files()? {
        let (id, name) = (file.get_id(), file.get_filename()?.to_str()?);
        let module = names::file_module(name);
        let path = Path::new(name).with_file_name(format!("{module}.rs"));
        if let Some(&other) = schemas.get(&path) {
            return Err(Error::Unsupported {
                element: display_name(schema.node(id)?),
                problem: format!(
                    "its code would be written to {}, and so would that of {}; rename one of the \
                     two files",
                    path.display(),
                    display_name(schema.node(other)?)
                ),
            });
        }
        let (code, included) = emit::file(&schema, id, &module)?;
        schemas.insert(path.clone(), id);
        generated.push(GeneratedFile { path, code, included });
    }
    Ok(generated)
}
