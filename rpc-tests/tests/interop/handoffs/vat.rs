//! A vat of this library that does what `party.capnp` says.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use capnp_threads_core::typed::TypedFulfiller;
use capnp_threads_core::{Concurrency, Error, Promise, Result, RpcSystem, Vat, promise_client};
use parking_lot::Mutex;
use rpc_schema::party_capnp::{counter, party};

use super::mesh::Mesh;

/// A vat in this process.
pub(super) struct Here {
    system: RpcSystem<Mesh>,
    state: Arc<State>,
}

impl Here {
    /// `patience` is how long it waits for a host that does not answer.
    pub(super) fn start(folder: &Path, name: &str, patience: Duration) -> Self {
        let vat = Vat::new();
        let state = Arc::new(State::default());
        // It counts in the order in which it is called.
        let counted = Counted(Arc::clone(&state));
        *state.own.lock() = Some(vat.export_with(counted, Concurrency::Inline));
        let object = PartyObject(Arc::clone(&state));
        let party: party::Client = vat.export_with(object, Concurrency::Concurrent);
        let mesh = Mesh::listening(folder, name);
        let builder = RpcSystem::builder(&vat, mesh).introduction_timeout(patience);
        let system = builder.bootstrap(party).start().unwrap();
        *state.system.lock() = Some(system.clone());
        Here { system, state }
    }

    /// What another vat offers.
    pub(super) fn reach(&self, name: &str) -> party::Client {
        self.system.bootstrap(&name.to_owned())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        // What is kept would keep the vat.
        self.state.system.lock().take();
        self.state.kept.lock().take();
        self.state.promised.lock().take();
        self.state.own.lock().take();
    }
}

#[derive(Default)]
struct State {
    system: Mutex<Option<RpcSystem<Mesh>>>,
    count: AtomicU32,
    own: Mutex<Option<counter::Client>>,
    kept: Mutex<Option<counter::Client>>,
    promised: Mutex<Option<TypedFulfiller<counter::Client>>>,
}

struct Counted(Arc<State>);

