//! The objects of the conformance interfaces, as a server has them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use capnp::capability::FromClientHook;
use capnp::{Error, ErrorKind};

use crate::generated::test_capnp::{
    test_all_types, test_call_order, test_extends, test_extends2, test_handle, test_interface,
    test_membrane, test_more_stuff, test_pipeline, test_streaming, test_tail_callee,
    test_tail_caller,
};
use crate::generated::test_values_capnp::FULL_MESSAGE;
use crate::state::{ConnectionState, counted};

type State = Rc<ConnectionState>;

/// Calls `foo` as most methods that are given a `TestInterface` do, and insists
/// on the right answer.
pub(crate) async fn call_foo(cap: test_interface::Client) -> Result<(), Error> {
    let mut request = cap.foo_request();
    request.get().set_i(123);
    request.get().set_j(true);
    let response = request.send().promise.await?;
    let x = response.get()?.get_x()?;
    if x == "foo" { Ok(()) } else { Err(Error::failed(format!("foo returned {x:?}"))) }
}

/// Compares with the full message, by the canonical forms.
pub(crate) fn is_full_message(message: test_all_types::Reader<'_>) -> Result<bool, Error> {
    let canonical = |message: test_all_types::Reader<'_>| -> Result<Vec<u8>, Error> {
        let mut builder = capnp::message::Builder::new_default();
        builder.set_root_canonical(message)?;
        Ok(builder.get_segments_for_output()[0].to_vec())
    };
    Ok(canonical(message)? == canonical(FULL_MESSAGE.get()?)?)
}

fn require_full_message(message: test_all_types::Reader<'_>) -> Result<(), Error> {
    if is_full_message(message)? {
        Ok(())
    } else {
        Err(Error::failed("this is not the full message".into()))
    }
}

pub(crate) struct InterfaceObject;

impl test_interface::Server for InterfaceObject {
    async fn foo(
        self: Rc<Self>,
        params: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        if params.get_i() != 123 || !params.get_j() {
            return Err(Error::failed("foo takes 123 and true".into()));
        }
        results.get().set_x("foo");
        Ok(())
    }

    async fn baz(
        self: Rc<Self>,
        params: test_interface::BazParams,
        _: test_interface::BazResults,
    ) -> Result<(), Error> {
        require_full_message(params.get()?.get_s()?)
    }
}

/// Which arguments the `foo` of a `TestExtends` takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    OwnFoo,
    /// Those of a plain `TestInterface` as well.
    EitherFoo,
}

pub(crate) struct ExtendsObject(pub(crate) Accepts);

impl test_interface::Server for ExtendsObject {
    async fn foo(
        self: Rc<Self>,
        params: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        match (params.get_i(), params.get_j()) {
            (321, false) => results.get().set_x("bar"),
            (123, true) if self.0 == Accepts::EitherFoo => results.get().set_x("foo"),
            _ => return Err(Error::failed("foo of TestExtends takes 321 and false".into())),
        }
        Ok(())
    }

    async fn baz(
        self: Rc<Self>,
        params: test_interface::BazParams,
        _: test_interface::BazResults,
    ) -> Result<(), Error> {
        require_full_message(params.get()?.get_s()?)
    }
}

impl test_extends::Server for ExtendsObject {
    async fn grault(
        self: Rc<Self>,
        _: test_extends::GraultParams,
        mut results: test_extends::GraultResults,
    ) -> Result<(), Error> {
        results.set(FULL_MESSAGE.get()?)
    }
}

impl test_extends2::Server for ExtendsObject {}

pub(crate) struct PipelineObject(pub(crate) State);

impl PipelineObject {
    fn new_extends(&self) -> test_extends::Client {
        counted(&self.0, ExtendsObject(Accepts::OwnFoo))
    }

    fn new_boxed(&self) -> test_interface::Client {
        self.new_extends().cast_to()
    }
}

impl test_pipeline::Server for PipelineObject {
    async fn get_cap(
        self: Rc<Self>,
        params: test_pipeline::GetCapParams,
        mut results: test_pipeline::GetCapResults,
    ) -> Result<(), Error> {
        if params.get()?.get_n() != 234 {
            return Err(Error::failed("getCap takes 234".into()));
        }
        let in_cap = params.get()?.get_in_cap()?;
        drop(params);
        call_foo(in_cap).await?;
        results.get().set_s("bar");
        results.get().init_out_box().set_cap(self.new_boxed());
        Ok(())
    }

