//! The client's own objects, which tell what happened to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use capnp_threads_core::{DeferredResults, Error, Result, Vat};
use parking_lot::{Condvar, Mutex};
use rpc_schema::test_capnp::test_membrane::thing;
use rpc_schema::test_capnp::{test_call_order, test_interface, test_tail_callee};

use super::context::Failure;

/// A `TestInterface` of this side's.
pub(super) struct Ours {
    pub(super) probe: Arc<Probe>,
    pub(super) object: test_interface::Client,
}

impl Ours {
    pub(super) fn new(vat: &Vat, deadline: Instant, gate: Option<Arc<Gate>>) -> Self {
        let probe = Probe::new(deadline);
        let object = vat.export(OurObject { probe: Arc::clone(&probe), gate });
        Ours { probe, object }
    }
}

/// One without methods.
pub(super) struct OurFile;

impl test_interface::Server for OurFile {}

/// What becomes known of one of the client's own objects.
pub(super) struct Probe {
    seen: Mutex<Seen>,
    changed: Condvar,
    deadline: Instant,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: u32,
    /// Of these, how many were cancelled.
    pub(super) cancelled: u32,
    pub(super) dropped: bool,
}

impl Probe {
    pub(super) fn new(deadline: Instant) -> Arc<Self> {
        Arc::new(Probe { seen: Mutex::default(), changed: Condvar::new(), deadline })
    }

    pub(super) fn calls(&self) -> u32 {
        self.seen.lock().calls
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.seen.lock().dropped
    }

    /// Waits until something is seen.
    pub(super) fn wait(&self, what: &str, condition: fn(&Seen) -> bool) -> Result<(), Failure> {
        let mut seen = self.seen.lock();
        while !condition(&seen) {
            if self.changed.wait_until(&mut seen, self.deadline).timed_out() && !condition(&seen) {
                return Err(Failure::new(format!("not in time: ours {what}; it is {seen:?}")));
            }
        }
        Ok(())
    }

    pub(super) fn wait_called(&self) -> Result<(), Failure> {
        self.wait("is called", |seen| seen.calls > 0)
    }

    pub(super) fn wait_dropped(&self) -> Result<(), Failure> {
        self.wait("is dropped", |seen| seen.dropped)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock());
        self.changed.notify_all();
    }
}

/// Holds calls back until it is opened.
pub(super) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    deadline: Instant,
}

impl Gate {
    pub(super) fn new(deadline: Instant) -> Arc<Self> {
        Arc::new(Gate { is_open: Mutex::new(false), opened: Condvar::new(), deadline })
    }

    pub(super) fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }

    fn pass(&self) -> Result<()> {
        let mut is_open = self.is_open.lock();
        while !*is_open {
            if self.opened.wait_until(&mut is_open, self.deadline).timed_out() {
                return Err(Error::failed("the gate was not opened in time"));
            }
        }
        Ok(())
    }
}

/// The server behind [`Ours`].
pub(super) struct OurObject {
    probe: Arc<Probe>,
    gate: Option<Arc<Gate>>,
}

impl OurObject {
    pub(super) fn probe(&self) -> &Arc<Probe> {
        &self.probe
    }
}

impl test_interface::Server for OurObject {
    fn foo(
        &self,
        params: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<()> {
        let params = params.get()?;
        if (params.get_i(), params.get_j()) != (123, true) {
            return Err(Error::failed("foo takes 123 and true"));
        }
        self.probe.note(|seen| seen.calls += 1);
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        results.get().set_x("foo");
        Ok(())
    }
}

impl Drop for OurObject {
    fn drop(&mut self) {
        self.probe.note(|seen| seen.dropped = true);
    }
}

/// Counts the calls that arrive.
#[derive(Default)]
pub(super) struct OurCallOrder {
    next: AtomicU32,
}

impl test_call_order::Server for OurCallOrder {
    fn get_call_sequence(
        &self,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.next.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

/// Returns what it was given.
pub(super) struct OurTailCallee(pub(super) Arc<Probe>);

impl test_tail_callee::Server for OurTailCallee {
    fn foo(
        &self,
        params: test_tail_callee::FooParams,
        mut results: test_tail_callee::FooResults,
    ) -> Result<()> {
        self.0.note(|seen| seen.calls += 1);
        let params = params.get()?;
        let mut result = results.get();
        result.set_i(params.get_i().cast_unsigned());
        result.set_t(params.get_t()?);
        result.set_c(test_call_order::Client::from_server(OurCallOrder::default()));
        Ok(())
    }
}

/// Answers only what was cancelled.
pub(super) struct NeverTailCallee(pub(super) Arc<Probe>);

impl test_tail_callee::Server for NeverTailCallee {
    fn foo(
        &self,
        _: test_tail_callee::FooParams,
        results: test_tail_callee::FooResults,
    ) -> Result<()> {
        type Open = DeferredResults<test_tail_callee::tail_result::Owned>;
        let results = results.defer();
        let open: Arc<Mutex<Option<Open>>> = Arc::default();
        let (probe, closing) = (Arc::clone(&self.0), Arc::clone(&open));
        results.on_cancel(move || {
            let closed = closing.lock().take();
            drop(closed);
            probe.note(|seen| seen.cancelled += 1);
        });
        // If the call was cancelled just now, the last reference is this one.
        *open.lock() = Some(results);
        self.0.note(|seen| seen.calls += 1);
        Ok(())
    }
}

/// Passes `foo` on to another object as a tail call.
pub(super) struct OurTailCaller(pub(super) test_interface::Client);

impl test_interface::Server for OurTailCaller {
    fn foo(
        &self,
        params: test_interface::FooParams,
        results: test_interface::FooResults,
    ) -> Result<()> {
        let mut request = self.0.foo_request();
        request.set(params.get()?)?;
        results.tail_call(request);
        Ok(())
    }
}

/// What is outside a membrane.
pub(super) struct OurThing;

impl thing::Server for OurThing {
    fn pass_through(
        &self,
        _: thing::PassThroughParams,
        mut results: thing::PassThroughResults,
    ) -> Result<()> {
        results.get().set_text("outside");
        Ok(())
    }

    fn intercept(
        &self,
        _: thing::InterceptParams,
        mut results: thing::InterceptResults,
    ) -> Result<()> {
        results.get().set_text("outside");
        Ok(())
    }
}