impl counter::Server for Counted {
    fn next(&self, _: counter::NextParams, mut results: counter::NextResults) -> Result<()> {
        results.get().set_number(self.0.count.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

struct PartyObject(Arc<State>);

impl PartyObject {
    fn system(&self) -> Result<RpcSystem<Mesh>> {
        self.0.system.lock().clone().ok_or_else(|| Error::failed("the vat has ended"))
    }

    fn reach(&self, vat: &str) -> Result<party::Client> {
        Ok(self.system()?.bootstrap(&vat.to_owned()))
    }

    fn keep_this(&self, counter: counter::Client) {
        // What was kept before is dropped without the lock.
        let before = self.0.kept.lock().replace(counter);
        drop(before);
    }

    fn what_is_kept(&self) -> Result<counter::Client> {
        self.0.kept.lock().clone().ok_or_else(|| Error::failed("nothing is kept"))
    }

    fn settled(&self, vat: &str) -> Result<counter::Client> {
        Ok(self.reach(vat)?.counter_request().call()?.get()?.get_counter()?)
    }
}

/// Answers of calls that are under way.
type Calls = Vec<Promise<counter::next_results::Owned>>;

fn send(counter: &counter::Client, times: u32) -> Calls {
    (0..times).map(|_| counter.next_request().send()).collect()
}

fn numbers(calls: &Calls) -> Result<Vec<u32>> {
    calls.iter().map(|call| Ok(call.wait()?.get()?.get_number())).collect()
}

impl party::Server for PartyObject {
    fn counter(&self, _: party::CounterParams, mut results: party::CounterResults) -> Result<()> {
        let own = self.0.own.lock().clone();
        results.get().set_counter(own.ok_or_else(|| Error::failed("the vat has ended"))?);
        Ok(())
    }

    fn count(&self, _: party::CountParams, mut results: party::CountResults) -> Result<()> {
        results.get().set_count(self.0.count.load(Ordering::SeqCst));
        Ok(())
    }

    fn obtain(&self, params: party::ObtainParams, _: party::ObtainResults) -> Result<()> {
        let params = params.get()?;
        let vat = params.get_vat()?.to_str()?;
        if params.get_settled() {
            self.keep_this(self.settled(vat)?);
        } else {
            let answer = self.reach(vat)?.counter_request().send();
            self.keep_this(answer.pipeline().get_counter());
        }
        Ok(())
    }

    fn promise(&self, _: party::PromiseParams, _: party::PromiseResults) -> Result<()> {
        let (promise, fulfiller) = promise_client();
        self.keep_this(promise);
        *self.0.promised.lock() = Some(fulfiller);
        Ok(())
    }

    fn resolve(&self, params: party::ResolveParams, _: party::ResolveResults) -> Result<()> {
        let fulfiller = self.0.promised.lock().take();
        let fulfiller = fulfiller.ok_or_else(|| Error::failed("nothing is promised"))?;
        fulfiller.fulfill(self.settled(params.get()?.get_vat()?.to_str()?)?);
        Ok(())
    }

    fn keep(&self, params: party::KeepParams, _: party::KeepResults) -> Result<()> {
        self.keep_this(params.get()?.get_counter()?);
        Ok(())
    }

    fn kept(&self, _: party::KeptParams, mut results: party::KeptResults) -> Result<()> {
        results.get().set_counter(self.what_is_kept()?);
        Ok(())
    }

    fn give(&self, params: party::GiveParams, _: party::GiveResults) -> Result<()> {
        let mut request = self.reach(params.get()?.get_vat()?.to_str()?)?.keep_request();
        request.get().set_counter(self.what_is_kept()?);
        request.call().map(drop)
    }

    fn call(&self, params: party::CallParams, mut results: party::CallResults) -> Result<()> {
        let calls = send(&self.what_is_kept()?, params.get()?.get_times());
        results.get().set_numbers(&numbers(&calls)?[..])?;
        Ok(())
    }

    fn ask(&self, params: party::AskParams, mut results: party::AskResults) -> Result<()> {
        let params = params.get()?;
        let answer = self.reach(params.get_vat()?.to_str()?)?.kept_request().send();
        let counter = answer.pipeline().get_counter();
        self.keep_this(counter.clone());
        let mut calls = send(&counter, params.get_before());
        answer.wait()?;
        calls.extend(send(&counter, params.get_after()));
        results.get().set_numbers(&numbers(&calls)?[..])?;
        Ok(())
    }

    fn forget(&self, _: party::ForgetParams, _: party::ForgetResults) -> Result<()> {
        let kept = self.0.kept.lock().take();
        drop(kept);
        Ok(())
    }

    fn hold(&self, params: party::HoldParams, _: party::HoldResults) -> Result<()> {
        let params = params.get()?;
        let system = self.system()?;
        system.network().inflow(params.get_vat()?.to_str()?).hold(params.get_behind());
        Ok(())
    }

    fn release(&self, params: party::ReleaseParams, _: party::ReleaseResults) -> Result<()> {
        self.system()?.network().inflow(params.get()?.get_vat()?.to_str()?).release();
        Ok(())
    }

    fn came(&self, params: party::CameParams, mut results: party::CameResults) -> Result<()> {
        let params = params.get()?;
        let system = self.system()?;
        let inflow = system.network().inflow(params.get_vat()?.to_str()?);
        results.get().set_count(inflow.came(params.get_message()));
        Ok(())
    }

    fn forward(&self, params: party::ForwardParams, _: party::ForwardResults) -> Result<()> {
        self.system()?.network().forward(params.get()?.get_on());
        Ok(())
    }

    fn connected(
        &self,
        params: party::ConnectedParams,
        mut results: party::ConnectedResults,
    ) -> Result<()> {
        let system = self.system()?;
        let inflow = system.network().inflow(params.get()?.get_vat()?.to_str()?);
        results.get().set_connected(inflow.is_connected());
        Ok(())
    }
}
