//! A server of the conformance interfaces.

mod control;
mod host;
mod objects;
mod state;

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::JoinHandle;
use std::time::Duration;

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Error, FromClient, Limits, Vat,
};
use capnp_threads_transport::addr::Listener;
use capnp_threads_transport::{Address, Closer, Transport};
use parking_lot::Mutex;
use rpc_schema::rpc_twoparty_capnp::vat_id;
use rpc_schema::test_capnp::{
    test_authenticated_bootstrap, test_call_order, test_extends, test_extends2, test_interface,
    test_membrane, test_more_stuff, test_pipeline, test_streaming, test_tail_callee,
    test_tail_caller,
};
use rpc_schema::test_control_capnp::{test_control, test_objects};

use self::control::{CallerId, Control, Objects};
use self::objects::{Accepts, Extends, tail_callee};
use self::state::{ConnectionState, counted};
use crate::support::objects::{MoreStuff, Pipeline, Streaming, TailCaller, TestMembrane};

/// How many calls of this side may be outstanding on one connection: clients
/// have it make some hundred call-backs at once.
const QUESTIONS: u32 = 4096;

/// How long everything may take to end.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// A conformance server that listens.
pub struct Server {
    listener: Listener,
    address: Address,
    shared: Arc<Shared>,
}

struct Shared {
    vat: Vat,
    handles: Arc<AtomicU32>,
    closer: Closer,
    faults: Mutex<Vec<String>>,
    /// One for each connection, and those of some that have ended.
    watches: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Listens at an address.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let listener = address.listen()?;
        let address = listener.local_address()?;
        let shared = Arc::new(Shared {
            vat: Vat::new(),
            handles: Arc::default(),
            closer: listener.closer(),
            faults: Mutex::default(),
            watches: Mutex::default(),
        });
        Ok(Server { listener, address, shared })
    }

    /// The address to connect to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Makes [`run`](Self::run) return.
    pub fn closer(&self) -> Closer {
        self.shared.closer.clone()
    }

    /// Serves whoever connects, until it is closed or a connection turns out to
    /// have ended in an unsound state. Then ends every connection and returns
    /// what was wrong, which it has also written to standard error.
    pub fn run(self) -> Vec<String> {
        for transport in self.listener.incoming() {
            match transport {
                Ok(transport) => self.shared.serve(super::tapped(transport)),
                Err(error) => eprintln!("accepting failed: {error}"),
            }
        }
        if self.shared.vat.shutdown(SHUTDOWN) != Ok(true) {
            self.shared.fault(format!("the vat did not shut down within {SHUTDOWN:?}"));
        }
        let watches = std::mem::take(&mut *self.shared.watches.lock());
        for watch in watches {
            if watch.join().is_err() {
                self.shared.fault("a thread panicked".to_owned());
            }
        }
        std::mem::take(&mut *self.shared.faults.lock())
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, transport: Transport) {
        let state = ConnectionState::new(&self.vat, &self.handles);
        let mut limits = Limits::default();
        limits.questions = QUESTIONS;
        let router = Arc::new(Router::new(&self.vat, &state));
        let bootstrap = self.vat.export_dispatch_with(router, Concurrency::Inline);
        let config = ConnConfig::new().limits(limits).bootstrap(bootstrap);
        let connection = match self.vat.connect(transport, config) {
            Ok(connection) => connection,
            Err(error) => return self.fault(format!("no connection could be started: {error}")),
        };
        state.set_connection(connection.clone());
        let shared = Arc::clone(self);
        let watch = std::thread::Builder::new().name("conformance-watch".to_owned());
        match watch.spawn(move || shared.watch(&connection)) {
            Ok(watch) => {
                let mut watches = self.watches.lock();
                watches.retain(|watch| !watch.is_finished());
                watches.push(watch);
            }
            Err(error) => self.fault(format!("no thread could be started: {error}")),
        }
    }

    /// Sees a connection's end, and looks at what it leaves.
    fn watch(&self, connection: &Connection) {
        if let Err(error) = connection.join() {
            return self.fault(format!("a connection could not be waited for: {error}"));
        }
        let snapshot = connection.snapshot();
        if !snapshot.is_empty() {
            self.fault(format!("a connection that ended still holds {snapshot:?}"));
        }
        if let Err(problem) = connection.check() {
            self.fault(format!("a connection ended with unsound tables: {problem}"));
        }
    }

    fn fault(&self, what: String) {
        eprintln!("FAULT: {what}");
        self.faults.lock().push(what);
        self.closer.close();
    }
}

/// The bootstrap object: one capability that is all of the interfaces. It passes
/// each call on to an object of the interface that the call names.
struct Router {
    routes: HashMap<u64, Client>,
}

impl Router {
    fn new(vat: &Vat, state: &Arc<ConnectionState>) -> Self {
        type CallerIdClient = test_authenticated_bootstrap::Client<vat_id::Owned>;
        let own = || Arc::clone(state);
        let mut router = Router { routes: HashMap::new() };

        let extends = Extends { accepts: Accepts::EitherFoo };
        let extends: test_extends2::Client = counted(state, extends);
        router.add::<test_interface::Client>(extends.clone().cast_to());
        router.add::<test_extends::Client>(extends.clone().cast_to());
        router.add(extends);

        let more_stuff = MoreStuff::with_host(own());
        let more_stuff: test_more_stuff::Client = counted(state, more_stuff);
        router.add::<test_call_order::Client>(more_stuff.clone().cast_to());
        router.add(more_stuff);

        router.add::<test_pipeline::Client>(counted(state, Pipeline(own())));
        router.add::<test_tail_callee::Client>(tail_callee(state));
        router.add::<test_tail_caller::Client>(counted(state, TailCaller));
        router.add::<test_streaming::Client>(counted(state, Streaming::default()));
        router.add::<test_membrane::Client>(counted(state, TestMembrane(own())));
        router.add::<CallerIdClient>(counted(state, CallerId));
        router.add::<test_control::Client>(vat.export(Control { state: own() }));
        router.add::<test_objects::Client>(vat.export(Objects { state: own() }));
        router
    }

    fn add<C: FromClient + HasTypeId>(&mut self, object: C) {
        self.routes.insert(C::TYPE_ID, object.into_client());
    }
}

impl Dispatch for Router {
    fn dispatch(&self, call: IncomingCall) {
        let interface = call.interface_id();
        if let Some(object) = self.routes.get(&interface) {
            return call.forward(object);
        }
        call.respond(Err(Error::unimplemented(format!(
            "the conformance server has no interface {interface:#018x}"
        ))));
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
