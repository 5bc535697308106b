//! Between this library's capabilities and the capnp crate's.
//!
//! Generated code of the capnp crate keeps capabilities in a table of
//! `Box<dyn ClientHook>`, which may not leave its thread. Ours cross threads as
//! [`Client`]s; a thread that reads or builds a message wraps them into hooks
//! for as long as it does so.

use std::cell::{Cell, RefCell};

use capnp::MessageSize;
use capnp::any_pointer;
use capnp::capability::{Promise, RemotePromise, Request};
use capnp::private::capability::{ClientHook, ParamsHook, RequestHook, ResultsHook};
use capnp::private::layout::{PointerBuilder, PointerReader, StructBuilder, StructSize};
use capnp::traits::{FromPointerBuilder, FromPointerReader};

use crate::cap::client::Client;
use crate::error::Error;

/// The capnp crate's table of the capabilities of one message.
pub type CapTable = Vec<Option<Box<dyn ClientHook>>>;

/// A table to imbue a reader with: every index leads to its client, and null
/// clients stay null.
pub fn table_of(caps: &[Client]) -> CapTable {
    caps.iter().map(|client| (!client.is_null()).then(|| Hook::boxed(client.clone()))).collect()
}

/// The clients behind a table that a builder was imbued with, by index.
///
/// A hook that is not this library's becomes a client that fails every call and
/// says so.
pub fn clients_of(table: CapTable) -> Vec<Client> {
    let mut caps: Vec<Client> = table
        .into_iter()
        .map(|hook| hook.map_or_else(Client::null, |hook| client_of(&*hook)))
        .collect();
    // Capability fields that were overwritten leave null entries behind; those
    // at the end need not travel.
    while caps.last().is_some_and(Client::is_null) {
        caps.pop();
    }
    caps
}

/// The client inside a hook.
pub fn client_of(hook: &dyn ClientHook) -> Client {
    reveal(hook).unwrap_or_else(|| {
        Client::broken(Error::failed(
            "this capability belongs to another RPC library; wrap it in a server of your own",
        ))
    })
}

/// One of our capabilities in the form that the capnp crate's readers and
/// builders handle.
#[derive(Clone)]
pub struct Hook(Client);

impl Hook {
    /// Wraps a client.
    pub fn new(client: Client) -> Self {
        Hook(client)
    }

    /// Wraps a client for a capability table.
    pub fn boxed(client: Client) -> Box<dyn ClientHook> {
        Box::new(Hook(client))
    }

    /// The wrapped client.
    pub fn client(&self) -> &Client {
        &self.0
    }

    /// Unwraps the client.
    pub fn into_client(self) -> Client {
        self.0
    }
}

// Note [reveal]
//
// `dyn ClientHook` has no downcast. To get our client back out of a hook we ask
// the hook for its brand while this thread is marked as asking; only our own
// hook answers by leaving its client in the thread's slot. No unsafe code and no
// global registry are needed, and a foreign hook simply leaves nothing.
thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
    static SLOT: RefCell<Option<Client>> = const { RefCell::new(None) };
}

fn reveal(hook: &dyn ClientHook) -> Option<Client> {
    ASKING.set(true);
    hook.get_brand();
    ASKING.set(false);
    SLOT.take()
}

/// Whatever address this has is our brand: it differs from every other hook's.
static BRAND: u8 = 0;

impl ClientHook for Hook {
    fn add_ref(&self) -> Box<dyn ClientHook> {
        Box::new(self.clone())
    }

    fn new_call(
        &self,
        _interface_id: u64,
        _method_id: u16,
        _size_hint: Option<MessageSize>,
    ) -> Request<any_pointer::Owned, any_pointer::Owned> {
        Request::new(Box::new(Refused(capnp::message::Builder::new_default())))
    }

    fn call(
        &self,
        _interface_id: u64,
        _method_id: u16,
        _params: Box<dyn ParamsHook>,
        _results: Box<dyn ResultsHook>,
    ) -> Promise<(), capnp::Error> {
        Promise::err(refusal())
    }

    fn get_brand(&self) -> usize {
        if ASKING.get() {
            SLOT.set(Some(self.0.clone()));
        }
        std::ptr::from_ref(&BRAND) as usize
    }

    fn get_ptr(&self) -> usize {
        self.0.identity()
    }

