//! Types as Rust has them, with what type parameters stand for.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{brand, node, superclass, type_};

use crate::error::{Error, Result};
use crate::prepare;
use crate::schema::Schema;

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
