//! The client's own objects, which tell what happened to them.

use std::cell::Cell;
use std::rc::Rc;

use capnp::Error;
use capnp::capability::FromClientHook;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

use crate::generated::test_capnp::{
    test_call_order, test_interface, test_membrane, test_tail_callee,
};
use crate::harness::Failure;

/// Something that happens once.
pub(crate) struct Event {
    fulfiller: Cell<Option<oneshot::Sender<()>>>,
    promise: Shared<oneshot::Receiver<()>>,
}

impl Event {
    pub(crate) fn new() -> Rc<Self> {
        let (fulfiller, promise) = oneshot::channel();
        Rc::new(Self { fulfiller: Cell::new(Some(fulfiller)), promise: promise.shared() })
    }

    pub(crate) fn happen(&self) {
        if let Some(fulfiller) = self.fulfiller.take() {
            // Nobody waits if this fails.
            let _ = fulfiller.send(());
        }
    }

    /// Waits for it. The event lives as long as the waiting does.
    pub(crate) async fn wait(self: Rc<Self>) {
        // The sender lives in self: it is not canceled.
        let _ = self.promise.clone().await;
    }
}

/// What becomes known of one of the client's own objects.
pub(crate) struct Probe {
    pub(crate) calls: Cell<u32>,
    pub(crate) called: Rc<Event>,
    pub(crate) canceled: Rc<Event>,
    pub(crate) dropped: Rc<Event>,
    pub(crate) is_dropped: Cell<bool>,
}

impl Probe {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            calls: Cell::new(0),
            called: Event::new(),
            canceled: Event::new(),
            dropped: Event::new(),
            is_dropped: Cell::new(false),
        })
    }
}

/// A `TestInterface` of our own.
pub(crate) struct Ours {
    probe: Rc<Probe>,
    gate: Option<Rc<Event>>,
}

impl Ours {
    pub(crate) fn object(probe: &Rc<Probe>) -> Self {
        Self { probe: probe.clone(), gate: None }
    }
}

/// An object and what becomes known of it.
pub(crate) fn ours() -> (Rc<Probe>, test_interface::Client) {
    let probe = Probe::new();
    let cap = capnp_rpc::new_client(Ours::object(&probe));
    (probe, cap)
}

/// One whose calls wait until the event.
pub(crate) fn gated(gate: &Rc<Event>) -> (Rc<Probe>, test_interface::Client) {
    let probe = Probe::new();
    let cap = capnp_rpc::new_client(Ours { probe: probe.clone(), gate: Some(gate.clone()) });
    (probe, cap)
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.probe.is_dropped.set(true);
        self.probe.dropped.happen();
    }
}

impl test_interface::Server for Ours {
    async fn foo(
        self: Rc<Self>,
        params: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        if params.get_i() != 123 || !params.get_j() {
            return Err(Error::failed("foo takes 123 and true".into()));
        }
        self.probe.calls.set(self.probe.calls.get() + 1);
        self.probe.called.happen();
        results.get().set_x("foo");
        if let Some(gate) = &self.gate {
            gate.clone().wait().await;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct OurCallOrder(Cell<u32>);

impl test_call_order::Server for OurCallOrder {
    async fn get_call_sequence(
        self: Rc<Self>,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<(), Error> {
        results.get().set_n(self.0.replace(self.0.get() + 1));
        Ok(())
    }
}

pub(crate) struct OurTailCallee(pub(crate) Rc<Probe>);

impl test_tail_callee::Server for OurTailCallee {
    async fn foo(
        self: Rc<Self>,
        params: test_tail_callee::FooParams,
        mut results: test_tail_callee::FooResults,
    ) -> Result<(), Error> {
        self.0.calls.set(self.0.calls.get() + 1);
        let params = params.get()?;
        results.get().set_i(params.get_i().cast_unsigned());
        results.get().set_t(params.get_t()?);
        results.get().set_c(capnp_rpc::new_client(OurCallOrder::default()));
        Ok(())
    }
}

/// A callee that ends only by being canceled.
pub(crate) struct NeverTailCallee(pub(crate) Rc<Probe>);

impl test_tail_callee::Server for NeverTailCallee {
    async fn foo(
        self: Rc<Self>,
        _: test_tail_callee::FooParams,
        _: test_tail_callee::FooResults,
    ) -> Result<(), Error> {
        struct Tells(Rc<Probe>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.canceled.happen();
            }
        }
        let _tells = Tells(self.0.clone());
        self.0.called.happen();
        std::future::pending().await
    }
}

pub(crate) struct OurThing;

impl test_membrane::thing::Server for OurThing {
    async fn pass_through(
        self: Rc<Self>,
        _: test_membrane::thing::PassThroughParams,
        mut results: test_membrane::thing::PassThroughResults,
    ) -> Result<(), Error> {
        results.get().set_text("outside");
        Ok(())
    }

    async fn intercept(
        self: Rc<Self>,
        _: test_membrane::thing::InterceptParams,
        mut results: test_membrane::thing::InterceptResults,
    ) -> Result<(), Error> {
        results.get().set_text("outside");
        Ok(())
    }
}

/// A promise for a capability, to be resolved later.
pub(crate) struct OurPromise<C> {
    pub(crate) cap: C,
    /// Whether the crate knows that it is resolved: it does a while after it was told.
    pub(crate) is_known: Rc<Cell<bool>>,
    fulfiller: oneshot::Sender<Result<C, Error>>,
}

impl<C: FromClientHook + Clone + 'static> OurPromise<C> {
    pub(crate) fn new() -> Self {
        let (fulfiller, promise) = oneshot::channel();
        let is_known = Rc::new(Cell::new(false));
        let knows = is_known.clone();
        let cap = capnp_rpc::new_future_client(async move {
            let outcome = promise.await;
            knows.set(true);
            outcome.unwrap_or_else(|_| Err(Error::failed("nobody resolves it".into())))
        });
        Self { cap, is_known, fulfiller }
    }

    pub(crate) fn fulfil(self, cap: C) -> Result<(), Failure> {
        self.settle(Ok(cap))
    }

    pub(crate) fn reject(self, reason: &str) -> Result<(), Failure> {
        self.settle(Err(Error::failed(reason.into())))
    }

    fn settle(self, outcome: Result<C, Error>) -> Result<(), Failure> {
        self.fulfiller
            .send(outcome)
            .map_err(|_| Failure::Failed("the promise was dropped before it resolved".into()))
    }
}
