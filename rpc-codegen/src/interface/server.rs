//! The server of an interface: the trait that objects implement, and how a call
//! finds its method.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Generator, Method, id_literal, internal};
use crate::docs;
use crate::error::Result;
use crate::types::angled;

impl Generator<'_, '_> {
    pub(super) fn server(&self) -> Result<TokenStream> {
        let (runtime, angle, bounds) = (&self.runtime, self.angle(), self.bounds());
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

    pub(super) fn dispatch(&self) -> Result<TokenStream> {
        let (runtime, angle) = (&self.runtime, self.angle());
        let (id, label) = (self.type_id(), &self.label);
        let bounds = self.bounds();
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
