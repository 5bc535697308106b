//! What the generator looks up in a request: declarations, where they lie in Rust, and
//! what their authors say about them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{code_generator_request, node};

use crate::error::{Error, Result};
use crate::library;
use crate::names;
use crate::naming::Naming;
use crate::request::{self, Nodes, display_name};
use crate::settings::Settings;

/// A request, with what is looked up in it.
pub(crate) struct Schema<'a> {
    nodes: Nodes<'a>,
    pub(crate) naming: Naming,
    pub(crate) settings: &'a Settings,
    docs: HashMap<u64, Docs>,
    /// The files for which code is generated.
    requested: HashSet<u64>,
    /// The files in which each module of this crate lies that anything refers to.
    modules: RefCell<HashMap<String, u64>>,
}

/// The comments at a declaration and at its members.
#[derive(Default)]
struct Docs {
    declaration: String,
    members: Vec<String>,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(
        request: code_generator_request::Reader<'a>,
        settings: &'a Settings,
    ) -> Result<Self> {
        let nodes = request::nodes(request)?;
        let naming = Naming::new(&nodes)?;
        let mut docs = HashMap::new();
        for info in request.get_source_info()? {
            let mut members = Vec::new();
            for member in info.get_members()? {
                members.push(member.get_doc_comment()?.to_str()?.to_owned());
            }
            let declaration = info.get_doc_comment()?.to_str()?.to_owned();
            docs.insert(info.get_id(), Docs { declaration, members });
        }
        let mut requested = HashSet::new();
        for file in request.get_requested_files()? {
            requested.insert(file.get_id());
        }
        let modules = RefCell::default();
        let schema = Schema { nodes, naming, settings, docs, requested, modules };
        for file in request.get_requested_files()? {
            schema.path(file.get_id())?;
        }
        Ok(schema)
    }

    pub(crate) fn node(&self, id: u64) -> Result<node::Reader<'a>> {
        self.nodes.get(&id).copied().ok_or_else(|| Error::Unsupported {
            element: format!("{id:#018x}"),
            problem: "the schema compiler's request refers to this declaration without \
                      containing it"
                .to_owned(),
        })
    }

    /// The declaration that this one lies in; 0 for a file.
    pub(crate) fn parent(&self, id: u64) -> Result<u64> {
        match self.naming.homes.get(&id) {
            Some(&interface) => Ok(interface),
            None => Ok(self.node(id)?.get_scope_id()),
        }
    }

    fn file(&self, mut id: u64) -> Result<u64> {
        loop {
            match self.parent(id)? {
                0 => return Ok(id),
                parent => id = parent,
            }
        }
    }

    /// Whether there is code for a declaration, so far as this run of the generator
    /// knows.
    pub(crate) fn has_code(&self, id: u64) -> Result<bool> {
        let file = self.file(id)?;
        Ok(self.requested.contains(&file)
            || self.settings.crates.contains_key(&file)
            || library::has(file))
    }

    /// Where a declaration lies in Rust.
    pub(crate) fn path(&self, id: u64) -> Result<String> {
        let parent = self.parent(id)?;
        if parent == 0 { self.file_path(id) } else { Ok(self.path(parent)? + "::" + self.item(id)) }
    }

    fn file_path(&self, id: u64) -> Result<String> {
        let file = self.node(id)?;
        let module = names::file_module(&display_name(file));
        if let Some(provider) = self.settings.crates.get(&id) {
            return Ok(format!("::{provider}::{module}"));
        }
        if id == request::STREAM_FILE && !self.requested.contains(&id) {
            return Ok(format!("__rt::{module}"));
        }
        if library::has(id) && !self.requested.contains(&id) {
            return Ok(format!("{}::{module}", self.settings.runtime));
        }
        let mut path = vec!["crate".to_owned()];
        path.extend(match request::parent_module(file)? {
            Some(modules) => modules,
            None => self.settings.parent_module.clone(),
        });
        path.push(module);
        let path = path.join("::");
        let first = *self.modules.borrow_mut().entry(path.clone()).or_insert(id);
        if first == id {
            return Ok(path);
        }
        Err(Error::Unsupported {
            element: display_name(file),
            problem: format!(
                "its code would lie in the module `{path}`, and so would that of {}; rename one \
                 of the two files, or give one another module with `$Rust.parentModule`",
                display_name(self.node(first)?)
            ),
        })
    }

    /// What a declaration is called in the module that it lies in.
    pub(crate) fn item(&self, id: u64) -> &str {
        self.naming.items.get(&id).map_or("", String::as_str)
    }

    /// What a declaration is called in messages to people, as [`request::label`] has it.
    pub(crate) fn label(&self, id: u64) -> Result<String> {
        Ok(request::label(self.node(id)?))
    }

    /// The comment at a declaration.
    pub(crate) fn doc(&self, id: u64) -> &str {
        self.docs.get(&id).map_or("", |docs| &docs.declaration)
    }

    /// The comment at a field, an enumerant or a method.
    pub(crate) fn member_doc(&self, id: u64, index: usize) -> &str {
        self.docs.get(&id).and_then(|docs| docs.members.get(index)).map_or("", String::as_str)
    }

    /// A refusal to generate code for a declaration.
    pub(crate) fn refuse<T>(&self, id: u64, member: &str, problem: &str) -> Result<T> {
        let mut element = display_name(self.node(id)?);
        if !member.is_empty() {
            element.push('.');
            element.push_str(member);
        }
        Err(Error::Unsupported { element, problem: problem.to_owned() })
    }
}