    fn get_resolved(&self) -> Option<Box<dyn ClientHook>> {
        None
    }

    fn when_more_resolved(&self) -> Option<Promise<Box<dyn ClientHook>, capnp::Error>> {
        None
    }

    fn when_resolved(&self) -> Promise<(), capnp::Error> {
        Promise::ok(())
    }
}

/// A request that somebody makes through the capnp crate's own client type,
/// which would need that crate's event loop.
struct Refused(capnp::message::Builder<capnp::message::HeapAllocator>);

fn refusal() -> capnp::Error {
    capnp::Error::unimplemented(
        "call through a client that was generated for this library, not through the capnp crate's"
            .into(),
    )
}

impl RequestHook for Refused {
    fn get(&mut self) -> any_pointer::Builder<'_> {
        self.0.init_root()
    }

    fn get_brand(&self) -> usize {
        0
    }

    fn send(self: Box<Self>) -> RemotePromise<any_pointer::Owned> {
        RemotePromise {
            promise: Promise::err(refusal()),
            pipeline: any_pointer::Pipeline::new(Box::new(BrokenPipeline)),
        }
    }

    fn send_streaming(self: Box<Self>) -> Promise<(), capnp::Error> {
        Promise::err(refusal())
    }

    fn tail_send(
        self: Box<Self>,
    ) -> Option<(u32, Promise<(), capnp::Error>, Box<dyn capnp::private::capability::PipelineHook>)>
    {
        None
    }
}

struct BrokenPipeline;

impl capnp::private::capability::PipelineHook for BrokenPipeline {
    fn add_ref(&self) -> Box<dyn capnp::private::capability::PipelineHook> {
        Box::new(BrokenPipeline)
    }

    fn get_pipelined_cap(
        &self,
        _ops: &[capnp::private::capability::PipelineOp],
    ) -> Box<dyn ClientHook> {
        Hook::boxed(Client::broken(refusal().into()))
    }
}

/// A hook that knows nothing but its index in a table; tells which capability a
/// pointer names.
struct IndexHook(usize);

/// A table of `len` entries to be used with [`index_of`].
pub(crate) fn index_table(len: usize) -> CapTable {
    (0..len).map(|index| Some(Box::new(IndexHook(index)) as Box<dyn ClientHook>)).collect()
}

/// What an [`index_table`] has at an index.
pub(crate) fn index_hook(index: usize) -> Box<dyn ClientHook> {
    Box::new(IndexHook(index))
}

/// The index of a hook that came out of an [`index_table`].
pub(crate) fn index_of(hook: &dyn ClientHook) -> usize {
    hook.get_ptr()
}

impl ClientHook for IndexHook {
    fn add_ref(&self) -> Box<dyn ClientHook> {
        Box::new(IndexHook(self.0))
    }

    fn new_call(
        &self,
        _interface_id: u64,
        _method_id: u16,
        _size_hint: Option<MessageSize>,
    ) -> Request<any_pointer::Owned, any_pointer::Owned> {
        Request::new(Box::new(Refused(capnp::message::Builder::new_default())))
    }

    fn call(
        &self,
        _interface_id: u64,
        _method_id: u16,
        _params: Box<dyn ParamsHook>,
        _results: Box<dyn ResultsHook>,
    ) -> Promise<(), capnp::Error> {
        Promise::err(refusal())
    }

    fn get_brand(&self) -> usize {
        0
    }

    fn get_ptr(&self) -> usize {
        self.0
    }

    fn get_resolved(&self) -> Option<Box<dyn ClientHook>> {
        None
    }

    fn when_more_resolved(&self) -> Option<Promise<Box<dyn ClientHook>, capnp::Error>> {
        None
    }

    fn when_resolved(&self) -> Promise<(), capnp::Error> {
        Promise::ok(())
    }
}

/// A pointer as such, to walk a message without its schema.
pub(crate) struct Pointer<'a>(pub(crate) PointerReader<'a>);

impl<'a> FromPointerReader<'a> for Pointer<'a> {
    fn get_from_pointer(
        reader: &PointerReader<'a>,
        _default: Option<&'a [capnp::Word]>,
    ) -> capnp::Result<Self> {
        Ok(Pointer(*reader))
    }
}

/// A struct of two pointers and nothing else, to build one without its schema.
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
