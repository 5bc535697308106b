//! What the shared objects of tests are here: parts of one connection's state.

use std::sync::Arc;

use capnp_threads_core::Vat;
use rpc_schema::test_capnp::test_membrane::thing;
use rpc_schema::test_capnp::{test_extends2, test_handle, test_interface};

use super::objects::{Accepts, Extends, Handle};
use super::state::{ConnectionState, counted};
use crate::support::objects::{CallOrder, Calling, Host, Inside, Thing};

/// The host of an object that numbers its own calls.
#[derive(Clone)]
pub(super) struct Own {
    state: Arc<ConnectionState>,
    calls: Arc<CallOrder>,
}

impl Own {
    pub(super) fn new(state: &Arc<ConnectionState>) -> Self {
        Own { state: Arc::clone(state), calls: Arc::default() }
    }
}

impl Host for Own {
    const CALLING: Calling = Calling::Defers;

    fn arrive(&self, _: u32) -> u32 {
        self.calls.number()
    }

    fn handle(&self) -> test_handle::Client {
        Host::handle(&self.state)
    }

    fn boxed(&self) -> test_interface::Client {
        Host::boxed(&self.state)
    }

    fn vat(&self) -> &Vat {
        &self.state.vat
    }

    fn cancelled(&self) {
        Host::cancelled(&self.state);
    }
}

/// Numbers the calls of the bootstrap object, which can be reset.
impl Host for Arc<ConnectionState> {
    const CALLING: Calling = Calling::Defers;

    fn arrive(&self, _: u32) -> u32 {
        self.next_in_sequence()
    }

    fn handle(&self) -> test_handle::Client {
        counted(self, Handle::new(self))
    }

    fn boxed(&self) -> test_interface::Client {
        let extends = Extends { accepts: Accepts::OwnFoo };
        counted::<test_extends2::Client, _>(self, extends).cast_to()
    }

    fn vat(&self) -> &Vat {
        &self.vat
    }

    fn cancelled(&self) {
        ConnectionState::cancelled(self);
    }
}

impl Inside for ConnectionState {
    fn export(self: &Arc<Self>, thing: Thing) -> thing::Client {
        counted(self, thing)
    }

    fn cancelled(&self) {
        ConnectionState::cancelled(self);
    }
}
