//! Capabilities in content, represented by their indices.
//!
//! Generated code of the capnp crate keeps the capabilities of a message in a table of
//! `Box<dyn ClientHook>`. To copy content, or to find out where in it a capability is,
//! it is enough to have a table of hooks that know only their index.

use capnp::any_pointer;
use capnp::capability::{Promise, RemotePromise};
use capnp::private::capability::{ClientHook, PipelineHook, PipelineOp, RequestHook};
use capnp::private::layout::{PointerBuilder, PointerReader, StructBuilder, StructSize};
use capnp::traits::{FromPointerBuilder, FromPointerReader};

/// The capnp crate's table of the capabilities of one message.
pub type CapTable = Vec<Option<Box<dyn ClientHook>>>;

/// Implements the capnp crate's `ClientHook` for a type that is only held and passed
/// on: calling it would require that crate's event loop. `$broken` makes the hook to
/// which a pipeline of such a call leads.
macro_rules! hook_without_calls {
    ($of:ty, $this:ident, add_ref: $add_ref:expr, get_brand: $brand:expr, get_ptr: $ptr:expr, broken: $broken:expr) => {
        impl ::capnp::private::capability::ClientHook for $of {
            fn add_ref(&self) -> Box<dyn ::capnp::private::capability::ClientHook> {
                let $this = self;
                $add_ref
            }

            fn new_call(
                &self,
                _interface_id: u64,
                _method_id: u16,
                _size_hint: Option<::capnp::MessageSize>,
            ) -> ::capnp::capability::Request<
                ::capnp::any_pointer::Owned,
                ::capnp::any_pointer::Owned,
            > {
                ::capnp::capability::Request::new(Box::new($crate::cap::indices::Refused::new(
                    $broken,
                )))
            }

            fn call(
                &self,
                _interface_id: u64,
                _method_id: u16,
                _params: Box<dyn ::capnp::private::capability::ParamsHook>,
                _results: Box<dyn ::capnp::private::capability::ResultsHook>,
            ) -> ::capnp::capability::Promise<(), ::capnp::Error> {
                ::capnp::capability::Promise::err($crate::cap::indices::refusal())
            }

            fn get_brand(&self) -> usize {
                let $this = self;
                $brand
            }

            fn get_ptr(&self) -> usize {
                let $this = self;
                $ptr
            }

            fn get_resolved(&self) -> Option<Box<dyn ::capnp::private::capability::ClientHook>> {
                None
            }

            fn when_more_resolved(
                &self,
            ) -> Option<
                ::capnp::capability::Promise<
                    Box<dyn ::capnp::private::capability::ClientHook>,
                    ::capnp::Error,
                >,
            > {
                None
            }

            fn when_resolved(&self) -> ::capnp::capability::Promise<(), ::capnp::Error> {
                ::capnp::capability::Promise::ok(())
            }
        }
    };
}
pub(crate) use hook_without_calls;

/// A hook that knows only its index in a table, and so shows which capability a pointer
/// names.
struct IndexHook(usize);

hook_without_calls! {
    IndexHook, this,
    add_ref: index_hook(this.0),
    get_brand: { let _ = this; 0 },
    get_ptr: this.0,
    broken: || index_hook(usize::MAX)
}

/// A table of `len` entries to be used with [`index_of`].
pub(crate) fn index_table(len: usize) -> CapTable {
    (0..len).map(|index| Some(index_hook(index))).collect()
}

/// The hook that an [`index_table`] has at an index.
pub(crate) fn index_hook(index: usize) -> Box<dyn ClientHook> {
    Box::new(IndexHook(index))
}

/// The index of a hook that came out of an [`index_table`].
pub(crate) fn index_of(hook: &dyn ClientHook) -> usize {
    hook.get_ptr()
}

/// An untyped pointer, to walk a message without its schema.
pub(crate) struct Pointer<'a>(pub(crate) PointerReader<'a>);

impl<'a> FromPointerReader<'a> for Pointer<'a> {
    fn get_from_pointer(
        reader: &PointerReader<'a>,
        _default: Option<&'a [capnp::Word]>,
    ) -> capnp::Result<Self> {
        Ok(Pointer(*reader))
    }
}

/// A struct of two pointers and nothing else, which can be built without a schema.
pub(crate) struct TwoPointers<'a>(StructBuilder<'a>);

impl TwoPointers<'_> {
    const SIZE: StructSize = StructSize { data: 0, pointers: 2 };

    pub(crate) fn first(&mut self) -> any_pointer::Builder<'_> {
        any_pointer::Builder::new(self.0.reborrow().get_pointer_field(0))
    }

    pub(crate) fn second(&mut self) -> any_pointer::Builder<'_> {
        any_pointer::Builder::new(self.0.reborrow().get_pointer_field(1))
    }
}

impl<'a> FromPointerBuilder<'a> for TwoPointers<'a> {
    fn init_pointer(builder: PointerBuilder<'a>, _: u32) -> Self {
        TwoPointers(builder.init_struct(Self::SIZE))
    }

    fn get_from_pointer(
        builder: PointerBuilder<'a>,
        default: Option<&'a [capnp::Word]>,
    ) -> capnp::Result<Self> {
        Ok(TwoPointers(builder.get_struct(Self::SIZE, default)?))
    }
}

/// A request that was made through the capnp crate's own client type and would require
/// that crate's event loop.
pub(crate) struct Refused {
    params: capnp::message::Builder<capnp::message::HeapAllocator>,
    broken: fn() -> Box<dyn ClientHook>,
}

impl Refused {
    pub(crate) fn new(broken: fn() -> Box<dyn ClientHook>) -> Self {
        Refused { params: capnp::message::Builder::new_default(), broken }
    }
}

/// The error of such a request.
pub(crate) fn refusal() -> capnp::Error {
    capnp::Error::unimplemented(
        "call through a client that was generated for this library, not through the capnp crate's"
            .into(),
    )
}

impl RequestHook for Refused {
    fn get(&mut self) -> any_pointer::Builder<'_> {
        self.params.init_root()
    }

    fn get_brand(&self) -> usize {
        0
    }

    fn send(self: Box<Self>) -> RemotePromise<any_pointer::Owned> {
        RemotePromise {
            promise: Promise::err(refusal()),
            pipeline: any_pointer::Pipeline::new(Box::new(BrokenPipeline(self.broken))),
        }
    }

    fn send_streaming(self: Box<Self>) -> Promise<(), capnp::Error> {
        Promise::err(refusal())
    }

    fn tail_send(
        self: Box<Self>,
    ) -> Option<(u32, Promise<(), capnp::Error>, Box<dyn PipelineHook>)> {
        None
    }
}

struct BrokenPipeline(fn() -> Box<dyn ClientHook>);

impl PipelineHook for BrokenPipeline {
    fn add_ref(&self) -> Box<dyn PipelineHook> {
        Box::new(BrokenPipeline(self.0))
    }

    fn get_pipelined_cap(&self, _ops: &[PipelineOp]) -> Box<dyn ClientHook> {
        self.0()
    }
}
