//! The Rust code of one interface.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::{method, node};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, Item, Type};

use crate::docs;
use crate::error::{Error, Result};
use crate::generate::Settings;
use crate::names;
use crate::schema::{Base, Bindings, STREAM_RESULT, Schema, angled};

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
    /// The crate `rpc_core`.
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

    /// `where K: Owned + 'static, …`, with more bounds behind.
    fn bounds(&self, more: &TokenStream) -> TokenStream {
        let (parameters, facade) = (&self.parameters, &self.facade);
        quote!(where #(#parameters: #facade::traits::Owned + 'static,)* #more)
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
        let text = quote!(#ty).to_string();
        let words: Vec<&str> =
            text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).collect();
        let mentioned: Vec<&Ident> = self
            .parameters
            .iter()
            .filter(|parameter| words.contains(&parameter.to_string().as_str()))
            .collect();
        if mentioned.is_empty() { quote!() } else { quote!(<#(#mentioned),*>) }
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

    // ---- the client

    fn client(&self) -> Result<TokenStream> {
        let (runtime, angle, label) = (&self.runtime, self.angle(), &self.label);
        let parameters = &self.parameters;
        let doc = docs::sanitized(self.schema.doc(self.id));
        let title = format!(" A capability of the interface `{label}`.");
        let bounds = self.bounds(&quote!());
        let mut requests = TokenStream::new();
        for (ordinal, method) in self.interface.get_methods()?.iter().enumerate() {
            requests.extend(self.request(self.id, ordinal, method, &self.context)?);
        }
        for (base, ordinal, method) in self.inherited()? {
            requests.extend(self.request(base.id, ordinal, method, &base.bindings)?);
        }
        Ok(quote! {
            #[doc = #title]
            #(#[doc = #doc])*
            pub struct Client #angle {
                hook: #runtime::hook::Hook,
                types: ::core::marker::PhantomData<fn() -> (#(#parameters,)*)>,
            }
            impl #angle Client #angle #bounds {
                /// Makes an object of this process callable. It may also be an
                /// `Arc` or a `Box` of one.
                pub fn from_server<ServerImpl>(server: ServerImpl) -> Self
                where
                    ServerImpl: Server #angle,
                {
                    #runtime::typed::new_client(server)
                }

                /// The same capability as one of another interface. Nothing is
                /// checked: if the object does not implement it, calls fail as
                /// `unimplemented`.
                pub fn cast_to<Other: #runtime::typed::FromClient>(self) -> Other {
                    Other::from_client(self.hook.into_client())
                }

                #requests
            }
        })
    }

    /// Methods of bases that the client has too. One that several interfaces
    /// have is the one whose interface extends the others'; if there is none
    /// such, callers have to say which they mean, by a cast.
    fn inherited(&self) -> Result<Vec<(&Base<'_>, usize, method::Reader<'_>)>> {
        let mut own = HashSet::new();
        for method in self.interface.get_methods()? {
            own.insert(names::snake(method.get_name()?.to_str()?));
        }
        let mut homes: HashMap<String, Vec<u64>> = HashMap::new();
        let mut ancestors: HashMap<u64, Vec<u64>> = HashMap::new();
        for base in &self.bases {
            for method in base.interface.get_methods()? {
                homes.entry(names::snake(method.get_name()?.to_str()?)).or_default().push(base.id);
            }
            let above = self.schema.all_bases(base.id, base.interface, &base.bindings)?;
            ancestors.insert(base.id, above.iter().map(|above| above.id).collect());
        }
        let hides = |base: u64, other: u64| {
            base == other || ancestors.get(&base).is_some_and(|above| above.contains(&other))
        };
        let mut inherited = Vec::new();
        for base in &self.bases {
            for (ordinal, method) in base.interface.get_methods()?.iter().enumerate() {
                let name = names::snake(method.get_name()?.to_str()?);
                if !own.contains(&name) && homes[&name].iter().all(|&other| hides(base.id, other)) {
                    inherited.push((base, ordinal, method));
                }
            }
        }
        Ok(inherited)
    }

    fn request(
        &self,
        interface: u64,
        ordinal: usize,
        method: method::Reader<'_>,
        context: &Bindings,
    ) -> Result<TokenStream> {
        // A method's own parameters are the caller's to choose.
        let mut context = context.clone();
        let mut generics = Vec::new();
        for parameter in method.get_implicit_parameters()? {
            let mut name = parameter.get_name()?.to_str()?.to_owned();
            while self.parameters.iter().any(|taken| taken == name.as_str())
                || names::USED_TYPES.contains(&name.as_str())
            {
                name.push('_');
            }
            generics.push(format_ident!("{name}"));
            context.method.push(name);
        }
        let index = ordinal;
        let Method { name, ordinal, params, results, .. } =
            self.method(ordinal, method, &context)?;
        let (runtime, facade) = (&self.runtime, &self.facade);
        let ident = format_ident!("{}_request", names::snake(&name));
        let id = id_literal(interface);
        let title = format!(" A call of `{}.{name}`.", self.schema.label(interface));
        let doc = docs::sanitized(self.schema.member_doc(interface, index));
        let generics = if generics.is_empty() {
            quote!()
        } else {
            quote!(<#(#generics: #facade::traits::Owned + 'static),*>)
        };
        let (request, arguments) = match results {
            Some(results) => (quote!(Request), quote!(<#params, #results>)),
            None => (quote!(StreamingRequest), quote!(<#params>)),
        };
        Ok(quote! {
            #[doc = #title]
            #(#[doc = #doc])*
            pub fn #ident #generics (&self) -> #runtime::typed::#request #arguments {
                #runtime::typed::#request::new(self.hook.client(), #id, #ordinal)
            }
        })
    }

    fn client_traits(&self) -> Result<TokenStream> {
        let (runtime, facade, angle) = (&self.runtime, &self.facade, self.angle());
        let parameters = &self.parameters;
        let (id, label) = (self.type_id(), &self.label);
        let bounds = self.bounds(&quote!());
        let statics = quote!(where #(#parameters: 'static,)*);
        let generated = quote!(#runtime::typed::generated);
        let with_lifetime = quote!(<'a, #(#parameters),*>);
        let mut code = quote! {
            impl #angle ::core::clone::Clone for Client #angle {
                fn clone(&self) -> Self {
                    Self { hook: self.hook.clone(), types: ::core::marker::PhantomData }
                }
            }
            impl #angle ::core::fmt::Debug for Client #angle {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_tuple(#label).field(self.hook.client()).finish()
                }
            }
            impl #angle #runtime::typed::FromClient for Client #angle #statics {
                fn from_client(client: #runtime::Client) -> Self {
                    Self {
                        hook: #generated::hook_from_client(client),
                        types: ::core::marker::PhantomData,
                    }
                }
                fn into_client(self) -> #runtime::Client {
                    self.hook.into_client()
                }
                fn as_client(&self) -> &#runtime::Client {
                    self.hook.client()
                }
            }
            impl #angle #facade::capability::FromClientHook for Client #angle {
                fn new(hook: ::std::boxed::Box<#facade::capability::DynClientHook>) -> Self {
                    Self {
                        hook: #generated::client_from_hook(&*hook),
                        types: ::core::marker::PhantomData,
                    }
                }
                fn into_client_hook(self) -> ::std::boxed::Box<#facade::capability::DynClientHook> {
                    #generated::hook_of(self.hook)
                }
                fn as_client_hook(&self) -> &#facade::capability::DynClientHook {
                    &self.hook
                }
            }
            impl #angle #facade::capability::FromTypelessPipeline for Client #angle {
                fn new(typeless: #facade::any_pointer::Pipeline) -> Self {
                    Self {
                        hook: #generated::hook_from_client(typeless.as_cap()),
                        types: ::core::marker::PhantomData,
                    }
                }
            }
            impl #angle #facade::traits::HasTypeId for Client #angle {
                const TYPE_ID: u64 = #id;
            }
            impl #with_lifetime #facade::traits::FromPointerReader<'a> for Client #angle #bounds {
                fn get_from_pointer(
                    reader: &#facade::private::layout::PointerReader<'a>,
                    _default: ::core::option::Option<&'a [#facade::Word]>,
                ) -> #facade::Result<Self> {
                    ::core::result::Result::Ok(#facade::capability::FromClientHook::new(
                        reader.get_capability()?,
                    ))
                }
            }
            impl #with_lifetime #facade::traits::FromPointerBuilder<'a> for Client #angle #bounds {
                fn init_pointer(
                    _builder: #facade::private::layout::PointerBuilder<'a>,
                    _size: u32,
                ) -> Self {
                    #runtime::typed::FromClient::from_client(#runtime::Client::null())
                }
                fn get_from_pointer(
                    builder: #facade::private::layout::PointerBuilder<'a>,
                    _default: ::core::option::Option<&'a [#facade::Word]>,
                ) -> #facade::Result<Self> {
                    ::core::result::Result::Ok(#facade::capability::FromClientHook::new(
                        builder.get_capability()?,
                    ))
                }
            }
            impl #angle #facade::traits::SetterInput<Owned #angle> for Client #angle #bounds {
                fn set_pointer_builder(
                    mut builder: #facade::private::layout::PointerBuilder<'_>,
                    input: Self,
                    _canonicalize: bool,
                ) -> #facade::Result<()> {
                    builder.set_capability(
                        #facade::capability::FromClientHook::into_client_hook(input),
                    );
                    ::core::result::Result::Ok(())
                }
            }
        };
        for base in &self.bases {
            let client = self.base_type(base, "Client")?;
            code.extend(quote! {
                impl #angle ::core::convert::From<Client #angle> for #client #bounds {
                    fn from(client: Client #angle) -> Self {
                        client.cast_to()
                    }
                }
            });
        }
        Ok(code)
    }

    fn base_type(&self, base: &Base<'_>, leaf: &str) -> Result<Type> {
        self.ty(&format!("{}::{leaf}{}", self.schema.path(base.id)?, angled(&base.arguments)))
    }

    /// The type by which generic structs know the interface.
    fn owned(&self) -> TokenStream {
        let (facade, angle, bounds) = (&self.facade, self.angle(), self.bounds(&quote!()));
        let parameters = &self.parameters;
        quote! {
            /// The interface as a type argument.
            pub struct Owned #angle {
                types: ::core::marker::PhantomData<fn() -> (#(#parameters,)*)>,
            }
            impl #angle ::core::clone::Clone for Owned #angle {
                fn clone(&self) -> Self {
                    *self
                }
            }
            impl #angle ::core::marker::Copy for Owned #angle {}
            impl #angle #facade::introspect::Introspect for Owned #angle #bounds {
                fn introspect() -> #facade::introspect::Type {
                    #facade::introspect::TypeVariant::Capability.into()
                }
            }
            impl #angle #facade::traits::Owned for Owned #angle #bounds {
                type Reader<'a> = Client #angle;
                type Builder<'a> = Client #angle;
            }
            impl #angle #facade::traits::Pipelined for Owned #angle #bounds {
                type Pipeline = Client #angle;
            }
        }
    }

    // ---- the server

    fn server(&self) -> Result<TokenStream> {
        let (runtime, angle, bounds) = (&self.runtime, self.angle(), self.bounds(&quote!()));
        let title = format!(" What an object of the interface `{}` does.", self.label);
        let doc = docs::sanitized(self.schema.doc(self.id));
        let mut bases = Vec::new();
        for base in &self.direct_bases {
            bases.push(self.base_type(base, "Server")?);
        }
        let mut methods = TokenStream::new();
        let mut forwards = TokenStream::new();
        for (index, method) in self.methods()?.iter().enumerate() {
            let Method { name, ident, params, results, .. } = method;
            let title = format!(" Serves `{name}`. If it is not written, callers are told so.");
            let doc = docs::sanitized(self.schema.member_doc(self.id, index));
            let missing = format!("this {} has no {name}", self.label);
            let (params_alias, params_generics) = (method.params_alias(), self.mentioned(params));
            let (results_alias, argument) = match results {
                Some(results) => {
                    let (alias, generics) = (method.results_alias(), self.mentioned(results));
                    (quote!(results: #alias #generics), quote!(results))
                }
                None => (quote!(), quote!()),
            };
            let head = quote! {
                fn #ident(
                    &self,
                    params: #params_alias #params_generics,
                    #results_alias
                ) -> #runtime::Result<()>
            };
            methods.extend(quote! {
                #[doc = #title]
                #(#[doc = #doc])*
                #head {
                    let _ = (params, #argument);
                    ::core::result::Result::Err(#runtime::Error::unimplemented(#missing))
                }
            });
            forwards.extend(quote! {
                #head {
                    <ServerImpl as Server #angle>::#ident(&**self, params, #argument)
                }
            });
        }
        let generics = self.angle_and(&quote!(ServerImpl: Server #angle + ?Sized));
        let forwarded =
            [quote!(::std::sync::Arc<ServerImpl>), quote!(::std::boxed::Box<ServerImpl>)];
        Ok(quote! {
            #[doc = #title]
            #(#[doc = #doc])*
            pub trait Server #angle:
                ::core::marker::Send + ::core::marker::Sync + 'static #(+ #bases)*
            #bounds
            {
                #methods
            }
            #(
                impl #generics Server #angle for #forwarded #bounds {
                    #forwards
                }
            )*
        })
    }

    fn dispatch(&self) -> Result<TokenStream> {
        let (runtime, angle) = (&self.runtime, self.angle());
        let (id, label) = (self.type_id(), &self.label);
        let bounds = self.bounds(&quote!());
        let generics = self.angle_and(&quote!(ServerImpl: Server #angle + ?Sized));
        let generated = quote!(#runtime::typed::generated);
        let mut arms = TokenStream::new();
        for method in self.methods()? {
            let Method { ident, ordinal, results, .. } = method;
            arms.extend(if results.is_some() {
                quote! {
                    #ordinal => #generated::run(call, |params, results| {
                        <ServerImpl as Server #angle>::#ident(server, params, results)
                    }),
                }
            } else {
                quote! {
                    #ordinal => #generated::run_streaming(call, |params| {
                        <ServerImpl as Server #angle>::#ident(server, params)
                    }),
                }
            });
        }
        let mut base_arms = TokenStream::new();
        for base in &self.bases {
            let id = id_literal(base.id);
            let mut arguments = base.arguments.clone();
            arguments.push("ServerImpl".to_owned());
            let function: syn::ExprPath = syn::parse_str(&format!(
                "{}::dispatch_methods::{}",
                self.schema.path(base.id)?,
                angled(&arguments)
            ))
            .map_err(|error| internal(self.schema, self.id, &error.to_string()))?;
            base_arms.extend(quote!(#id => #function(server, call),));
        }
        let turbofish = self.angle_and(&quote!(ServerImpl));
        let turbofish = quote!(::#turbofish);
        Ok(quote! {
            impl #generics #runtime::typed::FromServer<ServerImpl> for Client #angle #bounds {
                fn dispatch(server: &ServerImpl, call: #runtime::IncomingCall) {
                    match call.interface_id() {
                        #id => dispatch_methods #turbofish(server, call),
                        #base_arms
                        _ => #generated::unknown_interface(call, #label),
                    }
                }
            }
            /// Runs the method that a call of this very interface asks for.
            #[doc(hidden)]
            pub fn dispatch_methods #generics (
                server: &ServerImpl,
                call: #runtime::IncomingCall,
            ) #bounds {
                match call.method_id() {
                    #arms
                    _ => #generated::unknown_method(call, #label, #id),
                }
            }
        })
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
