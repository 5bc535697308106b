//! What generated code is made of. For generated code only.
//!
//! This is [`data`](crate::data) and what interfaces need in addition. The macros write
//! every path in full for the reason that is given there.

use ::capnp::capability::FromClientHook;
use ::capnp::private::layout::StructBuilder;

use crate::cap::incoming_call::IncomingCall;
use crate::error::Error;

pub use crate::cap::client::Client as AnyClient;
pub use crate::cap::hook::Hook;
pub use crate::cap::incoming_call::IncomingCall as Call;
pub use crate::capnp::any_pointer;
pub use crate::data::{
    Arena, Argument, Clone, Copy, Debug, Eq, FromPointerBuilder, Hash, Introspect, NotInSchema,
    Ord, Owned, PartialEq, PartialOrd, ReadResult, SetterInput, Type, Word, any_pointer_list,
    capability_list, clear, constant, data, data_list, enum_list, enumerant, enumeration, file,
    get, get_any, get_any_option, get_option, get_or, init, init_any, list_list, primitive_list,
    read, read_any, read_any_option, read_option, read_or, set, set_data, set_enum, set_text,
    struct_list, text, text_list, upstream, words, words_of_bytes,
};
pub use crate::error::Result;
pub use crate::typed::{
    Described, FromClient, FromServer, FromTypelessPipeline, Interface, Params,
    Pipeline as AnyPipeline, Pipelined, Request, Results, StreamingRequest, new_client,
};
pub use crate::typed::{client_from_hook, hook_from_client, hook_of, run, run_streaming};
pub use crate::{
    __generated_cast as cast, __generated_interface as interface,
    __generated_structure as structure,
};

/// The result type of methods that are declared `-> stream`, for schemas that name it.
#[rustfmt::skip]
pub mod stream_capnp;

/// The pipeline of a field of results that have not arrived yet.
pub fn pipeline<P: FromTypelessPipeline>(results: &AnyPipeline, field: u16) -> P {
    P::new(results.get_pointer_field(field))
}

/// The pipeline of a group in results that have not arrived yet.
pub fn group_pipeline<P: FromTypelessPipeline>(results: &AnyPipeline) -> P {
    P::new(results.noop())
}

/// Puts a capability into a field.
pub fn set_client(builder: StructBuilder<'_>, field: usize, client: impl FromClientHook) {
    builder.get_pointer_field(field).set_capability(client.into_client_hook());
}

/// A request for the method with this number in `interface`.
pub fn request<P, R>(hook: &Hook, interface: &'static Interface, method: u16) -> Request<P, R> {
    Request::described(hook.client(), interface, method)
}

/// A request for a method that is declared `-> stream`.
pub fn streaming<P>(
    hook: &Hook,
    interface: &'static Interface,
    method: u16,
) -> StreamingRequest<P> {
    StreamingRequest::described(hook.client(), interface, method)
}

/// The outcome of a method that a server does not implement.
pub fn missing<A>(_arguments: A, interface: &'static Interface, method: u16) -> Result<()> {
    let method = interface.method(interface.id(), method);
    Err(Error::unimplemented(format!("this object does not implement {method}")))
}

/// Answers a call of a method that `interface` does not have.
pub fn unknown_method(call: IncomingCall, interface: &'static Interface) {
    let (name, id, method) = (interface.name(), interface.id(), call.method_id());
    call.respond(Err(Error::unimplemented(format!(
        "interface {name} ({id:#018x}) has no method {method}"
    ))));
}

/// Answers a call of an interface that is neither `interface` nor one of those that
/// `interface` extends.
pub fn unknown_interface(call: IncomingCall, interface: &'static Interface) {
    let (name, asked) = (interface.name(), call.interface_id());
    call.respond(Err(Error::unimplemented(format!(
        "this {name} does not implement interface {asked:#018x}"
    ))));
}

/// The types of a struct, without its fields and its union. See
/// [`data::structure!`](crate::data).
#[doc(hidden)]
#[macro_export]
macro_rules! __generated_structure {
    ([$($param:ident),*] $label:literal $($rest:tt)*) => {
        $crate::data::structure! { [$($param),*] $label $($rest)* }

        #[doc = ::core::concat!(
            "What leads to the capabilities in a `", $label, "` that is still to come."
        )]
        pub struct Pipeline<$($param),*> {
            typeless: $crate::generated::AnyPipeline,
            types: ::core::marker::PhantomData<fn() -> ($($param,)*)>,
        }

        impl<$($param),*> ::core::clone::Clone for Pipeline<$($param),*> {
            fn clone(&self) -> Self {
                Self {
                    typeless: ::core::clone::Clone::clone(&self.typeless),
                    types: ::core::marker::PhantomData,
                }
            }
        }

        impl<$($param),*> ::core::fmt::Debug for Pipeline<$($param),*> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple($label).field(&self.typeless).finish()
            }
        }

        impl<$($param),*> $crate::generated::FromTypelessPipeline for Pipeline<$($param),*> {
            fn new(typeless: $crate::generated::AnyPipeline) -> Self {
                Self { typeless, types: ::core::marker::PhantomData }
            }
        }

        impl<$($param),*> $crate::generated::Pipelined for Owned<$($param),*> {
            type Pipeline = Pipeline<$($param),*>;
        }
    };
}

