//! What a server keeps about one connection, and objects that count their calls
//! in it.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use capnp_threads_core::typed::FromServer;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Connection, Vat};
use parking_lot::Mutex;

/// What a server keeps about one connection, shared by its objects.
pub(super) struct ConnectionState {
    /// How many calls named each interface.
    calls: Mutex<BTreeMap<u64, u64>>,
    cancellations: AtomicU32,
    /// The next number of the bootstrap object as a `TestCallOrder`.
    sequence: AtomicU32,
    handles: AtomicU32,
    handles_of_server: Arc<AtomicU32>,
    /// Where the objects run.
    pub(super) vat: Vat,
    connection: OnceLock<Connection>,
}

impl ConnectionState {
    pub(super) fn new(vat: &Vat, handles_of_server: &Arc<AtomicU32>) -> Arc<Self> {
        Arc::new(ConnectionState {
            calls: Mutex::default(),
            cancellations: AtomicU32::new(0),
            sequence: AtomicU32::new(0),
            handles: AtomicU32::new(0),
            handles_of_server: Arc::clone(handles_of_server),
            vat: vat.clone(),
            connection: OnceLock::new(),
        })
    }

    /// Says which connection this is about. The circle that this closes is
    /// broken when the connection ends and gives its bootstrap object up.
    pub(super) fn set_connection(&self, connection: Connection) {
        // There is one connection for each state.
        let _ = self.connection.set(connection);
    }

    /// The connection. The first call can be here before it is set, for a moment.
    pub(super) fn connection(&self) -> &Connection {
        self.connection.wait()
    }

    pub(super) fn calls(&self) -> BTreeMap<u64, u64> {
        self.calls.lock().clone()
    }

    pub(super) fn cancelled(&self) {
        self.cancellations.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn cancellations(&self) -> u32 {
        self.cancellations.load(Ordering::SeqCst)
    }

    pub(super) fn next_in_sequence(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn handles_here(&self) -> u32 {
        self.handles.load(Ordering::SeqCst)
    }

    pub(super) fn handles_of_server(&self) -> u32 {
        self.handles_of_server.load(Ordering::SeqCst)
    }

    pub(super) fn reset(&self) {
        self.calls.lock().clear();
        self.cancellations.store(0, Ordering::SeqCst);
        self.sequence.store(0, Ordering::SeqCst);
    }
}

/// Counts itself while it lives.
pub(super) struct HandleCount(Arc<ConnectionState>);

impl HandleCount {
    pub(super) fn new(state: &Arc<ConnectionState>) -> Self {
        state.handles.fetch_add(1, Ordering::SeqCst);
        state.handles_of_server.fetch_add(1, Ordering::SeqCst);
        HandleCount(Arc::clone(state))
    }
}

impl Drop for HandleCount {
    fn drop(&mut self) {
        self.0.handles.fetch_sub(1, Ordering::SeqCst);
        self.0.handles_of_server.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A capability for a server object whose calls are counted.
pub(super) fn counted<C, S>(state: &Arc<ConnectionState>, server: S) -> C
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    let counted = Counted::<C, S> { server, state: Arc::clone(state), client: PhantomData };
    C::from_client(state.vat.export_dispatch(Arc::new(counted)))
}

struct Counted<C, S> {
    server: S,
    state: Arc<ConnectionState>,
    client: PhantomData<fn() -> C>,
}

impl<C, S> Dispatch for Counted<C, S>
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    fn dispatch(&self, call: IncomingCall) {
        *self.state.calls.lock().entry(call.interface_id()).or_default() += 1;
        C::dispatch(&self.server, call);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        &self.server
    }
}
