//! The client's own objects, which tell what happened to them.

use std::sync::Arc;
use std::time::Instant;

use capnp_threads_core::{Error, Result, Vat};
use parking_lot::{Condvar, Mutex};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_tail_callee};

use super::context::Failure;
use crate::support::objects::{CallOrder, TailCallee, answer_foo, leave_open};

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
        results: test_interface::FooResults,
    ) -> Result<()> {
        self.probe.note(|seen| seen.calls += 1);
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        answer_foo(params, results)
    }
}

impl Drop for OurObject {
    fn drop(&mut self) {
        self.probe.note(|seen| seen.dropped = true);
    }
}

/// A `TestTailCallee` that tells of its calls.
pub(super) fn tail_callee(vat: &Vat, probe: &Arc<Probe>) -> test_tail_callee::Client {
    let probe = Arc::clone(probe);
    vat.export(TailCallee(move || {
        probe.note(|seen| seen.calls += 1);
        test_call_order::Client::from_server(CallOrder::default())
    }))
}

/// Answers only what was cancelled.
pub(super) struct NeverTailCallee(pub(super) Arc<Probe>);

impl test_tail_callee::Server for NeverTailCallee {
    fn foo(
        &self,
        _: test_tail_callee::FooParams,
        results: test_tail_callee::FooResults,
    ) -> Result<()> {
        let probe = Arc::clone(&self.0);
        leave_open(results, (), move || probe.note(|seen| seen.cancelled += 1));
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