/// The types of an interface, without its methods:
///
/// ```text
/// interface! {
///     [K, V] "file.capnp:Map" 0x1234
///     node words([…]);
///     methods [
///         0 "get" get run(params: GetParams<K>, results: GetResults<V>);
///         1 "push" push run_streaming(params: PushParams<K>);
///     ]
///     extends [crate::file_capnp::base::INTERFACE]    // directly
///     bases [0x5678 crate::file_capnp::base::Client]  // all of them
/// }
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __generated_interface {
    (
        [$($param:ident),*] $label:literal $id:literal
        node $node:expr;
        methods [$(
            $number:literal $name:literal $method:ident $run:ident(
                $($argument:ident: $type:ty),*
            );
        )*]
        extends [$($direct:path),*]
        bases [$($base_id:literal $base:ty),*]
    ) => {
        #[doc = ::core::concat!("The interface `", $label, "` as its schema declares it.")]
        pub static INTERFACE: $crate::generated::Interface = {
            #[allow(long_running_const_eval)]
            static NODE: &[$crate::generated::Word] = &$node;
            static ARENA: $crate::generated::Arena = $crate::generated::Arena::new(NODE);
            static BASES: &[&$crate::generated::Interface] = &[$(&$direct),*];
            $crate::generated::Interface::new($id, $label, &[$($name),*], BASES, &ARENA)
        };

        #[doc = ::core::concat!("A capability of the interface `", $label, "`.")]
        pub struct Client<$($param),*> {
            hook: $crate::generated::Hook,
            types: ::core::marker::PhantomData<fn() -> ($($param,)*)>,
        }

        impl<$($param: $crate::generated::Owned + 'static),*> Client<$($param),*> {
            /// Makes an object of this process callable. `server` may also be an `Arc`
            /// or a `Box` of an object.
            pub fn from_server<ServerImpl: Server<$($param),*>>(server: ServerImpl) -> Self {
                $crate::generated::new_client(server)
            }

            /// The same capability as a client of another interface. Nothing is
            /// checked: if the object does not implement that interface, calls fail
            /// with `unimplemented`.
            pub fn cast_to<Other: $crate::generated::FromClient>(self) -> Other {
                <Other as $crate::generated::FromClient>::from_client(self.hook.into_client())
            }
        }

        impl<$($param),*> ::core::clone::Clone for Client<$($param),*> {
            fn clone(&self) -> Self {
                Self {
                    hook: ::core::clone::Clone::clone(&self.hook),
                    types: ::core::marker::PhantomData,
                }
            }
        }

        impl<$($param),*> ::core::fmt::Debug for Client<$($param),*> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple($label).field(self.hook.client()).finish()
            }
        }

        impl<$($param: 'static),*> $crate::generated::FromClient for Client<$($param),*> {
            fn from_client(client: $crate::generated::AnyClient) -> Self {
                Self {
                    hook: $crate::generated::hook_from_client(client),
                    types: ::core::marker::PhantomData,
                }
            }

            fn into_client(self) -> $crate::generated::AnyClient {
                self.hook.into_client()
            }

            fn as_client(&self) -> &$crate::generated::AnyClient {
                self.hook.client()
            }
        }

        impl<$($param: 'static),*> $crate::generated::Described for Client<$($param),*> {
            fn interface() -> &'static $crate::generated::Interface {
                &INTERFACE
            }
        }

        impl<$($param),*> $crate::generated::upstream::capability::FromClientHook
            for Client<$($param),*>
        {
            fn new(
                hook: ::std::boxed::Box<
                    $crate::generated::upstream::capability::DynClientHook,
                >,
            ) -> Self {
                Self {
                    hook: $crate::generated::client_from_hook(&*hook),
                    types: ::core::marker::PhantomData,
                }
            }

            fn into_client_hook(
                self,
            ) -> ::std::boxed::Box<$crate::generated::upstream::capability::DynClientHook> {
                $crate::generated::hook_of(self.hook)
            }

            fn as_client_hook(
                &self,
            ) -> &$crate::generated::upstream::capability::DynClientHook {
                &self.hook
            }
        }

        impl<$($param),*> $crate::generated::FromTypelessPipeline for Client<$($param),*> {
            fn new(typeless: $crate::generated::AnyPipeline) -> Self {
                Self {
                    hook: $crate::generated::hook_from_client(typeless.as_cap()),
                    types: ::core::marker::PhantomData,
                }
            }
        }

        impl<$($param),*> $crate::generated::upstream::traits::HasTypeId for Client<$($param),*> {
            const TYPE_ID: u64 = $id;
        }

        impl<'a, $($param),*> $crate::generated::upstream::traits::FromPointerReader<'a>
            for Client<$($param),*>
        {
            fn get_from_pointer(
                reader: &$crate::generated::upstream::private::layout::PointerReader<'a>,
                _default: ::core::option::Option<&'a [$crate::generated::Word]>,
            ) -> $crate::generated::ReadResult<Self> {
                ::core::result::Result::map(
                    reader.get_capability(),
                    <Self as $crate::generated::upstream::capability::FromClientHook>::new,
                )
            }
        }

        impl<'a, $($param: 'static),*> $crate::generated::FromPointerBuilder<'a>
            for Client<$($param),*>
        {
            fn init_pointer(
                _builder: $crate::generated::upstream::private::layout::PointerBuilder<'a>,
                _size: u32,
            ) -> Self {
                $crate::generated::FromClient::from_client($crate::generated::AnyClient::null())
            }

            fn get_from_pointer(
                builder: $crate::generated::upstream::private::layout::PointerBuilder<'a>,
                _default: ::core::option::Option<&'a [$crate::generated::Word]>,
            ) -> $crate::generated::ReadResult<Self> {
                ::core::result::Result::map(
                    builder.get_capability(),
                    <Self as $crate::generated::upstream::capability::FromClientHook>::new,
                )
            }
        }

        impl<$($param: $crate::generated::Owned + 'static),*>
            $crate::generated::SetterInput<Owned<$($param),*>> for Client<$($param),*>
        {
            fn set_pointer_builder(
                mut builder: $crate::generated::upstream::private::layout::PointerBuilder<'_>,
                client: Self,
                _canonicalize: bool,
            ) -> $crate::generated::ReadResult<()> {
                builder.set_capability(
                    $crate::generated::upstream::capability::FromClientHook::into_client_hook(
                        client,
                    ),
                );
                ::core::result::Result::Ok(())
            }
        }

        $crate::__data_owned! { [$($param),*] "interface" $label }

        impl<$($param),*> $crate::generated::Introspect for Owned<$($param),*> {
            fn introspect() -> $crate::generated::Type {
                $crate::generated::upstream::introspect::TypeVariant::Capability.into()
            }
        }

        impl<$($param: $crate::generated::Owned + 'static),*> $crate::generated::Owned
            for Owned<$($param),*>
        {
            type Reader<'a> = Client<$($param),*>;
            type Builder<'a> = Client<$($param),*>;
        }

        impl<$($param),*> $crate::generated::Pipelined for Owned<$($param),*> {
            type Pipeline = Client<$($param),*>;
        }

        impl<
            $($param: $crate::generated::Owned + 'static,)*
            ServerImpl: Server<$($param),*> + ?Sized,
        > Server<$($param),*> for ::std::sync::Arc<ServerImpl>
        {
            $(
                fn $method(&self, $($argument: $type),*) -> $crate::generated::Result<()> {
                    Server::$method(&**self, $($argument),*)
                }
            )*
        }

        impl<
            $($param: $crate::generated::Owned + 'static,)*
            ServerImpl: Server<$($param),*> + ?Sized,
        > Server<$($param),*> for ::std::boxed::Box<ServerImpl>
        {
            $(
                fn $method(&self, $($argument: $type),*) -> $crate::generated::Result<()> {
                    Server::$method(&**self, $($argument),*)
                }
            )*
        }

        impl<
            $($param: $crate::generated::Owned + 'static,)*
            ServerImpl: Server<$($param),*> + ?Sized,
        > $crate::generated::FromServer<ServerImpl> for Client<$($param),*>
        {
            fn dispatch(server: &ServerImpl, call: $crate::generated::Call) {
                match call.interface_id() {
                    $id => match call.method_id() {
                        $(
                            $number => $crate::generated::$run(call, |$($argument),*| {
                                Server::$method(server, $($argument),*)
                            }),
                        )*
                        _ => $crate::generated::unknown_method(call, &INTERFACE),
                    },
                    $(
                        $base_id => {
                            <$base as $crate::generated::FromServer<ServerImpl>>::dispatch(
                                server, call,
                            );
                        }
                    )*
                    _ => $crate::generated::unknown_interface(call, &INTERFACE),
                }
            }
        }
    };
}

/// Converts a client into one of an interface that its own interface extends.
#[doc(hidden)]
#[macro_export]
macro_rules! __generated_cast {
    ([$($param:ident),*] $base:ty) => {
        impl<$($param: $crate::generated::Owned + 'static),*>
            ::core::convert::From<Client<$($param),*>> for $base
        {
            fn from(client: Client<$($param),*>) -> Self {
                client.cast_to()
            }
        }
    };
}
