//! What every schema element is called in Rust.
//!
//! Names follow Rust's conventions. A name that Rust does not allow, or that something
//! else in the same module has, gets an underscore. Who comes first keeps a name, in
//! this order: what generated code has anyway, members of unions, groups, types,
//! constants and annotations in the order of the schema, and at last the structs of
//! methods, which nobody has to name.
//!
//! Types come before constants and annotations, because a request contains only those
//! declarations of an imported file that are used, and names must be the same as where
//! that file is compiled.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{field, node};

use crate::error::Result;
use crate::names;
use crate::request::{Nodes, display_name, rust_name};

/// Names by the ids of declarations.
#[derive(Default)]
pub(crate) struct Naming {
    /// The module of a struct, group, interface or annotation; the type of an enum; the
    /// constant.
    pub(crate) items: HashMap<u64, String>,
    pub(crate) fields: HashMap<u64, Vec<FieldName>>,
    pub(crate) enumerants: HashMap<u64, Vec<String>>,
    /// A declaration's own type parameters.
    pub(crate) parameters: HashMap<u64, Vec<String>>,
    pub(crate) methods: HashMap<u64, Vec<MethodName>>,
    /// The structs of an interface's methods that the schema does not name.
    pub(crate) method_structs: HashMap<u64, Vec<u64>>,
    /// The interfaces of those structs.
    pub(crate) homes: HashMap<u64, u64>,
}

/// What a field is called.
pub(crate) struct FieldName {
    /// In the schema.
    pub(crate) schema: String,
    /// Behind `get_`, `set_` and the like.
    pub(crate) accessor: String,
    /// As the member of a union.
    pub(crate) variant: String,
}

/// What a method is called.
pub(crate) struct MethodName {
    /// In the schema.
    pub(crate) schema: String,
    /// In the server's trait.
    pub(crate) function: String,
    /// In front of `_request`.
    pub(crate) request: String,
    /// In front of `Params` and `Results`.
    pub(crate) alias: String,
}

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

/// The names that are taken in one module.
#[derive(Default)]
struct Taken(HashSet<String>);

