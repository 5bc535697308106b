//! What the generator looks up in a prepared request: declarations, where they
//! lie in Rust, and types as Rust has them.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{brand, code_generator_request, field, node, superclass, type_};

use crate::error::{Error, Result};
use crate::generate::Settings;
use crate::names;
use crate::naming::{self, Nodes};
use crate::prepare;

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

/// What type parameters stand for, in some context.
#[derive(Clone, Default)]
pub(crate) struct Bindings {
    /// Parameters of declarations, by scope and index.
    scopes: HashMap<(u64, u16), String>,
    /// Parameters of the method at hand.
    pub(crate) method: Vec<String>,
}

/// An interface as another one extends it.
pub(crate) struct Base<'a> {
    pub(crate) id: u64,
    pub(crate) interface: node::interface::Reader<'a>,
    /// What its parameters stand for.
    pub(crate) bindings: Bindings,
    /// The same, in the order in which its types take them.
    pub(crate) arguments: Vec<String>,
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

    /// The declarations that have parameters which this one's types take too,
    /// itself included, from the outside in.
    fn scopes(&self, id: u64) -> Result<Vec<(u64, Vec<String>)>> {
        let mut scopes = Vec::new();
        let mut next = id;
        while next != 0 {
            let node = self.node(next)?;
            let parameters = node
                .get_parameters()?
                .iter()
                .map(|parameter| Ok(parameter.get_name()?.to_str()?.to_owned()))
                .collect::<Result<Vec<_>>>()?;
            scopes.push((next, parameters));
            next = node.get_scope_id();
        }
        scopes.reverse();
        Ok(scopes)
    }

    /// The type parameters of a declaration, those of outer scopes first.
    pub(crate) fn parameters(&self, id: u64) -> Result<Vec<String>> {
        Ok(self.scopes(id)?.into_iter().flat_map(|scope| scope.1).collect())
    }

    /// Parameters standing for themselves: the view from inside a declaration.
    pub(crate) fn inside(&self, id: u64) -> Result<Bindings> {
        let mut bindings = Bindings::default();
        for (scope, parameters) in self.scopes(id)? {
            bindings.scopes.extend(
                (0..).zip(parameters).map(|(index, parameter)| ((scope, index), parameter)),
            );
        }
        Ok(bindings)
    }

    /// What the parameters of a declaration stand for where it is used.
    fn apply(
        &self,
        id: u64,
        brand: brand::Reader<'_>,
        context: &Bindings,
    ) -> Result<(Bindings, Vec<String>)> {
        let mut bindings = Bindings::default();
        let mut arguments = Vec::new();
        let mut branded = HashMap::new();
        for scope in brand.get_scopes()? {
            branded.insert(scope.get_scope_id(), scope);
        }
        for (scope, parameters) in self.scopes(id)? {
            let bound = match branded.get(&scope) {
                Some(branded) => match branded.which()? {
                    brand::scope::Bind(bound) => Some(bound?),
                    brand::scope::Inherit(()) => {
                        for index in (0u16..).take(parameters.len()) {
                            let argument = context
                                .scopes
                                .get(&(scope, index))
                                .cloned()
                                .unwrap_or_else(|| self.any_pointer());
                            bindings.scopes.insert((scope, index), argument.clone());
                            arguments.push(argument);
                        }
                        continue;
                    }
                },
                None => None,
            };
            for index in (0u16..).take(parameters.len()) {
                let binding = match bound.and_then(|bound| bound.try_get(u32::from(index))) {
                    Some(binding) => binding.which()?,
                    None => brand::binding::Unbound(()),
                };
                let argument = match binding {
                    brand::binding::Unbound(()) => self.any_pointer(),
                    brand::binding::Type(ty) => self.owned(ty?, context)?,
                };
                bindings.scopes.insert((scope, index), argument.clone());
                arguments.push(argument);
            }
        }
        Ok((bindings, arguments))
    }

    fn any_pointer(&self) -> String {
        format!("{}::any_pointer::Owned", self.facade)
    }

    /// A struct, or an interface, as a type parameter is bound to it.
    pub(crate) fn branded(
        &self,
        id: u64,
        brand: brand::Reader<'_>,
        leaf: &str,
        context: &Bindings,
    ) -> Result<String> {
        let (_, arguments) = self.apply(id, brand, context)?;
        Ok(format!("{}::{leaf}{}", self.path(id)?, angled(&arguments)))
    }

    /// The struct of a method that has it for itself: the method's parameters
    /// are the struct's.
    pub(crate) fn method_struct(
        &self,
        id: u64,
        brand: brand::Reader<'_>,
        context: &Bindings,
    ) -> Result<String> {
        let own = self.node(id)?.get_parameters()?.len();
        let branded = brand.get_scopes()?.iter().any(|scope| scope.get_scope_id() == id);
        let (_, mut arguments) = self.apply(id, brand, context)?;
        if !branded && own as usize == context.method.len() {
            let outer = arguments.len() - context.method.len();
            arguments.truncate(outer);
            arguments.extend(context.method.iter().cloned());
        }
        Ok(format!("{}::Owned{}", self.path(id)?, angled(&arguments)))
    }

    /// A type in the form in which parameters are bound to it.
    pub(crate) fn owned(&self, ty: type_::Reader<'_>, context: &Bindings) -> Result<String> {
        let facade = &self.facade;
        Ok(match ty.which()? {
            type_::Void(()) => "()".to_owned(),
            type_::Bool(()) => "bool".to_owned(),
            type_::Int8(()) => "i8".to_owned(),
            type_::Int16(()) => "i16".to_owned(),
            type_::Int32(()) => "i32".to_owned(),
            type_::Int64(()) => "i64".to_owned(),
            type_::Uint8(()) => "u8".to_owned(),
            type_::Uint16(()) => "u16".to_owned(),
            type_::Uint32(()) => "u32".to_owned(),
            type_::Uint64(()) => "u64".to_owned(),
            type_::Float32(()) => "f32".to_owned(),
            type_::Float64(()) => "f64".to_owned(),
            type_::Text(()) => format!("{facade}::text::Owned"),
            type_::Data(()) => format!("{facade}::data::Owned"),
            type_::Enum(of) => self.path(of.get_type_id())?,
            type_::Struct(of) => {
                self.branded(of.get_type_id(), of.get_brand()?, "Owned", context)?
            }
            type_::Interface(of) => {
                self.branded(of.get_type_id(), of.get_brand()?, "Owned", context)?
            }
            type_::List(of) => self.owned_list(of.get_element_type()?, context)?,
            type_::AnyPointer(pointer) => match pointer.which()? {
                type_::any_pointer::Unconstrained(_) => self.any_pointer(),
                type_::any_pointer::Parameter(parameter) => {
                    let key = (parameter.get_scope_id(), parameter.get_parameter_index());
                    context.scopes.get(&key).cloned().unwrap_or_else(|| self.any_pointer())
                }
                type_::any_pointer::ImplicitMethodParameter(parameter) => context
                    .method
                    .get(usize::from(parameter.get_parameter_index()))
                    .cloned()
                    .unwrap_or_else(|| self.any_pointer()),
            },
        })
    }

    fn owned_list(&self, element: type_::Reader<'_>, context: &Bindings) -> Result<String> {
        let facade = &self.facade;
        Ok(match element.which()? {
            type_::Text(()) => format!("{facade}::text_list::Owned"),
            type_::Data(()) => format!("{facade}::data_list::Owned"),
            type_::Struct(_) => {
                format!("{facade}::struct_list::Owned<{}>", self.owned(element, context)?)
            }
            type_::Enum(_) => {
                format!("{facade}::enum_list::Owned<{}>", self.owned(element, context)?)
            }
            type_::List(_) => {
                format!("{facade}::list_list::Owned<{}>", self.owned(element, context)?)
            }
            type_::Interface(of) => {
                let client = self.branded(of.get_type_id(), of.get_brand()?, "Client", context)?;
                format!("{facade}::capability_list::Owned<{client}>")
            }
            type_::AnyPointer(_) if prepare::is_capability(element)? => {
                format!("{facade}::capability_list::Owned<{facade}::capability::Client>")
            }
            type_::AnyPointer(_) => {
                return Err(Error::Unsupported {
                    element: "List(AnyPointer)".to_owned(),
                    problem: "capnp has no such lists; use a list of a struct that holds an \
                              AnyPointer"
                        .to_owned(),
                });
            }
            _ => format!("{facade}::primitive_list::Owned<{}>", self.owned(element, context)?),
        })
    }

    /// What an interface extends, as the interface itself sees it: directly, in
    /// the order of the schema.
    pub(crate) fn direct_bases(
        &self,
        interface: node::interface::Reader<'a>,
        context: &Bindings,
    ) -> Result<Vec<Base<'a>>> {
        interface.get_superclasses()?.iter().map(|base| self.base(base, context)).collect()
    }

    fn base(&self, base: superclass::Reader<'_>, context: &Bindings) -> Result<Base<'a>> {
        let id = base.get_id();
        let (bindings, arguments) = self.apply(id, base.get_brand()?, context)?;
        match self.node(id)?.which()? {
            node::Interface(interface) => Ok(Base { id, interface, bindings, arguments }),
            _ => Err(Error::Unsupported {
                element: self.label(id),
                problem: "an interface extends it, but it is none".to_owned(),
            }),
        }
    }

    /// Everything that an interface extends, each once, nearest first.
    pub(crate) fn all_bases(
        &self,
        id: u64,
        interface: node::interface::Reader<'a>,
        context: &Bindings,
    ) -> Result<Vec<Base<'a>>> {
        let mut all: Vec<Base<'a>> = Vec::new();
        let mut level = self.direct_bases(interface, context)?;
        let mut seen = HashSet::from([id]);
        while !level.is_empty() {
            let mut next = Vec::new();
            for base in level {
                if !seen.insert(base.id) {
                    if let Some(first) = all.iter().find(|first| first.id == base.id)
                        && first.arguments != base.arguments
                    {
                        return Err(Error::Unsupported {
                            element: self.label(id),
                            problem: format!(
                                "it extends {} twice, with different type arguments; calls do \
                                 not say which of the two they mean",
                                self.label(base.id)
                            ),
                        });
                    }
                    continue;
                }
                next.extend(self.direct_bases(base.interface, &base.bindings)?);
                all.push(base);
            }
            level = next;
        }
        Ok(all)
    }
}

/// Type arguments in angle brackets, or nothing.
pub(crate) fn angled(arguments: &[String]) -> String {
    if arguments.is_empty() { String::new() } else { format!("<{}>", arguments.join(", ")) }
}

/// The module of a schema file.
pub(crate) fn file_module(name: &str) -> String {
    let stem = std::path::Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    format!("{}_capnp", stem.replace('-', "_"))
}

fn file_label(name: &str) -> String {
    std::path::Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
