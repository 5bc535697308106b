//! Types as Rust has them, with what type parameters stand for.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{brand, node, superclass, type_};

use crate::error::Result;
use crate::schema::Schema;

/// What type parameters stand for, in some context.
#[derive(Clone, Default)]
pub(crate) struct Bindings {
    /// Parameters of declarations, by scope and index.
    scopes: HashMap<(u64, u16), String>,
    /// Parameters of the method at hand.
    pub(crate) method: Vec<String>,
}

/// What is asked for of a type.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// The type by which type parameters are bound to it.
    Owned,
    /// Its reader, for this lifetime.
    Reader(&'static str),
    /// Its builder, for this lifetime.
    Builder(&'static str),
    /// What leads to a value that is still to come.
    Pipeline,
}

impl Form {
    /// The last part of the type's name, and its first argument if that is a lifetime.
    fn parts(self) -> (&'static str, Option<&'static str>) {
        match self {
            Form::Owned => ("Owned", None),
            Form::Reader(lifetime) => ("Reader", Some(lifetime)),
            Form::Builder(lifetime) => ("Builder", Some(lifetime)),
            Form::Pipeline => ("Pipeline", None),
        }
    }

    /// The type of this form in a module, with these arguments.
    pub(crate) fn of(self, module: &str, arguments: &[String]) -> String {
        let (leaf, lifetime) = self.parts();
        let arguments = lifetime.into_iter().chain(arguments.iter().map(String::as_str));
        format!("{module}::{leaf}{}", angled(arguments))
    }
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

const ANY_POINTER: &str = "__rt::any_pointer::Owned";

impl<'a> Schema<'a> {
    /// The declarations that have parameters which this one's types take too,
    /// itself included, from the outside in.
    fn scopes(&self, id: u64) -> Result<Vec<(u64, &[String])>> {
        let mut scopes = Vec::new();
        let mut next = id;
        while next != 0 {
            scopes.push((next, self.naming.parameters.get(&next).map_or(&[][..], Vec::as_slice)));
            next = self.parent(next)?;
        }
        scopes.reverse();
        Ok(scopes)
    }

    /// The type parameters of a declaration, those of outer scopes first.
    pub(crate) fn parameters(&self, id: u64) -> Result<Vec<String>> {
        Ok(self.scopes(id)?.into_iter().flat_map(|scope| scope.1).cloned().collect())
    }

    /// Parameters standing for themselves: the view from inside a declaration.
    pub(crate) fn inside(&self, id: u64) -> Result<Bindings> {
        let mut bindings = Bindings::default();
        for (scope, parameters) in self.scopes(id)? {
            bindings.scopes.extend(
                (0..).zip(parameters).map(|(index, parameter)| ((scope, index), parameter.clone())),
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
            let brand = branded.get(&scope).map(|scope| scope.which()).transpose()?;
            for index in (0u16..).take(parameters.len()) {
                let argument = match &brand {
                    Some(brand::scope::Inherit(())) => context.scopes.get(&(scope, index)).cloned(),
                    Some(brand::scope::Bind(bound)) => {
                        match bound.clone()?.try_get(u32::from(index)) {
                            Some(binding) => self.bound(binding, context)?,
                            None => None,
                        }
                    }
                    None => None,
                };
                let argument = argument.unwrap_or_else(|| ANY_POINTER.to_owned());
                bindings.scopes.insert((scope, index), argument.clone());
                arguments.push(argument);
            }
        }
        Ok((bindings, arguments))
    }

    fn bound(
        &self,
        binding: brand::binding::Reader<'_>,
        context: &Bindings,
    ) -> Result<Option<String>> {
        match binding.which()? {
            brand::binding::Unbound(()) => Ok(None),
            brand::binding::Type(ty) => self.ty(ty?, Form::Owned, context).map(Some),
        }
    }

    /// A type of a declaration's module, as it is where the declaration is used.
    fn branded(
        &self,
        id: u64,
        brand: brand::Reader<'_>,
        form: Form,
        context: &Bindings,
    ) -> Result<String> {
        let (_, arguments) = self.apply(id, brand, context)?;
        Ok(form.of(&self.path(id)?, &arguments))
    }

    fn client(&self, of: type_::interface::Reader<'_>, context: &Bindings) -> Result<String> {
        let (_, arguments) = self.apply(of.get_type_id(), of.get_brand()?, context)?;
        let path = self.path(of.get_type_id())?;
        Ok(format!("{path}::Client{}", angled(arguments.iter().map(String::as_str))))
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
        Ok(Form::Owned.of(&self.path(id)?, &arguments))
    }

    /// The type of an annotation's value where the annotation is used.
    pub(crate) fn annotation_type(
        &self,
        id: u64,
        brand: brand::Reader<'_>,
        context: &Bindings,
    ) -> Result<String> {
        let node::Annotation(annotation) = self.node(id)?.which()? else {
            return self.refuse(id, "", "it is used as an annotation, but it is none");
        };
        let (bindings, _) = self.apply(id, brand, context)?;
        let ty = annotation.get_type()?;
        // Schemas of annotations are often imported without being compiled.
        if !self.type_has_code(ty)? {
            return Ok(ANY_POINTER.to_owned());
        }
        self.ty(ty, Form::Owned, &bindings)
    }

    fn type_has_code(&self, ty: type_::Reader<'_>) -> Result<bool> {
        match ty.which()? {
            type_::Enum(of) => self.has_code(of.get_type_id()),
            type_::Struct(of) => {
                Ok(self.has_code(of.get_type_id())? && self.brand_has_code(of.get_brand()?)?)
            }
            type_::Interface(of) => {
                Ok(self.has_code(of.get_type_id())? && self.brand_has_code(of.get_brand()?)?)
            }
            type_::List(of) => self.type_has_code(of.get_element_type()?),
            _ => Ok(true),
        }
    }

    fn brand_has_code(&self, brand: brand::Reader<'_>) -> Result<bool> {
        for scope in brand.get_scopes()? {
            let brand::scope::Bind(bindings) = scope.which()? else { continue };
            for binding in bindings? {
                if let brand::binding::Type(ty) = binding.which()?
                    && !self.type_has_code(ty?)?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A type in one of its forms.
    pub(crate) fn ty(
        &self,
        ty: type_::Reader<'_>,
        form: Form,
        context: &Bindings,
    ) -> Result<String> {
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
            type_::Text(()) => form.of("__rt::text", &[]),
            type_::Data(()) => form.of("__rt::data", &[]),
            type_::Enum(of) => self.path(of.get_type_id())?,
            type_::Struct(of) => self.branded(of.get_type_id(), of.get_brand()?, form, context)?,
            type_::Interface(of) => match form {
                Form::Owned => {
                    self.branded(of.get_type_id(), of.get_brand()?, Form::Owned, context)?
                }
                Form::Reader(_) | Form::Builder(_) | Form::Pipeline => self.client(of, context)?,
            },
            type_::List(of) => self.list(of.get_element_type()?, form, context)?,
            type_::AnyPointer(pointer) => {
                let parameter = match pointer.which()? {
                    type_::any_pointer::Unconstrained(_) => None,
                    type_::any_pointer::Parameter(parameter) => {
                        let key = (parameter.get_scope_id(), parameter.get_parameter_index());
                        context.scopes.get(&key)
                    }
                    type_::any_pointer::ImplicitMethodParameter(parameter) => {
                        context.method.get(usize::from(parameter.get_parameter_index()))
                    }
                };
                match parameter {
                    None => form.of("__rt::any_pointer", &[]),
                    Some(parameter) => match form {
                        Form::Owned => parameter.clone(),
                        Form::Reader(lifetime) => {
                            format!("<{parameter} as __rt::Owned>::Reader<{lifetime}>")
                        }
                        Form::Builder(lifetime) => {
                            format!("<{parameter} as __rt::Owned>::Builder<{lifetime}>")
                        }
                        Form::Pipeline => format!("<{parameter} as __rt::Pipelined>::Pipeline"),
                    },
                }
            }
        })
    }

    fn list(&self, element: type_::Reader<'_>, form: Form, context: &Bindings) -> Result<String> {
        let module = match element.which()? {
            type_::Text(()) => return Ok(form.of("__rt::text_list", &[])),
            type_::Data(()) => return Ok(form.of("__rt::data_list", &[])),
            type_::AnyPointer(_) if is_capability(element)? => {
                return Ok(form.of("__rt::capability_list", &["__rt::AnyClient".to_owned()]));
            }
            type_::AnyPointer(_) => return Ok(form.of("__rt::any_pointer_list", &[])),
            type_::Interface(of) => {
                return Ok(form.of("__rt::capability_list", &[self.client(of, context)?]));
            }
            type_::Struct(_) => "__rt::struct_list",
            type_::Enum(_) => "__rt::enum_list",
            type_::List(_) => "__rt::list_list",
            _ => "__rt::primitive_list",
        };
        Ok(form.of(module, &[self.ty(element, Form::Owned, context)?]))
    }

    /// What an interface extends, as the interface itself sees it: directly, in
    /// the order of the schema.
    pub(crate) fn direct_bases(
        &self,
        interface: node::interface::Reader<'a>,
        context: &Bindings,
    ) -> Result<Vec<Base<'a>>> {
        let mut bases: Vec<Base<'a>> = Vec::new();
        for base in interface.get_superclasses()? {
            let base = self.base(base, context)?;
            if !bases.iter().any(|other| (other.id, &other.arguments) == (base.id, &base.arguments))
            {
                bases.push(base);
            }
        }
        Ok(bases)
    }

    fn base(&self, base: superclass::Reader<'_>, context: &Bindings) -> Result<Base<'a>> {
        let id = base.get_id();
        let (bindings, arguments) = self.apply(id, base.get_brand()?, context)?;
        match self.node(id)?.which()? {
            node::Interface(interface) => Ok(Base { id, interface, bindings, arguments }),
            _ => self.refuse(id, "", "an interface extends it, but it is none"),
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
        let mut seen = HashSet::new();
        while !level.is_empty() {
            let mut next = Vec::new();
            for base in level {
                if base.id == id {
                    return self.refuse(id, "", "it extends itself");
                }
                if !seen.insert(base.id) {
                    if all
                        .iter()
                        .any(|first| first.id == base.id && first.arguments != base.arguments)
                    {
                        let problem = format!(
                            "it extends {} twice, with different type arguments; calls do not \
                             say which of the two they mean",
                            crate::request::display_name(self.node(base.id)?)
                        );
                        return self.refuse(id, "", &problem);
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

/// Whether a type is `Capability`.
fn is_capability(ty: type_::Reader<'_>) -> Result<bool> {
    let type_::AnyPointer(pointer) = ty.which()? else { return Ok(false) };
    let type_::any_pointer::Unconstrained(kind) = pointer.which()? else { return Ok(false) };
    Ok(matches!(kind.which()?, type_::any_pointer::unconstrained::Capability(())))
}

/// Arguments in angle brackets, or nothing.
pub(crate) fn angled<'t>(arguments: impl IntoIterator<Item = &'t str>) -> String {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    if arguments.is_empty() { String::new() } else { format!("<{}>", arguments.join(", ")) }
}

/// Those of `parameters` that occur in the text of a type: aliases may not have others.
pub(crate) fn mentioned<'p>(ty: &str, parameters: &'p [String]) -> Vec<&'p str> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = HashSet::new();
    let mut rest = ty;
    let mut before = "";
    while let Some(start) = rest.find(is_part) {
        before = if start > 0 { &rest[..start] } else { before };
        let name = &rest[start..];
        let end = name.find(|letter| !is_part(letter)).unwrap_or(name.len());
        // A name behind `::` or `'` is something else that is called the same.
        if !before.ends_with("::") && !before.ends_with('\'') {
            found.insert(&name[..end]);
        }
        rest = &name[end..];
    }
    parameters.iter().map(String::as_str).filter(|parameter| found.contains(parameter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_where_they_stand_by_themselves() {
        let parameters = ["T", "Key", "a"].map(str::to_owned);
        let found = |ty| mentioned(ty, &parameters);
        assert_eq!(found("crate::x::Owned<Key, T>"), ["T", "Key"]);
        assert_eq!(found("<T as __rt::Owned>::Reader<'a>"), ["T"]);
        assert!(found("crate::T::Key<'a>").is_empty());
        assert!(found("Tea<u8>").is_empty());
    }
}
