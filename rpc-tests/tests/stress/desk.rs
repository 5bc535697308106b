//! The object that everything is done with, on both sides of every connection.

use std::any::Any;
use std::sync::Arc;

use capnp::traits::HasTypeId;
use capnp_threads_core::typed::FromServer;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Client, Concurrency, FromClient, Vat};
use rpc_schema::test_capnp::{
    test_handle, test_interface, test_more_stuff, test_pipeline, test_streaming,
};
use rpc_tests::support::Counted;
use rpc_tests::support::objects::{Calling, Host, Interface, MoreStuff, Pipeline, Streaming};

use crate::ledger::Ledger;

/// Has every interface that the tests call.
pub struct Desk {
    more_stuff: MoreStuff<Ledger>,
    pipeline: Pipeline<Ledger>,
    streaming: Streaming,
    _counted: Counted,
}

impl Desk {
    fn new(ledger: &Ledger) -> Arc<Self> {
        Arc::new(Desk {
            more_stuff: MoreStuff::with_host(ledger.clone()),
            pipeline: Pipeline(ledger.clone()),
            streaming: Streaming::default(),
            _counted: ledger.census().count(),
        })
    }

    /// One for a single user, whose calls run one after the other.
    pub fn serial(vat: &Vat, ledger: &Ledger) -> Client {
        vat.export_dispatch(Desk::new(ledger))
    }

    /// One for many users.
    pub fn concurrent(vat: &Vat, ledger: &Ledger) -> Client {
        vat.export_dispatch_with(Desk::new(ledger), Concurrency::Concurrent)
    }
}

impl Dispatch for Desk {
    fn dispatch(&self, call: IncomingCall) {
        const INTERFACE: u64 = test_interface::Client::TYPE_ID;
        const STREAMING: u64 = test_streaming::Client::TYPE_ID;
        const PIPELINE: u64 = test_pipeline::Client::TYPE_ID;
        match call.interface_id() {
            INTERFACE => <test_interface::Client as FromServer<_>>::dispatch(&Interface, call),
            STREAMING => test_streaming::Client::dispatch(&self.streaming, call),
            PIPELINE => test_pipeline::Client::dispatch(&self.pipeline, call),
            _ => test_more_stuff::Client::dispatch(&self.more_stuff, call),
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What a desk gives out are other desks.
impl Host for Ledger {
    const CALLING: Calling = Calling::WaitsWhileWanted;

    fn arrive(&self, number: u32) -> u32 {
        Ledger::arrive(self, number);
        number
    }

    fn handle(&self) -> test_handle::Client {
        test_handle::Client::from_client(Client::from_dispatch(Desk::new(self)))
    }

    fn boxed(&self) -> test_interface::Client {
        test_interface::Client::from_client(Client::from_dispatch(Desk::new(self)))
    }
}
