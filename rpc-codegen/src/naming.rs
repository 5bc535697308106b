//! Which schema elements need another name in Rust than they would get.
//!
//! Upstream's generator takes names as they come, so some schemas give code that
//! does not compile: a struct `FooParams` beside a method `foo`, an `enum Kind`
//! beside a union field `kind`, anything called `async`. Every scope is looked
//! through for such clashes, and what loses gets an underscore. The order is:
//! names that generated code has anyway, union fields, groups, declarations in
//! the order of the schema, and at last the structs of methods, which nobody
//! names.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{field, node};

use crate::error::Result;
use crate::names;

/// The annotation by which a schema names an element for Rust.
pub(crate) const NAME_ANNOTATION: u64 = 0xc2fe_4c6d_1001_66d0;

/// Which schema elements get which name.
#[derive(Default)]
pub(crate) struct Naming {
    /// Declarations by id.
    pub(crate) nodes: HashMap<u64, String>,
    /// Fields by struct and index.
    pub(crate) fields: HashMap<(u64, u32), String>,
    /// Enumerants by enum and index.
    pub(crate) enumerants: HashMap<(u64, u32), String>,
    /// Type parameters by scope and index.
    pub(crate) parameters: HashMap<(u64, u32), String>,
    /// The structs of an interface's methods that the schema does not name.
    pub(crate) method_structs: HashMap<u64, Vec<(u64, String)>>,
    /// The interfaces of those structs.
    pub(crate) homes: HashMap<u64, u64>,
}

pub(crate) type Nodes<'a> = HashMap<u64, node::Reader<'a>>;

impl Naming {
    /// Names everything in all files of a request.
    pub(crate) fn new(nodes: &Nodes<'_>) -> Result<Self> {
        let mut naming = Naming::default();
        for (&id, node) in nodes {
            if let node::File(()) = node.which()? {
                Namer { nodes, naming: &mut naming }.scope(id, &HashSet::new())?;
            }
        }
        Ok(naming)
    }
}

struct Namer<'a, 'b> {
    nodes: &'b Nodes<'a>,
    naming: &'b mut Naming,
}

impl Namer<'_, '_> {
    /// Names what lies in one scope, and then what lies in that.
    fn scope(&mut self, id: u64, outer_parameters: &HashSet<String>) -> Result<()> {
        let Some(&node) = self.nodes.get(&id) else {
            // Declarations that nobody uses may be left out of a request.
            return Ok(());
        };
        let parameters = self.parameters(id, node, outer_parameters)?;
        let mut taken = HashSet::new();
        match node.which()? {
            node::Struct(data) => {
                for name in ["Owned", "Reader", "Builder", "Pipeline", "Which", "WhichReader"] {
                    taken.insert(name.to_owned());
                }
                taken.insert("WhichBuilder".to_owned());
                self.union(id, data, &mut taken)?;
                self.groups(id, data, &mut taken, &parameters)?;
            }
            node::Interface(interface) => {
                for name in ["Client", "Owned", "Server"] {
                    taken.insert(name.to_owned());
                }
                for method in interface.get_methods()? {
                    let name = names::capitalized(method.get_name()?.to_str()?);
                    taken.insert(format!("{name}Params"));
                    taken.insert(format!("{name}Results"));
                }
            }
            node::Enum(data) => {
                for (index, enumerant) in data.get_enumerants()?.iter().enumerate() {
                    let name = annotated(enumerant.get_annotations()?)?
                        .map_or_else(|| text(enumerant.get_name()), Ok)?;
                    if names::capitalized(&name) == "Self" {
                        self.naming.enumerants.insert((id, index_of(index)), name + "_");
                    }
                }
            }
            _ => {}
        }
        for nested in node.get_nested_nodes()? {
            self.declaration(nested.get_id(), text(nested.get_name())?, &mut taken)?;
        }
        if let node::Interface(interface) = node.which()? {
            for method in interface.get_methods()? {
                let name = method.get_name()?.to_str()?;
                let params = (method.get_param_struct_type(), format!("{name}Params"));
                let results = (method.get_result_struct_type(), format!("{name}Results"));
                for (id_of_struct, natural) in [params, results] {
                    self.method_struct(id, id_of_struct, &natural, &mut taken, &parameters)?;
                }
            }
        }
        for nested in node.get_nested_nodes()? {
            self.scope(nested.get_id(), &parameters)?;
        }
        Ok(())
    }

