//! What a server keeps about one connection, and objects that count their calls
//! in it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use capnp::any_pointer;
use capnp::capability::{
    Client, DispatchCallResult, FromClientHook, FromServer, Params, Results, Server,
};
use capnp::private::capability::ClientHook;

/// What a server keeps about one connection, shared by its objects.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// Calls by the interface id that they named.
    pub(crate) calls: RefCell<BTreeMap<u64, u64>>,
    pub(crate) cancellations: Cell<u32>,
    /// The next number of the bootstrap object as a `TestCallOrder`.
    pub(crate) sequence: Cell<u32>,
    /// `TestHandle` objects that live, of this connection and of all.
    pub(crate) handles: Cell<u32>,
    pub(crate) handles_of_server: Rc<Cell<u32>>,
}

impl ConnectionState {
    pub(crate) fn new(handles_of_server: Rc<Cell<u32>>) -> Rc<Self> {
        Rc::new(Self { handles_of_server, ..Self::default() })
    }

    pub(crate) fn count(&self, interface_id: u64) {
        *self.calls.borrow_mut().entry(interface_id).or_default() += 1;
    }

    pub(crate) fn reset(&self) {
        self.calls.borrow_mut().clear();
        self.cancellations.set(0);
        self.sequence.set(0);
    }

    /// For a method that ends only by being canceled.
    pub(crate) async fn until_canceled(self: Rc<Self>) -> Result<(), capnp::Error> {
        let _counts = CountsOnDrop(self);
        std::future::pending().await
    }
}

struct CountsOnDrop(Rc<ConnectionState>);

impl Drop for CountsOnDrop {
    fn drop(&mut self) {
        self.0.cancellations.set(self.0.cancellations.get() + 1);
    }
}

/// A capability for a server object whose calls are counted.
pub(crate) fn counted<C, S>(state: &Rc<ConnectionState>, server: S) -> C
where
    C: FromServer<S>,
    S: 'static,
{
    let dispatch = C::from_server(Rc::new(server));
    let untyped: Untyped = capnp_rpc::new_client(Counted { dispatch, state: state.clone() });
    untyped.cast_to()
}

struct Counted<D> {
    dispatch: D,
    state: Rc<ConnectionState>,
}

struct CountedDispatch<D>(Rc<Counted<D>>);

impl<D> Clone for CountedDispatch<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D> Deref for CountedDispatch<D> {
    type Target = Counted<D>;
    fn deref(&self) -> &Counted<D> {
        &self.0
    }
}

impl<D: Server + Clone> Server for CountedDispatch<D> {
    fn dispatch_call(
        self,
        interface_id: u64,
        method_id: u16,
        params: Params<any_pointer::Owned>,
        results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        self.state.count(interface_id);
        self.dispatch.clone().dispatch_call(interface_id, method_id, params, results)
    }

    fn as_ptr(&self) -> usize {
        self.dispatch.as_ptr()
    }
}

/// A capability without a type, for server objects that the generated code has
/// no client for.
pub(crate) struct Untyped(Client);

impl FromClientHook for Untyped {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        Self(Client::new(hook))
    }
    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.0.hook
    }
    fn as_client_hook(&self) -> &dyn ClientHook {
        self.0.as_client_hook()
    }
}

impl<D: Server + Clone + 'static> FromServer<Counted<D>> for Untyped {
    type Dispatch = CountedDispatch<D>;
    fn from_server(server: Rc<Counted<D>>) -> CountedDispatch<D> {
        CountedDispatch(server)
    }
}
