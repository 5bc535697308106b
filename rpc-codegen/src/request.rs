//! Code generator requests, as the schema compiler writes them.

use std::collections::HashMap;

use capnp::message::ReaderOptions;
use capnp::schema_capnp::{annotation, code_generator_request, node, value};
use capnp::serialize::OwnedSegments;

use crate::error::{Error, Result};
use crate::names;

/// The annotation by which a schema names an element for Rust.
const NAME_ANNOTATION: u64 = 0xc2fe_4c6d_1001_66d0;

/// The annotation by which a file says in which module its code lies.
const PARENT_MODULE_ANNOTATION: u64 = 0xabee_386c_d145_0364;

/// The annotation of pointer fields that are read as `Option`.
const OPTION_ANNOTATION: u64 = 0xabfe_f22c_4ee1_964e;

/// What methods that are declared `-> stream` return.
pub(crate) const STREAM_RESULT: u64 = 0x995f_9a33_77c0_b16e;

/// The file that declares it.
pub(crate) const STREAM_FILE: u64 = 0x86c3_66a9_1393_f3f8;

pub(crate) type Message = capnp::message::Reader<OwnedSegments>;
pub(crate) type Annotations<'a> = capnp::struct_list::Reader<'a, annotation::Owned>;

/// Declarations by their ids.
pub(crate) type Nodes<'a> = HashMap<u64, node::Reader<'a>>;

/// Reads a request. It comes from a program that the user runs, so it may be as
/// large as it likes.
pub(crate) fn read(bytes: &[u8]) -> Result<Message> {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None).nesting_limit(1 << 12);
    Ok(capnp::serialize::read_message(bytes, options)?)
}

pub(crate) fn nodes(request: code_generator_request::Reader<'_>) -> Result<Nodes<'_>> {
    Ok(request.get_nodes()?.iter().map(|node| (node.get_id(), node)).collect())
}

/// What a declaration is called in messages to people: `file.capnp:Scope.Name`, with
/// the file's folder as the schema compiler was given it.
pub(crate) fn display_name(node: node::Reader<'_>) -> String {
    let name = node.get_display_name().ok().and_then(|name| name.to_string().ok());
    name.unwrap_or_else(|| format!("{:#018x}", node.get_id()))
}

/// The same without the folder, which is nothing that running programs should depend on.
pub(crate) fn label(node: node::Reader<'_>) -> String {
    let name = display_name(node);
    let file_ends = name.rfind(':').unwrap_or(name.len());
    match name[..file_ends].rfind('/') {
        Some(slash) => name[slash + 1..].to_owned(),
        None => name,
    }
}

/// The name that the schema's author wants for Rust. `element` says whose annotations
/// these are.
pub(crate) fn rust_name(
    annotations: Annotations<'_>,
    element: impl FnOnce() -> String,
) -> Result<Option<String>> {
    let Some(name) = text(annotations, NAME_ANNOTATION)? else { return Ok(None) };
    if names::is_identifier(&name) {
        return Ok(Some(name));
    }
    Err(Error::Unsupported {
        element: element(),
        problem: format!(
            "`$Rust.name` calls it {name:?}, which is no name in Rust; use letters, digits and \
             single underscores"
        ),
    })
}

/// The modules around the code of a file, if the file names any.
pub(crate) fn parent_module(file: node::Reader<'_>) -> Result<Option<Vec<String>>> {
    let Some(path) = text(file.get_annotations()?, PARENT_MODULE_ANNOTATION)? else {
        return Ok(None);
    };
    let modules: Vec<String> = path.split("::").map(str::to_owned).collect();
    if modules.iter().all(|module| names::is_item(module)) {
        return Ok(Some(modules));
    }
    Err(Error::Unsupported {
        element: display_name(file),
        problem: format!("`$Rust.parentModule` is {path:?}, which is no path to a module"),
    })
}

/// Whether a field is to be read as an `Option`.
pub(crate) fn is_optional(annotations: Annotations<'_>) -> bool {
    annotations.iter().any(|annotation| annotation.get_id() == OPTION_ANNOTATION)
}

fn text(annotations: Annotations<'_>, id: u64) -> Result<Option<String>> {
    for annotation in annotations {
        if annotation.get_id() == id
            && let value::Text(text) = annotation.get_value()?.which()?
        {
            return Ok(Some(text?.to_str()?.to_owned()));
        }
    }
    Ok(None)
}
