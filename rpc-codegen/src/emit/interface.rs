//! Interfaces.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{method, node};

use super::Emitter;
use super::code::{line, open};
use crate::error::Result;
use crate::names;
use crate::naming::MethodName;
use crate::request::STREAM_RESULT;
use crate::schema::Schema;
use crate::types::{Base, Bindings, angled, mentioned};

/// An interface, while its code is printed.
struct Interface<'a> {
    id: u64,
    label: String,
    interface: node::interface::Reader<'a>,
    /// The type parameters of its types, and what they stand for: themselves.
    parameters: Vec<String>,
    context: Bindings,
    direct_bases: Vec<Base<'a>>,
    bases: Vec<Base<'a>>,
    methods: Vec<Method<'a>>,
}

/// A method as its interface declares it.
struct Method<'a> {
    index: usize,
    name: &'a MethodName,
    /// The aliases of what a server is given, with their arguments.
    params: String,
    /// `None` for `-> stream`.
    results: Option<String>,
}

impl Interface<'_> {
    fn angle(&self) -> String {
        angled(self.parameters.iter().map(String::as_str))
    }

    /// The parameters with what is required of them, and more parameters.
    fn bounded(&self) -> String {
        let bounded: Vec<String> = self
            .parameters
            .iter()
            .map(|parameter| format!("{parameter}: __rt::Owned + 'static"))
            .collect();
        angled(bounded.iter().map(String::as_str))
    }
}

impl<'s> Emitter<'s> {
    pub(super) fn interface(&mut self, id: u64, of: node::interface::Reader<'s>) -> Result<()> {
        let schema = self.schema;
        let context = schema.inside(id)?;
        let mut interface = Interface {
            id,
            label: schema.label(id)?,
            interface: of,
            parameters: schema.parameters(id)?,
            direct_bases: schema.direct_bases(of, &context)?,
            bases: schema.all_bases(id, of, &context)?,
            context,
            methods: Vec::new(),
        };
        self.open_module(id, format_args!("The interface `{}`.", interface.label));
        for (index, method) in of.get_methods()?.iter().enumerate() {
            let name = &schema.naming.methods[&id][index];
            let method = self.aliases(&interface, index, name, method)?;
            interface.methods.push(method);
        }
        self.requests(&interface)?;
        self.server(&interface)?;
        self.interface_macro(&interface)?;
        if let Some(structs) = schema.naming.method_structs.get(&id) {
            for &id in structs {
                self.declaration(id)?;
            }
        }
        self.nested(schema.node(id)?)?;
        self.code.close("}");
        Ok(())
    }