impl Taken {
    fn by(names: &[&str]) -> Self {
        Taken(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn add(&mut self, name: impl Into<String>) {
        self.0.insert(name.into());
    }

    /// The name, with as many underscores as it takes.
    fn claim(&mut self, mut name: String, is_allowed: fn(&str) -> bool) -> String {
        while !is_allowed(&name) || self.0.contains(&name) {
            name.push('_');
        }
        self.0.insert(name.clone());
        name
    }
}

struct Namer<'a, 'b> {
    nodes: &'b Nodes<'a>,
    naming: &'b mut Naming,
}

impl Namer<'_, '_> {
    /// Names what lies in one scope, and then what lies in that. `outer` are the type
    /// parameters of the scopes around it.
    fn scope(&mut self, id: u64, outer: &HashSet<String>) -> Result<()> {
        let Some(&node) = self.nodes.get(&id) else {
            // Declarations that nobody uses may be left out of a request.
            return Ok(());
        };
        let parameters = self.parameters(id, node, outer)?;
        let mut taken = Taken::default();
        match node.which()? {
            node::Struct(data) => {
                taken = Taken::by(names::STRUCT_ITEMS);
                self.fields(node, data, &mut taken)?;
                self.groups(id, data, &mut taken, &parameters)?;
            }
            node::Interface(interface) => {
                taken = Taken::by(names::INTERFACE_ITEMS);
                self.methods(node, interface, &mut taken)?;
            }
            node::Enum(data) => self.enumerants(node, data)?,
            _ => {}
        }
        self.declarations(node, &mut taken)?;
        if let node::Interface(interface) = node.which()? {
            for (index, method) in interface.get_methods()?.iter().enumerate() {
                let name = self.naming.methods[&id][index].alias.clone();
                let params = (method.get_param_struct_type(), name.clone() + "Params");
                let results = (method.get_result_struct_type(), name + "Results");
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

    /// Names a declaration's own type parameters, and returns them with those around
    /// it. An inner one may not be called as an outer one.
    fn parameters(
        &mut self,
        id: u64,
        node: node::Reader<'_>,
        outer: &HashSet<String>,
    ) -> Result<HashSet<String>> {
        let mut all = Taken(outer.clone());
        let mut own = Vec::new();
        for parameter in node.get_parameters()? {
            let declared = parameter.get_name()?.to_str()?.to_owned();
            own.push(all.claim(declared, names::is_parameter));
        }
        self.naming.parameters.insert(id, own);
        Ok(all.0)
    }

    /// Members of a union are variants of an enum, which are imported into the struct's
    /// module.
    fn fields(
        &mut self,
        node: node::Reader<'_>,
        data: node::struct_::Reader<'_>,
        taken: &mut Taken,
    ) -> Result<()> {
        let mut accessors = Taken::default();
        let mut fields = Vec::new();
        for field in data.get_fields()? {
            let schema = field.get_name()?.to_str()?.to_owned();
            let element = || format!("{}.{schema}", display_name(node));
            let name = rust_name(field.get_annotations()?, element)?;
            let name = name.as_ref().unwrap_or(&schema);
            let accessor = accessors.claim(names::snake(name), names::is_identifier);
            let mut variant = String::new();
            if field.get_discriminant_value() != field::NO_DISCRIMINANT {
                variant = taken.claim(names::capitalized(name), names::is_item);
            }
            fields.push(FieldName { schema, accessor, variant });
        }
        self.naming.fields.insert(node.get_id(), fields);
        Ok(())
    }

    fn groups(
        &mut self,
        id: u64,
        data: node::struct_::Reader<'_>,
        taken: &mut Taken,
        parameters: &HashSet<String>,
    ) -> Result<()> {
        for (index, field) in data.get_fields()?.iter().enumerate() {
            let field::Group(group) = field.which()? else { continue };
            let name = self.naming.fields[&id][index].accessor.clone();
            let module = taken.claim(name, names::is_module);
            self.naming.items.insert(group.get_type_id(), module);
            self.scope(group.get_type_id(), parameters)?;
        }
        Ok(())
    }

    fn methods(
        &mut self,
        node: node::Reader<'_>,
        interface: node::interface::Reader<'_>,
        taken: &mut Taken,
    ) -> Result<()> {
        let (mut functions, mut requests) = (Taken::default(), Taken::default());
        let mut methods = Vec::new();
        for method in interface.get_methods()? {
            let schema = method.get_name()?.to_str()?.to_owned();
            let element = || format!("{}.{schema}", display_name(node));
            let name = rust_name(method.get_annotations()?, element)?;
            let name = name.as_ref().unwrap_or(&schema);
            let function = functions.claim(names::snake(name), names::is_function);
            let request = requests.claim(names::snake(name), names::is_identifier);
            let mut alias = names::capitalized(name);
            while taken.0.contains(&format!("{alias}Params")) {
                alias.push('_');
            }
            taken.add(format!("{alias}Params"));
            taken.add(format!("{alias}Results"));
            methods.push(MethodName { schema, function, request, alias });
        }
        self.naming.methods.insert(node.get_id(), methods);
        Ok(())
    }

    fn enumerants(&mut self, node: node::Reader<'_>, data: node::enum_::Reader<'_>) -> Result<()> {
        let mut taken = Taken::default();
        let mut enumerants = Vec::new();
        for enumerant in data.get_enumerants()? {
            let schema = enumerant.get_name()?.to_str()?;
            let element = || format!("{}.{schema}", display_name(node));
            let name = rust_name(enumerant.get_annotations()?, element)?;
            let name = names::capitalized(name.as_deref().unwrap_or(schema));
            enumerants.push(taken.claim(name, names::is_item));
        }
        self.naming.enumerants.insert(node.get_id(), enumerants);
        Ok(())
    }

    /// Names what is declared directly in a scope.
    fn declarations(&mut self, scope: node::Reader<'_>, taken: &mut Taken) -> Result<()> {
        let mut after_types = Vec::new();
        for nested in scope.get_nested_nodes()? {
            let (id, declared) = (nested.get_id(), nested.get_name()?.to_str()?);
            let Some(&node) = self.nodes.get(&id) else {
                if declared.starts_with(char::is_uppercase) {
                    taken.add(declared);
                    taken.add(names::snake(declared));
                }
                continue;
            };
            let name = rust_name(node.get_annotations()?, || display_name(node))?;
            let name = name.unwrap_or_else(|| declared.to_owned());
            match node.which()? {
                node::Enum(_) => {
                    let item = taken.claim(name, names::is_item);
                    // As for a type that was left out.
                    taken.add(names::snake(&item));
                    self.naming.items.insert(id, item);
                }
                node::Const(_) => {
                    after_types.push((id, names::screaming(&name), names::is_item as _));
                }
                node::Annotation(_) => {
                    after_types.push((id, names::snake(&name), names::is_module as _));
                }
                _ => {
                    let module = taken.claim(names::snake(&name), names::is_module);
                    self.naming.items.insert(id, module);
                }
            }
        }
        for (id, natural, is_allowed) in after_types {
            let item = taken.claim(natural, is_allowed);
            self.naming.items.insert(id, item);
        }
        Ok(())
    }

    fn method_struct(
        &mut self,
        interface: u64,
        id: u64,
        natural: &str,
        taken: &mut Taken,
        parameters: &HashSet<String>,
    ) -> Result<()> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        if node.get_scope_id() != 0 {
            return Ok(());
        }
        let module = taken.claim(names::snake(natural), names::is_module);
        self.naming.items.insert(id, module);
        self.naming.method_structs.entry(interface).or_default().push(id);
        self.naming.homes.insert(id, interface);
        self.scope(id, parameters)
    }
}