    async fn test_pointers(
        self: Rc<Self>,
        params: test_pipeline::TestPointersParams,
        _: test_pipeline::TestPointersResults,
    ) -> Result<(), Error> {
        let mut caps = Vec::new();
        {
            let params = params.get()?;
            if params.has_cap() {
                caps.push(params.get_cap()?);
            }
            if params.has_obj() {
                caps.push(params.get_obj().get_as_capability()?);
            }
            for cap in params.get_list()? {
                match cap {
                    Ok(cap) => caps.push(cap),
                    Err(error) if error.kind == ErrorKind::MessageContainsNullCapabilityPointer => {
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        futures::future::try_join_all(caps.into_iter().map(call_foo)).await?;
        Ok(())
    }

    async fn get_any_cap(
        self: Rc<Self>,
        params: test_pipeline::GetAnyCapParams,
        mut results: test_pipeline::GetAnyCapResults,
    ) -> Result<(), Error> {
        if params.get()?.get_n() != 234 {
            return Err(Error::failed("getAnyCap takes 234".into()));
        }
        let in_cap = params.get()?.get_in_cap().get_as_capability()?;
        drop(params);
        call_foo(in_cap).await?;
        results.get().set_s("bar");
        let mut cap = results.get().init_out_box().init_cap();
        cap.set_as_capability(self.new_extends().into_client_hook());
        Ok(())
    }

    async fn get_cap_pipeline_only(
        self: Rc<Self>,
        _: test_pipeline::GetCapPipelineOnlyParams,
        mut results: test_pipeline::GetCapPipelineOnlyResults,
    ) -> Result<(), Error> {
        results.get().init_out_box().set_cap(self.new_boxed());
        results.set_pipeline()?;
        self.0.clone().until_canceled().await
    }
}

#[derive(Default)]
pub(crate) struct CallOrderObject(Cell<u32>);

impl test_call_order::Server for CallOrderObject {
    async fn get_call_sequence(
        self: Rc<Self>,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<(), Error> {
        results.get().set_n(self.0.replace(self.0.get() + 1));
        Ok(())
    }
}

pub(crate) struct TailCalleeObject(pub(crate) State);

impl test_tail_callee::Server for TailCalleeObject {
    async fn foo(
        self: Rc<Self>,
        params: test_tail_callee::FooParams,
        mut results: test_tail_callee::FooResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_i(params.get_i().cast_unsigned());
        results.set_t(params.get_t()?);
        results.set_c(counted(&self.0, CallOrderObject::default()));
        Ok(())
    }
}

pub(crate) struct TailCallerObject;

impl test_tail_caller::Server for TailCallerObject {
    /// The crate has no tail calls: this one returns the callee's results, and
    /// lets pipelined calls follow it at once.
    async fn foo(
        self: Rc<Self>,
        params: test_tail_caller::FooParams,
        mut results: test_tail_caller::FooResults,
    ) -> Result<(), Error> {
        let mut request = params.get()?.get_callee()?.foo_request();
        request.get().set_i(params.get()?.get_i());
        request.get().set_t("from TestTailCaller");
        drop(params);
        let call = request.send();
        results.get().set_c(call.pipeline.get_c());
        results.set_pipeline()?;
        let response = call.promise.await?;
        // The capability is there already, and replacing a struct that has one
        // panics in the capnp crate.
        results.get().set_i(response.get()?.get_i());
        results.get().set_t(response.get()?.get_t()?);
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct StreamingObject {
    total_i: Cell<u32>,
    total_j: Cell<u32>,
}

impl test_streaming::Server for StreamingObject {
    async fn do_stream_i(
        self: Rc<Self>,
        params: test_streaming::DoStreamIParams,
    ) -> Result<(), Error> {
        // A turn of the event loop, so that calls which did not wait would be
        // seen.
        tokio::task::yield_now().await;
        self.total_i.set(self.total_i.get() + params.get()?.get_i());
        Ok(())
    }

    async fn do_stream_j(
        self: Rc<Self>,
        params: test_streaming::DoStreamJParams,
    ) -> Result<(), Error> {
        tokio::task::yield_now().await;
        self.total_j.set(self.total_j.get() + params.get()?.get_j());
        Ok(())
    }

    async fn finish_stream(
        self: Rc<Self>,
        _: test_streaming::FinishStreamParams,
        mut results: test_streaming::FinishStreamResults,
    ) -> Result<(), Error> {
        results.get().set_total_i(self.total_i.get());
        results.get().set_total_j(self.total_j.get());
        Ok(())
    }
}

pub(crate) struct HandleObject(State);

impl HandleObject {
    pub(crate) fn new(state: State) -> Self {
        state.handles.set(state.handles.get() + 1);
        state.handles_of_server.set(state.handles_of_server.get() + 1);
        Self(state)
    }
}

impl Drop for HandleObject {
    fn drop(&mut self) {
        self.0.handles.set(self.0.handles.get() - 1);
        self.0.handles_of_server.set(self.0.handles_of_server.get() - 1);
    }
}

impl test_handle::Server for HandleObject {}

/// Whose numbers a `TestMoreStuff` returns as a `TestCallOrder`.
pub(crate) enum Sequence {
    Own(Cell<u32>),
    /// Those of the connection, which can be reset.
    OfConnection,
}

pub(crate) struct MoreStuffObject {
    state: State,
    sequence: Sequence,
    held: RefCell<Option<test_interface::Client>>,
}

impl MoreStuffObject {
    pub(crate) fn new(state: State, sequence: Sequence) -> Self {
        Self { state, sequence, held: RefCell::default() }
    }

    fn held(&self) -> Result<test_interface::Client, Error> {
        self.held.borrow().clone().ok_or_else(|| Error::failed("nothing is held".into()))
    }
}

impl test_call_order::Server for MoreStuffObject {
    async fn get_call_sequence(
        self: Rc<Self>,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<(), Error> {
        let next = match &self.sequence {
            Sequence::Own(next) => next,
            Sequence::OfConnection => &self.state.sequence,
        };
        results.get().set_n(next.replace(next.get() + 1));
        Ok(())
    }
}

impl test_more_stuff::Server for MoreStuffObject {
    async fn call_foo(
        self: Rc<Self>,
        params: test_more_stuff::CallFooParams,
        mut results: test_more_stuff::CallFooResults,
    ) -> Result<(), Error> {
        let cap = params.get()?.get_cap()?;
        drop(params);
        call_foo(cap).await?;
        results.get().set_s("bar");
        Ok(())
    }

    async fn call_foo_when_resolved(
        self: Rc<Self>,
        params: test_more_stuff::CallFooWhenResolvedParams,
        mut results: test_more_stuff::CallFooWhenResolvedResults,
    ) -> Result<(), Error> {
        let cap = params.get()?.get_cap()?;
        drop(params);
        cap.client.when_resolved().await?;
        call_foo(cap).await?;
        results.get().set_s("bar");
        Ok(())
    }

    async fn never_return(
        self: Rc<Self>,
        params: test_more_stuff::NeverReturnParams,
        mut results: test_more_stuff::NeverReturnResults,
    ) -> Result<(), Error> {
        let params_in = params.get()?;
        let _cap = if params_in.has_cap() {
            let cap = params_in.get_cap()?;
            results.get().set_cap_copy(cap.clone());
            Some(cap)
        } else {
            None
        };
        self.state.clone().until_canceled().await
    }

    async fn hold(
        self: Rc<Self>,
        params: test_more_stuff::HoldParams,
        _: test_more_stuff::HoldResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let cap = if params.has_cap() { Some(params.get_cap()?) } else { None };
        let before = self.held.replace(cap);
        drop(before);
        Ok(())
    }

    async fn call_held(
        self: Rc<Self>,
        _: test_more_stuff::CallHeldParams,
        mut results: test_more_stuff::CallHeldResults,
    ) -> Result<(), Error> {
        call_foo(self.held()?).await?;
        results.get().set_s("bar");
        Ok(())
    }

    async fn get_held(
        self: Rc<Self>,
        _: test_more_stuff::GetHeldParams,
        mut results: test_more_stuff::GetHeldResults,
    ) -> Result<(), Error> {
        results.get().set_cap(self.held()?);
        Ok(())
    }

    async fn echo(
        self: Rc<Self>,
        params: test_more_stuff::EchoParams,
        mut results: test_more_stuff::EchoResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        if params.has_cap() {
            results.get().set_cap(params.get_cap()?);
        }
        Ok(())
    }

    async fn expect_cancel(
        self: Rc<Self>,
        params: test_more_stuff::ExpectCancelParams,
        _: test_more_stuff::ExpectCancelResults,
    ) -> Result<(), Error> {
        let _keeps_cap = params;
        self.state.clone().until_canceled().await
    }

    async fn method_with_defaults(
        self: Rc<Self>,
        params: test_more_stuff::MethodWithDefaultsParams,
        mut results: test_more_stuff::MethodWithDefaultsResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let (a, b, c) = (params.get_a()?.to_str()?, params.get_b(), params.get_c()?.to_str()?);
        results.get().set_d(format!("{a} {b} {c}"));
        Ok(())
    }

    async fn get_handle(
        self: Rc<Self>,
        _: test_more_stuff::GetHandleParams,
        mut results: test_more_stuff::GetHandleResults,
    ) -> Result<(), Error> {
        results.get().set_handle(counted(&self.state, HandleObject::new(self.state.clone())));
        Ok(())
    }

    async fn get_null(
        self: Rc<Self>,
        _: test_more_stuff::GetNullParams,
        _: test_more_stuff::GetNullResults,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn get_enormous_string(
        self: Rc<Self>,
        _: test_more_stuff::GetEnormousStringParams,
        mut results: test_more_stuff::GetEnormousStringResults,
    ) -> Result<(), Error> {
        results.get().init_str(100_000_000);
        Ok(())
    }

    async fn method_with_null_default(
        self: Rc<Self>,
        params: test_more_stuff::MethodWithNullDefaultParams,
        _: test_more_stuff::MethodWithNullDefaultResults,
    ) -> Result<(), Error> {
        if !params.get()?.has_b() {
            return Ok(());
        }
        call_foo(params.get()?.get_b()?).await
    }

    async fn throw_exception(
        self: Rc<Self>,
        _: test_more_stuff::ThrowExceptionParams,
        _: test_more_stuff::ThrowExceptionResults,
    ) -> Result<(), Error> {
        Err(Error::failed("test exception".into()))
    }

    async fn throw_remote_exception(
        self: Rc<Self>,
        _: test_more_stuff::ThrowRemoteExceptionParams,
        _: test_more_stuff::ThrowRemoteExceptionResults,
    ) -> Result<(), Error> {
        Err(Error::failed("remote exception: test exception".into()))
    }
}

pub(crate) struct MembraneObject(pub(crate) State);

impl test_membrane::Server for MembraneObject {
    async fn make_thing(
        self: Rc<Self>,
        _: test_membrane::MakeThingParams,
        mut results: test_membrane::MakeThingResults,
    ) -> Result<(), Error> {
        results.get().set_thing(counted(&self.0, ThingObject("inside")));
        Ok(())
    }

    // Without tail calls, both ways are the same.
    async fn call_pass_through(
        self: Rc<Self>,
        params: test_membrane::CallPassThroughParams,
        mut results: test_membrane::CallPassThroughResults,
    ) -> Result<(), Error> {
        let request = params.get()?.get_thing()?.pass_through_request();
        let response = request.send().promise.await?;
        results.set(response.get()?)
    }

    async fn call_intercept(
        self: Rc<Self>,
        params: test_membrane::CallInterceptParams,
        mut results: test_membrane::CallInterceptResults,
    ) -> Result<(), Error> {
        let request = params.get()?.get_thing()?.intercept_request();
        let response = request.send().promise.await?;
        results.set(response.get()?)
    }

    async fn loopback(
        self: Rc<Self>,
        params: test_membrane::LoopbackParams,
        mut results: test_membrane::LoopbackResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        if params.has_thing() {
            results.get().set_thing(params.get_thing()?);
        }
        Ok(())
    }

    async fn wait_forever(
        self: Rc<Self>,
        _: test_membrane::WaitForeverParams,
        _: test_membrane::WaitForeverResults,
    ) -> Result<(), Error> {
        self.0.clone().until_canceled().await
    }
}

/// A thing, whose methods return its text.
pub(crate) struct ThingObject(pub(crate) &'static str);

impl test_membrane::thing::Server for ThingObject {
    async fn pass_through(
        self: Rc<Self>,
        _: test_membrane::thing::PassThroughParams,
        mut results: test_membrane::thing::PassThroughResults,
    ) -> Result<(), Error> {
        results.get().set_text(self.0);
        Ok(())
    }

    async fn intercept(
        self: Rc<Self>,
        _: test_membrane::thing::InterceptParams,
        mut results: test_membrane::thing::InterceptResults,
    ) -> Result<(), Error> {
        results.get().set_text(self.0);
        Ok(())
    }
}
