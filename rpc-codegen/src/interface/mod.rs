//! The Rust code of one interface.

mod client;
mod server;

use capnp::schema_capnp::{method, node};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, Item, Type};

use crate::error::{Error, Result};
use crate::mentioned::Mentioned;
use crate::names;
use crate::schema::{STREAM_RESULT, Schema};
use crate::settings::Settings;
use crate::types::{Base, Bindings, angled};

/// Generates the items of an interface's module, except for what is nested in it.
pub(crate) fn items(schema: &Schema<'_>, settings: &Settings, id: u64) -> Result<Vec<Item>> {
    let node = schema.node(id)?;
    let node::Interface(interface) = node.which()? else {
        return Err(internal(schema, id, "not an interface"));
    };
    let context = schema.inside(id)?;
    let bases = schema.all_bases(id, interface, &context)?;
    let parameters = schema.parameters(id)?;
    let generator = Generator {
        schema,
        id,
        label: schema.label(id),
        interface,
        direct_bases: schema.direct_bases(interface, &context)?,
        context,
        bases,
        parameters: parameters.iter().map(|name| format_ident!("{name}")).collect(),
        runtime: tokens(schema, id, &settings.runtime)?,
        facade: tokens(schema, id, &schema.facade)?,
    };
    let mut code = generator.aliases()?;
    code.extend(generator.client()?);
    code.extend(generator.client_traits()?);
    code.extend(generator.owned());
    code.extend(generator.server()?);
    code.extend(generator.dispatch()?);
    let file: syn::File =
        syn::parse2(code).map_err(|error| internal(schema, id, &error.to_string()))?;
    Ok(file.items)
}

struct Generator<'s, 'a> {
    schema: &'s Schema<'a>,
    id: u64,
    label: String,
    interface: node::interface::Reader<'a>,
    context: Bindings,
    direct_bases: Vec<Base<'a>>,
    bases: Vec<Base<'a>>,
    parameters: Vec<Ident>,
    /// The path of the crate `capnp-threads`.
    runtime: TokenStream,
    /// The capnp crate as generated code sees it.
    facade: TokenStream,
}

/// What a method's code is made of.
struct Method {
    /// In the schema.
    name: String,
    /// In Rust.
    ident: Ident,
    ordinal: u16,
    params: Type,
    /// `None` for `-> stream`.
    results: Option<Type>,
}

impl Method {
    /// What the parameters are called in the interface's module.
    fn params_alias(&self) -> Ident {
        format_ident!("{}Params", names::capitalized(&self.name))
    }

    fn results_alias(&self) -> Ident {
        format_ident!("{}Results", names::capitalized(&self.name))
    }
}

impl Generator<'_, '_> {
    // ---- names and types

    /// `<K, V>`
    fn angle(&self) -> TokenStream {
        let parameters = &self.parameters;
        if parameters.is_empty() { quote!() } else { quote!(<#(#parameters),*>) }
    }

    /// `where K: Owned + 'static, …`
    fn bounds(&self) -> TokenStream {
        let (parameters, facade) = (&self.parameters, &self.facade);
        quote!(where #(#parameters: #facade::traits::Owned + 'static,)*)
    }

    /// `<K, V, more>`
    fn angle_and(&self, more: &TokenStream) -> TokenStream {
        let parameters = &self.parameters;
        quote!(<#(#parameters,)* #more>)
    }

    fn type_id(&self) -> TokenStream {
        id_literal(self.id)
    }

    fn ty(&self, text: &str) -> Result<Type> {
        syn::parse_str(text)
            .map_err(|error| internal(self.schema, self.id, &format!("{text}: {error}")))
    }

    fn method(
        &self,
        ordinal: usize,
        method: method::Reader<'_>,
        context: &Bindings,
    ) -> Result<Method> {
        let name = method.get_name()?.to_str()?.to_owned();
        let params = self.schema.method_struct(
            method.get_param_struct_type(),
            method.get_param_brand()?,
            context,
        )?;
        let results = if method.get_result_struct_type() == STREAM_RESULT {
            None
        } else {
            let results = self.schema.method_struct(
                method.get_result_struct_type(),
                method.get_result_brand()?,
                context,
            )?;
            Some(self.ty(&results)?)
        };
        Ok(Method {
            ident: format_ident!("{}", names::method(&name)),
            // The compiler numbers methods with 16 bits.
            ordinal: u16::try_from(ordinal).unwrap_or(u16::MAX),
            params: self.ty(&params)?,
            results,
            name,
        })
    }

    /// The interface's own methods, as servers see them.
    fn methods(&self) -> Result<Vec<Method>> {
        self.interface
            .get_methods()?
            .iter()
            .enumerate()
            .map(|(ordinal, method)| self.method(ordinal, method, &self.context))
            .collect()
    }

    /// Those of the interface's parameters that a type mentions: type aliases
    /// may not have others.
    fn mentioned(&self, ty: &Type) -> TokenStream {
        let mentioned = Mentioned::by_type(ty, &self.parameters);
        if mentioned.is_empty() { quote!() } else { quote!(<#(#mentioned),*>) }
    }

    fn base_type(&self, base: &Base<'_>, leaf: &str) -> Result<Type> {
        self.ty(&format!("{}::{leaf}{}", self.schema.path(base.id)?, angled(&base.arguments)))
    }

    // ---- what methods are given

    fn aliases(&self) -> Result<TokenStream> {
        let runtime = &self.runtime;
        let mut code = TokenStream::new();
        for method in self.methods()? {
            let params = &method.params;
            let generics = self.mentioned(params);
            let alias = method.params_alias();
            let doc = format!(" What a server's `{}` is called with.", method.ident);
            code.extend(quote! {
                #[doc = #doc]
                pub type #alias #generics = #runtime::typed::Params<#params>;
            });
            if let Some(results) = &method.results {
                let generics = self.mentioned(results);
                let alias = method.results_alias();
                let doc = format!(" What a server's `{}` returns.", method.ident);
                code.extend(quote! {
                    #[doc = #doc]
                    pub type #alias #generics = #runtime::typed::Results<#results>;
                });
            }
        }
        Ok(code)
    }
}

fn id_literal(id: u64) -> TokenStream {
    let grouped = format!(
        "0x{:04x}_{:04x}_{:04x}_{:04x}",
        id >> 48,
        (id >> 32) & 0xffff,
        (id >> 16) & 0xffff,
        id & 0xffff
    );
    let literal = syn::LitInt::new(&grouped, proc_macro2::Span::call_site());
    quote!(#literal)
}

fn tokens(schema: &Schema<'_>, id: u64, path: &str) -> Result<TokenStream> {
    path.parse().map_err(|_| Error::Unsupported {
        element: schema.label(id),
        problem: format!("`{path}` is not a path to the runtime library"),
    })
}

fn internal(schema: &Schema<'_>, id: u64, problem: &str) -> Error {
    Error::Internal { file: schema.label(id), problem: problem.to_owned() }
}
