//! A `TestMoreStuff` that waits for what it calls.

use capnp_threads_core::typed::new_client;
use capnp_threads_core::{Client, Concurrency, FromClient, Vat};
use rpc_schema::test_capnp::{test_handle, test_more_stuff};

use super::{Calling, Host, MoreStuff, Order};
use crate::support::{Census, Counted};

/// An object whose methods wait, on the worker that they run on, for what they call.
pub type Keeper = MoreStuff<Keeping>;

/// What a [`Keeper`] keeps.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    order: Order,
    handles: Census,
}

struct Handle {
    _counted: Counted,
}

impl test_handle::Server for Handle {}

impl Host for Keeping {
    const CALLING: Calling = Calling::Waits;

    fn arrive(&self, expected: u32) -> u32 {
        self.order.arrive(expected)
    }

    fn handle(&self) -> test_handle::Client {
        new_client(Handle { _counted: self.handles.count() })
    }
}

impl Keeper {
    /// One that keeps nothing.
    pub fn new() -> Self {
        MoreStuff::with_host(Keeping::default())
    }

    /// One whose handles are counted.
    pub fn with_handles(census: &Census) -> Self {
        MoreStuff::with_host(Keeping { handles: census.clone(), ..Keeping::default() })
    }

    /// One that is called from several threads at once.
    pub fn client(vat: &Vat) -> Client {
        let client: test_more_stuff::Client =
            vat.export_with(Keeper::new(), Concurrency::Concurrent);
        client.into_client()
    }
}

impl Default for Keeper {
    fn default() -> Self {
        Keeper::new()
    }
}
