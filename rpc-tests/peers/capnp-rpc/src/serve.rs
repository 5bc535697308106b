//! The server: one bootstrap object per connection that is all of the
//! conformance interfaces.

use std::cell::Cell;
use std::io::{self, Write};
use std::ops::Deref;
use std::rc::Rc;

use capnp::capability::{
    DispatchCallResult, FromClientHook, FromServer, Params, Promise, Results, Server,
};
use capnp::traits::HasTypeId;
use capnp::{Error, any_pointer};
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::{Side, vat_id};
use capnp_rpc::twoparty::VatNetwork;

use crate::address::{Listener, Socket};
use crate::generated::test_capnp::{
    test_authenticated_bootstrap, test_call_order, test_extends, test_extends2, test_interface,
    test_membrane, test_more_stuff, test_pipeline, test_streaming, test_tail_callee,
    test_tail_caller,
};
use crate::generated::test_control_capnp::{test_control, test_objects};
use crate::objects::{
    Accepts, CallOrderObject, ExtendsObject, HandleObject, InterfaceObject, MembraneObject,
    MoreStuffObject, PipelineObject, Sequence, StreamingObject, TailCalleeObject, TailCallerObject,
};
use crate::state::{ConnectionState, Untyped, counted};

type State = Rc<ConnectionState>;
type CallerId = test_authenticated_bootstrap::Client<vat_id::Owned>;

