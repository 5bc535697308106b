//! The client of an interface: its type, its requests, and the traits by which it
//! can be part of messages.

use std::collections::{HashMap, HashSet};

use capnp::schema_capnp::method;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::{Generator, Method, id_literal};
use crate::docs;
use crate::error::Result;
use crate::names;
use crate::types::{Base, Bindings};

impl Generator<'_, '_> {
    pub(super) fn client(&self) -> Result<TokenStream> {
        let (runtime, angle, label) = (&self.runtime, self.angle(), &self.label);
        let parameters = &self.parameters;
        let doc = docs::sanitized(self.schema.doc(self.id));
        let title = format!(" A capability of the interface `{label}`.");
        let bounds = self.bounds();
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

    pub(super) fn client_traits(&self) -> Result<TokenStream> {
        let (runtime, facade, angle) = (&self.runtime, &self.facade, self.angle());
        let parameters = &self.parameters;
        let (id, label) = (self.type_id(), &self.label);
        let bounds = self.bounds();
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

    /// The type by which generic structs know the interface.
    pub(super) fn owned(&self) -> TokenStream {
        let (facade, angle, bounds) = (&self.facade, self.angle(), self.bounds());
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
}