    /// Prints what a server's method is given.
    fn aliases(
        &mut self,
        interface: &Interface<'_>,
        index: usize,
        name: &'s MethodName,
        method: method::Reader<'_>,
    ) -> Result<Method<'s>> {
        let (params, results) = method_types(self.schema, method, &interface.context)?;
        let mut alias = |what: &str, ty: &str, doc: &str| {
            let alias =
                format!("{}{what}{}", name.alias, angled(mentioned(ty, &interface.parameters)));
            self.code.doc(format_args!("What a server's `{}` {doc}.", name.function), "");
            line!(self.code, "pub type {alias} = __rt::{what}<{ty}>;");
            alias
        };
        let params = alias("Params", &params, "is called with");
        let results = results.map(|results| alias("Results", &results, "returns"));
        Ok(Method { index, name, params, results })
    }

    /// Prints a function for every method, which makes calls of it.
    fn requests(&mut self, interface: &Interface<'_>) -> Result<()> {
        let head = format!("impl{} Client{} {{", interface.bounded(), interface.angle());
        open!(self.code, "{head}");
        for (index, method) in interface.interface.get_methods()?.iter().enumerate() {
            self.request(interface, interface.id, "INTERFACE", index, method, &interface.context)?;
        }
        for (base, index, method) in self.inherited(interface)? {
            let description = self.schema.path(base.id)? + "::INTERFACE";
            self.request(interface, base.id, &description, index, method, &base.bindings)?;
        }
        self.code.close("}");
        Ok(())
    }

    fn request(
        &mut self,
        interface: &Interface<'_>,
        declared_in: u64,
        description: &str,
        index: usize,
        method: method::Reader<'_>,
        context: &Bindings,
    ) -> Result<()> {
        // A method's own parameters are the caller's to choose.
        let mut context = context.clone();
        let mut generics = Vec::new();
        for parameter in method.get_implicit_parameters()? {
            let mut name = parameter.get_name()?.to_str()?.to_owned();
            while interface.parameters.contains(&name)
                || context.method.contains(&name)
                || !names::is_parameter(&name)
            {
                name.push('_');
            }
            generics.push(format!("{name}: __rt::Owned + 'static"));
            context.method.push(name);
        }
        let (params, results) = method_types(self.schema, method, &context)?;
        let name = &self.schema.naming.methods[&declared_in][index];
        let generics = angled(generics.iter().map(String::as_str));
        let (function, ty) = match results {
            Some(results) => ("request", format!("__rt::Request<{params}, {results}>")),
            None => ("streaming", format!("__rt::StreamingRequest<{params}>")),
        };
        let label = self.schema.label(declared_in)?;
        let comment = self.schema.member_doc(declared_in, index);
        let code = &mut self.code;
        code.doc(format_args!("A call of `{label}.{}`.", name.schema), comment);
        open!(code, "pub fn {}_request{generics}(&self) -> {ty} {{", name.request);
        line!(code, "__rt::{function}(&self.hook, &{description}, {index})");
        code.close("}");
        Ok(())
    }

    /// Methods of bases that the client has too. One that several interfaces have is
    /// the one whose interface extends the others'; if there is none such, callers have
    /// to say which they mean, by a cast.
    fn inherited<'i>(
        &self,
        interface: &'i Interface<'s>,
    ) -> Result<Vec<(&'i Base<'s>, usize, method::Reader<'s>)>> {
        let names = |id: u64| self.schema.naming.methods[&id].iter().map(|name| &*name.request);
        let own: HashSet<&str> = names(interface.id).collect();
        let mut homes: HashMap<&str, Vec<u64>> = HashMap::new();
        let mut ancestors: HashMap<u64, Vec<u64>> = HashMap::new();
        for base in &interface.bases {
            for name in names(base.id) {
                homes.entry(name).or_default().push(base.id);
            }
            let above = self.schema.all_bases(base.id, base.interface, &base.bindings)?;
            ancestors.insert(base.id, above.iter().map(|above| above.id).collect());
        }
        let hides = |base: u64, other: u64| base == other || ancestors[&base].contains(&other);
        let mut inherited = Vec::new();
        for base in &interface.bases {
            let methods = base.interface.get_methods()?;
            for ((index, method), name) in methods.iter().enumerate().zip(names(base.id)) {
                if !own.contains(name) && homes[name].iter().all(|&other| hides(base.id, other)) {
                    inherited.push((base, index, method));
                }
            }
        }
        Ok(inherited)
    }

    /// Prints the trait that objects implement.
    fn server(&mut self, interface: &Interface<'_>) -> Result<()> {
        let schema = self.schema;
        let mut bases = String::new();
        for base in &interface.direct_bases {
            bases.push_str(" + ");
            bases.push_str(&base_type(schema, base, "Server")?);
        }
        let code = &mut self.code;
        let doc = schema.doc(interface.id);
        code.doc(format_args!("What an object of the interface `{}` does.", interface.label), doc);
        open!(
            code,
            "pub trait Server{}: ::core::marker::Send + ::core::marker::Sync + 'static{bases} {{",
            interface.bounded()
        );
        for method in &interface.methods {
            let title = format_args!(
                "Serves `{}`. Callers of a method that is left out are told so.",
                method.name.schema
            );
            code.doc(title, schema.member_doc(interface.id, method.index));
            let (function, params, index) = (&method.name.function, &method.params, method.index);
            let (results, arguments) = match &method.results {
                Some(results) => (format!(", results: {results}"), "(params, results)"),
                None => (String::new(), "params"),
            };
            open!(code, "fn {function}(&self, params: {params}{results}) -> __rt::Result<()> {{");
            line!(code, "__rt::missing({arguments}, &INTERFACE, {index})");
            code.close("}");
        }
        code.close("}");
        Ok(())
    }

    /// Prints everything that is the same for all interfaces.
    fn interface_macro(&mut self, interface: &Interface<'_>) -> Result<()> {
        let schema = self.schema;
        let words = self.node_words(schema.node(interface.id)?)?;
        let mut direct = Vec::new();
        for base in &interface.direct_bases {
            direct.push(schema.path(base.id)? + "::INTERFACE");
        }
        let mut bases = Vec::new();
        for base in &interface.bases {
            bases.push((base.id, base_type(schema, base, "Client")?));
        }
        let parameters = interface.parameters.join(", ");
        let code = &mut self.code;
        open!(code, "__rt::interface! {{");
        line!(code, "[{parameters}] {:?} {:#x}", interface.label, interface.id);
        line!(code, "node {words};");
        open!(code, "methods [");
        for method in &interface.methods {
            let MethodName { schema, function, .. } = method.name;
            let (index, params) = (method.index, &method.params);
            let (run, results) = match &method.results {
                Some(results) => ("run", format!(", results: {results}")),
                None => ("run_streaming", String::new()),
            };
            line!(code, "{index} {schema:?} {function} {run}(params: {params}{results});");
        }
        code.close("]");
        line!(code, "extends [{}]", direct.join(", "));
        let listed: Vec<String> = bases.iter().map(|(id, ty)| format!("{id:#x} {ty}")).collect();
        line!(code, "bases [{}]", listed.join(", "));
        code.close("}");
        for (_, client) in bases {
            line!(code, "__rt::cast! {{ [{parameters}] {client} }}");
        }
        Ok(())
    }
}

/// The structs of a method. Methods that are declared `-> stream` have no results.
fn method_types(
    schema: &Schema<'_>,
    method: method::Reader<'_>,
    context: &Bindings,
) -> Result<(String, Option<String>)> {
    let params =
        schema.method_struct(method.get_param_struct_type(), method.get_param_brand()?, context)?;
    if method.get_result_struct_type() == STREAM_RESULT {
        return Ok((params, None));
    }
    let results = schema.method_struct(
        method.get_result_struct_type(),
        method.get_result_brand()?,
        context,
    )?;
    Ok((params, Some(results)))
}

fn base_type(schema: &Schema<'_>, base: &Base<'_>, leaf: &str) -> Result<String> {
    let arguments = angled(base.arguments.iter().map(String::as_str));
    Ok(format!("{}::{leaf}{arguments}", schema.path(base.id)?))
}
