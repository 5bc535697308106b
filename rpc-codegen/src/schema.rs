//! What the generator looks up in a prepared request: declarations, where they
//! lie in Rust, how they are called, and what their authors say about them.

use std::collections::HashMap;

use capnp::schema_capnp::{code_generator_request, field, node, type_};

use crate::error::{Error, Result};
use crate::names;
use crate::naming::{self, Nodes};
use crate::prepare;
use crate::settings::Settings;

/// The annotation by which a file says in which module its code lies.
const PARENT_MODULE_ANNOTATION: u64 = 0xabee_386c_d145_0364;

/// What methods that are declared `-> stream` return.
pub(crate) const STREAM_RESULT: u64 = 0x995f_9a33_77c0_b16e;

/// A prepared request, with what is looked up in it.
pub(crate) struct Schema<'a> {
    pub(crate) nodes: Nodes<'a>,
    /// Where declarations lie in Rust.
    paths: HashMap<u64, Vec<String>>,
    /// How declarations are called in messages to people.
    labels: HashMap<u64, String>,
    docs: HashMap<u64, (String, Vec<String>)>,
    pub(crate) facade: String,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(
        request: code_generator_request::Reader<'a>,
        settings: &Settings,
    ) -> Result<Self> {
        let mut schema = Schema {
            nodes: prepare::nodes(request)?,
            paths: HashMap::new(),
            labels: HashMap::new(),
            docs: HashMap::new(),
            facade: settings.facade(),
        };
        for info in request.get_source_info()? {
            let members = info
                .get_members()?
                .iter()
                .map(|member| Ok(member.get_doc_comment()?.to_str()?.to_owned()))
                .collect::<Result<_>>()?;
            let doc = info.get_doc_comment()?.to_str()?.to_owned();
            schema.docs.insert(info.get_id(), (doc, members));
        }
        let root: Vec<String> =
            std::iter::once("crate".to_owned()).chain(settings.parent_module.clone()).collect();
        for file in request.get_requested_files()? {
            for import in file.get_imports()? {
                let name = import.get_name()?.to_str()?;
                let scope = match settings.crates.get(&import.get_id()) {
                    Some(provider) => vec![format!("::{provider}")],
                    None => root.clone(),
                };
                schema.add_paths(import.get_id(), scope, file_module(name), file_label(name))?;
            }
            let name = file.get_filename()?.to_str()?;
            schema.add_paths(file.get_id(), root.clone(), file_module(name), file_label(name))?;
        }
        schema
            .paths
            .insert(prepare::ANY_CAPABILITY, vec![schema.facade.clone(), "capability".to_owned()]);
        Ok(schema)
    }

    fn add_paths(
        &mut self,
        id: u64,
        mut scope: Vec<String>,
        name: String,
        label: String,
    ) -> Result<()> {
        let Some(&node) = self.nodes.get(&id) else { return Ok(()) };
        let name = naming::annotated(node.get_annotations()?)?.unwrap_or(name);
        for annotation in node.get_annotations()? {
            if annotation.get_id() == PARENT_MODULE_ANNOTATION
                && let capnp::schema_capnp::value::Text(module) = annotation.get_value()?.which()?
            {
                scope.truncate(1);
                scope.extend(module?.to_str()?.split("::").map(str::to_owned));
            }
        }
        scope.push(match node.which()? {
            node::File(()) | node::Enum(_) => name,
            _ => names::module(&name),
        });
        let separator = if let node::File(()) = node.which()? { ':' } else { '.' };
        for nested in node.get_nested_nodes()? {
            let name = nested.get_name()?.to_str()?.to_owned();
            let label = format!("{label}{separator}{name}");
            self.add_paths(nested.get_id(), scope.clone(), name, label)?;
        }
        if let node::Struct(data) = node.which()? {
            for field in data.get_fields()? {
                if let field::Group(group) = field.which()? {
                    let name = naming::field_name(field)?;
                    let label = format!("{label}.{name}");
                    self.add_paths(group.get_type_id(), scope.clone(), name, label)?;
                }
            }
        }
        self.labels.insert(id, label);
        self.paths.insert(id, scope);
        Ok(())
    }

    /// Finds what upstream's generator would refuse without saying where it is.
    pub(crate) fn check(&self) -> Result<()> {
        for (&id, node) in &self.nodes {
            if let node::Const(constant) = node.which()?
                && let type_::AnyPointer(_) | type_::Interface(_) = constant.get_type()?.which()?
            {
                return Err(Error::Unsupported {
                    element: self.label(id),
                    problem: "there is no Rust constant for a pointer of unknown type; give the \
                              constant its real type"
                        .to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn node(&self, id: u64) -> Result<node::Reader<'a>> {
        self.nodes.get(&id).copied().ok_or_else(|| Error::Unsupported {
            element: format!("{id:#018x}"),
            problem: "the schema compiler's request refers to this declaration without \
                      containing it"
                .to_owned(),
        })
    }

    pub(crate) fn path(&self, id: u64) -> Result<String> {
        let path = self.paths.get(&id).ok_or_else(|| Error::Unsupported {
            element: self.label(id),
            problem: "it lies in a file that is neither compiled nor imported by one that is"
                .to_owned(),
        })?;
        Ok(path.join("::"))
    }

    /// The module of a declaration, without those around it.
    pub(crate) fn module(&self, id: u64) -> Option<&str> {
        self.paths.get(&id)?.last().map(String::as_str)
    }

    /// `file.capnp:Scope.Name`.
    pub(crate) fn label(&self, id: u64) -> String {
        self.labels.get(&id).cloned().unwrap_or_else(|| format!("{id:#018x}"))
    }

    /// The comment at a declaration.
    pub(crate) fn doc(&self, id: u64) -> &str {
        self.docs.get(&id).map_or("", |docs| &docs.0)
    }

    /// The comment at a method or field.
    pub(crate) fn member_doc(&self, id: u64, index: usize) -> &str {
        self.docs.get(&id).and_then(|docs| docs.1.get(index)).map_or("", String::as_str)
    }
}

/// The module of a schema file.
pub(crate) fn file_module(name: &str) -> String {
    let stem = std::path::Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    format!("{}_capnp", stem.replace('-', "_"))
}

fn file_label(name: &str) -> String {
    std::path::Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
