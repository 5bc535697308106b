//! Both sides of a connection's books: which calls were made, and which arrived.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::reconnect::CarriedOut;
use capnp_threads_core::typed::FromServer;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Client, Concurrency, Error, FromClient, Vat};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::{test_handle, test_interface, test_more_stuff};

use crate::support::objects::{Calling, Host, Interface, MoreStuff};
use crate::support::{Census, Counted};

/// The books of one connection, and of what was called through it.
#[derive(Clone, Default)]
pub(super) struct Account(Arc<Inner>);

#[derive(Default)]
struct Inner {
    references: Mutex<HashMap<u64, Arrived>>,
    wrong: Mutex<Vec<String>>,
    census: Census,
}

#[derive(Clone, Copy, Default)]
struct Arrived {
    /// The number that the next call must have, at the least.
    next: u64,
    calls: u64,
}

/// The caller's side: what was made through one reference.
#[derive(Default)]
pub(super) struct Made {
    pub(super) next: u64,
    /// Calls that must have arrived.
    pub(super) answered: u64,
    /// Calls that may have arrived.
    pub(super) unknown: u64,
}

impl Made {
    /// Notes how a call has ended.
    pub(super) fn end<T>(&mut self, outcome: Result<T, &Error>) {
        match outcome {
            Ok(_) => self.answered += 1,
            Err(error) => match error.carried_out() {
                CarriedOut::Answered => self.answered += 1,
                CarriedOut::No => {}
                _ => self.unknown += 1,
            },
        }
    }
}

impl Account {
    /// What the peer of a connection is offered.
    pub(super) fn desk(&self, vat: &Vat) -> Client {
        vat.export_dispatch_with(Desk::new(self), Concurrency::Serial)
    }

    /// Notes the arrival of a call.
    fn arrive(&self, reference: u64, number: u64) {
        let mut references = self.0.references.lock().unwrap();
        let arrived = references.entry(reference).or_default();
        if number < arrived.next {
            let next = arrived.next;
            self.complain(format!("reference {reference}: {number} arrived behind {next}"));
        }
        arrived.next = number + 1;
        arrived.calls += 1;
    }

    pub(super) fn complain(&self, what: String) {
        self.0.wrong.lock().unwrap().push(what);
    }

    /// Compares both sides of what was called through a reference, of which no call can be
    /// under way any more, and forgets it.
    pub(super) fn settle(&self, reference: u64, made: &Made) {
        let arrived = self.0.references.lock().unwrap().remove(&reference);
        let calls = arrived.map_or(0, |arrived| arrived.calls);
        if !(made.answered..=made.answered + made.unknown).contains(&calls) {
            self.complain(format!(
                "reference {reference}: {} calls were answered and {} ended otherwise, but \
                 {calls} arrived",
                made.answered, made.unknown
            ));
        }
    }

    /// Every reference was settled.
    pub(super) fn close(&self) {
        for reference in self.0.references.lock().unwrap().keys() {
            self.complain(format!("calls arrived through reference {reference}, of nobody"));
        }
    }

    pub(super) fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.wrong.lock().unwrap())
    }

    /// The number of objects that still exist.
    pub(super) fn alive(&self) -> u64 {
        self.0.census.alive()
    }
}

impl Host for Account {
    const CALLING: Calling = Calling::WaitsWhileWanted;

    fn arrive(&self, number: u32) -> u32 {
        number
    }

    fn handle(&self) -> test_handle::Client {
        test_handle::Client::from_client(Client::from_dispatch(Desk::new(self)))
    }

    fn boxed(&self) -> test_interface::Client {
        test_interface::Client::from_client(Client::from_dispatch(Desk::new(self)))
    }
}

/// What is called.
struct Desk {
    account: Account,
    more_stuff: MoreStuff<Account>,
    _counted: Counted,
}

impl Desk {
    fn new(account: &Account) -> Arc<Self> {
        Arc::new(Desk {
            account: account.clone(),
            more_stuff: MoreStuff::with_host(account.clone()),
            _counted: account.0.census.count(),
        })
    }
}

impl Dispatch for Desk {
    fn dispatch(&self, call: IncomingCall) {
        const INTERFACE: u64 = test_interface::Client::TYPE_ID;
        const ECHO: u64 = echo::Client::TYPE_ID;
        match call.interface_id() {
            INTERFACE => <test_interface::Client as FromServer<_>>::dispatch(&Interface, call),
            ECHO => <echo::Client as FromServer<_>>::dispatch(&Books(self.account.clone()), call),
            _ => test_more_stuff::Client::dispatch(&self.more_stuff, call),
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Keeps the books: a call's data is the number of its reference, its own, and whatever
/// fills it.
pub(super) struct Books(pub(super) Account);

impl echo::Server for Books {
    fn echo(
        &self,
        params: echo::EchoParams,
        mut results: echo::EchoResults,
    ) -> capnp_threads_core::Result<()> {
        let data = params.get()?.get_data()?;
        let (words, _) = data.as_chunks::<8>();
        let [reference, number, ..] = words else { return Err(Error::failed("no numbers")) };
        self.0.arrive(u64::from_le_bytes(*reference), u64::from_le_bytes(*number));
        results.get().set_data(data);
        Ok(())
    }
}