    /// Type parameters are Rust's as they are the schema's, but for one thing:
    /// an inner one may not be called as an outer one.
    fn parameters(
        &mut self,
        id: u64,
        node: node::Reader<'_>,
        outer: &HashSet<String>,
    ) -> Result<HashSet<String>> {
        let mut all = outer.clone();
        for (index, parameter) in node.get_parameters()?.iter().enumerate() {
            let declared = text(parameter.get_name())?;
            let mut name = declared.clone();
            while all.contains(&name) || names::USED_TYPES.contains(&name.as_str()) {
                name.push('_');
            }
            all.insert(name.clone());
            if name != declared {
                self.naming.parameters.insert((id, index_of(index)), name);
            }
        }
        Ok(all)
    }

    /// Members of a union are variants of an enum, which are imported into the
    /// struct's module.
    fn union(
        &mut self,
        id: u64,
        data: node::struct_::Reader<'_>,
        taken: &mut HashSet<String>,
    ) -> Result<()> {
        for (index, field) in data.get_fields()?.iter().enumerate() {
            if field.get_discriminant_value() == field::NO_DISCRIMINANT {
                continue;
            }
            let natural = field_name(field)?;
            let mut name = natural.clone();
            while names::capitalized(&name) == "Self" || taken.contains(&names::capitalized(&name))
            {
                name.push('_');
            }
            taken.insert(names::capitalized(&name));
            if name != natural {
                self.naming.fields.insert((id, index_of(index)), name);
            }
        }
        Ok(())
    }

    fn groups(
        &mut self,
        id: u64,
        data: node::struct_::Reader<'_>,
        taken: &mut HashSet<String>,
        parameters: &HashSet<String>,
    ) -> Result<()> {
        for (index, field) in data.get_fields()?.iter().enumerate() {
            let field::Group(group) = field.which()? else { continue };
            let key = (id, index_of(index));
            let mut name = match self.naming.fields.get(&key) {
                Some(name) => name.clone(),
                None => field_name(field)?,
            };
            let before = name.clone();
            while !free_module(&names::module(&name), taken) {
                name.push('_');
            }
            taken.insert(names::module(&name));
            if name != before {
                self.naming.fields.insert(key, name);
            }
            self.scope(group.get_type_id(), parameters)?;
        }
        Ok(())
    }

    fn declaration(
        &mut self,
        id: u64,
        declared: String,
        taken: &mut HashSet<String>,
    ) -> Result<()> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let natural = annotated(node.get_annotations()?)?.unwrap_or(declared);
        let mut name = natural.clone();
        match node.which()? {
            node::Enum(_) => {
                // Beside the enum lies a module in which the generator keeps its
                // schema.
                while names::USED_TYPES.contains(&name.as_str())
                    || taken.contains(&name)
                    || !free_module(&names::module(&name), taken)
                {
                    name.push('_');
                }
                taken.insert(name.clone());
                taken.insert(names::module(&name));
            }
            node::Const(_) => {
                while taken.contains(&names::snake(&name).to_ascii_uppercase()) {
                    name.push('_');
                }
                taken.insert(names::snake(&name).to_ascii_uppercase());
            }
            _ => {
                while !free_module(&names::module(&name), taken) {
                    name.push('_');
                }
                taken.insert(names::module(&name));
            }
        }
        if name != natural {
            self.naming.nodes.insert(id, name);
        }
        Ok(())
    }

    fn method_struct(
        &mut self,
        interface: u64,
        id: u64,
        natural: &str,
        taken: &mut HashSet<String>,
        parameters: &HashSet<String>,
    ) -> Result<()> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        if node.get_scope_id() != 0 {
            return Ok(());
        }
        let mut name = natural.to_owned();
        while !free_module(&names::module(&name), taken) {
            name.push('_');
        }
        taken.insert(names::module(&name));
        self.naming.method_structs.entry(interface).or_default().push((id, name));
        self.naming.homes.insert(id, interface);
        self.scope(id, parameters)
    }
}

fn free_module(name: &str, taken: &HashSet<String>) -> bool {
    names::is_module(name) && !taken.contains(name)
}

fn index_of(index: usize) -> u32 {
    // Lists in messages are indexed with 32 bits, so nothing is cut off.
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn text(name: capnp::Result<capnp::text::Reader<'_>>) -> Result<String> {
    Ok(name?.to_str()?.to_owned())
}

/// What a field is called, in Rust if the schema says so.
pub(crate) fn field_name(field: field::Reader<'_>) -> Result<String> {
    annotated(field.get_annotations()?)?.map_or_else(|| text(field.get_name()), Ok)
}

/// The name that the schema's author wants for Rust.
pub(crate) fn annotated(
    annotations: capnp::struct_list::Reader<'_, capnp::schema_capnp::annotation::Owned>,
) -> Result<Option<String>> {
    for annotation in annotations {
        if annotation.get_id() == NAME_ANNOTATION
            && let capnp::schema_capnp::value::Text(name) = annotation.get_value()?.which()?
        {
            return text(name).map(Some);
        }
    }
    Ok(None)
}