/// Serves until the process is killed.
pub(crate) async fn serve(address: &str) -> io::Result<()> {
    let (listener, actual) = Listener::bind(address).await?;
    println!("ready {actual}");
    io::stdout().flush()?;
    let handles = Rc::new(Cell::new(0));
    loop {
        let Socket { reading, writing, .. } = listener.accept().await?;
        let bootstrap: Untyped =
            capnp_rpc::new_client(Bootstrap::new(&ConnectionState::new(handles.clone())));
        let network =
            VatNetwork::new(reading, writing, Side::Server, capnp::message::ReaderOptions::new());
        let rpc = RpcSystem::new(Box::new(network), Some(bootstrap.cast_to()));
        tokio::task::spawn_local(async move {
            if let Err(error) = rpc.await {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// One capability that is all of the conformance interfaces: each call goes to
/// an object of the interface that it names.
struct Bootstrap {
    state: State,
    extends: Dispatch<test_extends2::Client, ExtendsObject>,
    pipeline: Dispatch<test_pipeline::Client, PipelineObject>,
    more_stuff: Dispatch<test_more_stuff::Client, MoreStuffObject>,
    tail_callee: Dispatch<test_tail_callee::Client, TailCalleeObject>,
    tail_caller: Dispatch<test_tail_caller::Client, TailCallerObject>,
    streaming: Dispatch<test_streaming::Client, StreamingObject>,
    membrane: Dispatch<test_membrane::Client, MembraneObject>,
    caller_id: Dispatch<CallerId, CallerIdObject>,
    control: Dispatch<test_control::Client, ControlObject>,
    objects: Dispatch<test_objects::Client, ObjectsObject>,
}

type Dispatch<C, S> = <C as FromServer<S>>::Dispatch;

fn dispatch<C: FromServer<S>, S>(server: S) -> C::Dispatch {
    C::from_server(Rc::new(server))
}

impl Bootstrap {
    fn new(state: &State) -> Self {
        Self {
            extends: dispatch::<test_extends2::Client, _>(ExtendsObject(Accepts::EitherFoo)),
            pipeline: dispatch::<test_pipeline::Client, _>(PipelineObject(state.clone())),
            more_stuff: dispatch::<test_more_stuff::Client, _>(MoreStuffObject::new(
                state.clone(),
                Sequence::OfConnection,
            )),
            tail_callee: dispatch::<test_tail_callee::Client, _>(TailCalleeObject(state.clone())),
            tail_caller: dispatch::<test_tail_caller::Client, _>(TailCallerObject),
            streaming: dispatch::<test_streaming::Client, _>(StreamingObject::default()),
            membrane: dispatch::<test_membrane::Client, _>(MembraneObject(state.clone())),
            caller_id: dispatch::<CallerId, _>(CallerIdObject),
            control: dispatch::<test_control::Client, _>(ControlObject(state.clone())),
            objects: dispatch::<test_objects::Client, _>(ObjectsObject(state.clone())),
            state: state.clone(),
        }
    }
}

#[derive(Clone)]
struct BootstrapDispatch(Rc<Bootstrap>);

impl Deref for BootstrapDispatch {
    type Target = Bootstrap;
    fn deref(&self) -> &Bootstrap {
        &self.0
    }
}

impl FromServer<Bootstrap> for Untyped {
    type Dispatch = BootstrapDispatch;
    fn from_server(server: Rc<Bootstrap>) -> BootstrapDispatch {
        BootstrapDispatch(server)
    }
}

impl Server for BootstrapDispatch {
    fn dispatch_call(
        self,
        interface: u64,
        method: u16,
        params: Params<any_pointer::Owned>,
        results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        if ![test_control::Client::TYPE_ID, test_objects::Client::TYPE_ID].contains(&interface) {
            self.state.count(interface);
        }
        macro_rules! to {
            ($object:ident) => {
                self.$object.clone().dispatch_call(interface, method, params, results)
            };
        }
        match interface {
            test_interface::Client::TYPE_ID
            | test_extends::Client::TYPE_ID
            | test_extends2::Client::TYPE_ID => to!(extends),
            test_pipeline::Client::TYPE_ID => to!(pipeline),
            test_call_order::Client::TYPE_ID | test_more_stuff::Client::TYPE_ID => to!(more_stuff),
            test_tail_callee::Client::TYPE_ID => to!(tail_callee),
            test_tail_caller::Client::TYPE_ID => to!(tail_caller),
            test_streaming::Client::TYPE_ID => to!(streaming),
            test_membrane::Client::TYPE_ID => to!(membrane),
            CallerId::TYPE_ID => to!(caller_id),
            test_control::Client::TYPE_ID => to!(control),
            test_objects::Client::TYPE_ID => to!(objects),
            _ => DispatchCallResult::new(
                Promise::err(Error::unimplemented(format!("no interface {interface:#x} here"))),
                false,
            ),
        }
    }

    fn as_ptr(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }
}

struct CallerIdObject;

impl test_authenticated_bootstrap::Server<vat_id::Owned> for CallerIdObject {
    async fn get_caller_id(
        self: Rc<Self>,
        _: test_authenticated_bootstrap::GetCallerIdParams<vat_id::Owned>,
        mut results: test_authenticated_bootstrap::GetCallerIdResults<vat_id::Owned>,
    ) -> Result<(), Error> {
        // Whoever called over a connection that was accepted is its client.
        results.get().init_caller().set_side(Side::Client);
        Ok(())
    }
}

/// The crate takes a call with sendResultsTo.yourself into its tables, and then
/// polls it only as far as pipelined calls make it.
pub(crate) const NEVER_RUNS: &str =
    "the implementation never runs a call whose results stay with the callee";

/// What this implementation cannot show as a server.
const LIMITS: &[(&str, &str)] = &[
    ("tail-call-back", NEVER_RUNS),
    ("enormous-result-fails-alone", "the implementation sends messages of any size"),
    ("membrane-at-server", "the crate has no membranes"),
    ("file-descriptors", "the implementation does not pass file descriptors"),
    ("tables-at-rest", "the implementation does not tell the sizes of its tables"),
];

struct ControlObject(State);

impl test_control::Server for ControlObject {
    async fn call_counts(
        self: Rc<Self>,
        _: test_control::CallCountsParams,
        mut results: test_control::CallCountsResults,
    ) -> Result<(), Error> {
        let calls = self.0.calls.borrow().clone();
        let mut counts = results.get().init_counts(length(calls.len())?);
        for (index, (id, calls)) in (0..).zip(calls) {
            let mut count = counts.reborrow().get(index);
            count.set_interface_id(id);
            count.set_calls(calls);
        }
        Ok(())
    }

    async fn live_handles(
        self: Rc<Self>,
        _: test_control::LiveHandlesParams,
        mut results: test_control::LiveHandlesResults,
    ) -> Result<(), Error> {
        results.get().set_here(self.0.handles.get());
        results.get().set_all(self.0.handles_of_server.get());
        Ok(())
    }

    async fn cancellations(
        self: Rc<Self>,
        _: test_control::CancellationsParams,
        mut results: test_control::CancellationsResults,
    ) -> Result<(), Error> {
        results.get().set_count(self.0.cancellations.get());
        Ok(())
    }

    async fn reset(
        self: Rc<Self>,
        _: test_control::ResetParams,
        _: test_control::ResetResults,
    ) -> Result<(), Error> {
        self.0.reset();
        Ok(())
    }

    async fn implementation(
        self: Rc<Self>,
        _: test_control::ImplementationParams,
        mut results: test_control::ImplementationResults,
    ) -> Result<(), Error> {
        results.get().set_name("capnp-rpc 0.27");
        let mut limits = results.get().init_limits(length(LIMITS.len())?);
        for (index, (behaviour, why)) in (0..).zip(LIMITS) {
            let mut limit = limits.reborrow().get(index);
            limit.set_behaviour(*behaviour);
            limit.set_why(*why);
        }
        Ok(())
    }
}

fn length(length: usize) -> Result<u32, Error> {
    u32::try_from(length).map_err(|_| Error::failed("too many for a list".into()))
}

struct ObjectsObject(State);

macro_rules! gives {
    ($($method:ident($params:ident, $results:ident) => |$state:ident| $object:expr;)*) => {
        impl test_objects::Server for ObjectsObject {
            $(async fn $method(
                self: Rc<Self>,
                _: test_objects::$params,
                mut results: test_objects::$results,
            ) -> Result<(), Error> {
                let $state = &self.0;
                results.get().set_object($object);
                Ok(())
            })*
        }
    };
}

gives! {
    test_interface(TestInterfaceParams, TestInterfaceResults) =>
        |state| counted(state, InterfaceObject);
    test_extends(TestExtendsParams, TestExtendsResults) =>
        |state| counted(state, ExtendsObject(Accepts::OwnFoo));
    test_pipeline(TestPipelineParams, TestPipelineResults) =>
        |state| counted(state, PipelineObject(state.clone()));
    test_call_order(TestCallOrderParams, TestCallOrderResults) =>
        |state| counted(state, CallOrderObject::default());
    test_tail_callee(TestTailCalleeParams, TestTailCalleeResults) =>
        |state| counted(state, TailCalleeObject(state.clone()));
    test_tail_caller(TestTailCallerParams, TestTailCallerResults) =>
        |state| counted(state, TailCallerObject);
    test_streaming(TestStreamingParams, TestStreamingResults) =>
        |state| counted(state, StreamingObject::default());
    test_more_stuff(TestMoreStuffParams, TestMoreStuffResults) =>
        |state| counted(state, MoreStuffObject::new(state.clone(), Sequence::Own(Cell::new(0))));
    test_handle(TestHandleParams, TestHandleResults) =>
        |state| counted(state, HandleObject::new(state.clone()));
    test_membrane(TestMembraneParams, TestMembraneResults) =>
        |state| counted(state, MembraneObject(state.clone()));
    test_control(TestControlParams, TestControlResults) =>
        |state| capnp_rpc::new_client(ControlObject(state.clone()));
}
