//! `TestControl`, the view into the server, and `TestObjects`, the conformance
//! objects one by one.

use std::sync::Arc;

use capnp_threads_core::membrane::Membrane;
use capnp_threads_core::{Error, Result};
use rpc_schema::rpc_twoparty_capnp::{Side, vat_id};
use rpc_schema::test_capnp::{test_authenticated_bootstrap, test_handle, test_membrane};
use rpc_schema::test_control_capnp::{test_control, test_objects};

use super::host::Own;
use super::objects::{Accepts, Extends, Handle, tail_callee};
use super::state::{ConnectionState, counted};
use crate::support::objects::{
    CallOrder, Intercepts, Interface, MoreStuff, Pipeline, Streaming, TailCaller, TestMembrane,
};

pub(super) struct Control {
    pub(super) state: Arc<ConnectionState>,
}

impl test_control::Server for Control {
    fn call_counts(
        &self,
        _: test_control::CallCountsParams,
        mut results: test_control::CallCountsResults,
    ) -> Result<()> {
        let calls = self.state.calls();
        let mut counts = results.get().init_counts(as_u32(calls.len())?);
        for (index, (interface, calls)) in (0..).zip(calls) {
            let mut count = counts.reborrow().get(index);
            count.set_interface_id(interface);
            count.set_calls(calls);
        }
        Ok(())
    }

    fn live_handles(
        &self,
        _: test_control::LiveHandlesParams,
        mut results: test_control::LiveHandlesResults,
    ) -> Result<()> {
        let mut result = results.get();
        result.set_here(self.state.handles_here());
        result.set_all(self.state.handles_of_server());
        Ok(())
    }

    /// Fails if the tables are not sound.
    fn table_sizes(
        &self,
        _: test_control::TableSizesParams,
        mut results: test_control::TableSizesResults,
    ) -> Result<()> {
        let connection = self.state.connection();
        connection.check().map_err(|problem| {
            Error::failed(format!("the server's tables are unsound: {problem}"))
        })?;
        let snapshot = connection.snapshot();
        let mut sizes = results.get().init_sizes();
        sizes.set_questions(as_u32(snapshot.questions)?);
        sizes.set_answers(as_u32(snapshot.answers)?);
        sizes.set_exports(as_u32(snapshot.exports)?);
        sizes.set_imports(as_u32(snapshot.imports)?);
        sizes.set_embargoes(as_u32(snapshot.embargoes)?);
        Ok(())
    }

    fn cancellations(
        &self,
        _: test_control::CancellationsParams,
        mut results: test_control::CancellationsResults,
    ) -> Result<()> {
        results.get().set_count(self.state.cancellations());
        Ok(())
    }

    fn reset(&self, _: test_control::ResetParams, _: test_control::ResetResults) -> Result<()> {
        self.state.reset();
        Ok(())
    }

    fn implementation(
        &self,
        _: test_control::ImplementationParams,
        mut results: test_control::ImplementationResults,
    ) -> Result<()> {
        let mut result = results.get();
        result.set_name("this library");
        result.set_sends_results_to_yourself(true);
        result.set_only_tail_calls(true);
        Ok(())
    }
}

fn as_u32(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| Error::failed("the count does not fit"))
}

pub(super) struct Objects {
    pub(super) state: Arc<ConnectionState>,
}

/// Methods that return a new object each.
macro_rules! gives {
    ($($method:ident, $params:ident, $results:ident: $make:expr;)*) => {
        $(fn $method(
            &self,
            _: test_objects::$params,
            mut results: test_objects::$results,
        ) -> Result<()> {
            let make: fn(&Arc<ConnectionState>) -> _ = $make;
            results.get().set_object(counted(&self.state, make(&self.state)));
            Ok(())
        })*
    };
}

impl test_objects::Server for Objects {
    gives! {
        test_interface, TestInterfaceParams, TestInterfaceResults: |_| Interface;
        test_extends, TestExtendsParams, TestExtendsResults:
            |_| Extends { accepts: Accepts::OwnFoo };
        test_pipeline, TestPipelineParams, TestPipelineResults:
            |state| Pipeline(Arc::clone(state));
        test_call_order, TestCallOrderParams, TestCallOrderResults: |_| CallOrder::default();
        test_tail_caller, TestTailCallerParams, TestTailCallerResults: |_| TailCaller;
        test_streaming, TestStreamingParams, TestStreamingResults: |_| Streaming::default();
        test_more_stuff, TestMoreStuffParams, TestMoreStuffResults:
            |state| MoreStuff::with_host(Own::new(state));
        test_handle, TestHandleParams, TestHandleResults: Handle::new;
        test_membrane, TestMembraneParams, TestMembraneResults:
            |state| TestMembrane(Arc::clone(state));
    }

    fn test_tail_callee(
        &self,
        _: test_objects::TestTailCalleeParams,
        mut results: test_objects::TestTailCalleeResults,
    ) -> Result<()> {
        results.get().set_object(tail_callee(&self.state));
        Ok(())
    }

    fn membraned(
        &self,
        _: test_objects::MembranedParams,
        mut results: test_objects::MembranedResults,
    ) -> Result<()> {
        let vat = &self.state.vat;
        let membrane = Membrane::new(Intercepts::new(vat));
        let inside: test_membrane::Client =
            counted(&self.state, TestMembrane(Arc::clone(&self.state)));
        results.get().set_object(membrane.wrap(&inside));
        results.get().set_revoker(vat.export(Revokes(membrane)));
        Ok(())
    }

    fn test_control(
        &self,
        _: test_objects::TestControlParams,
        mut results: test_objects::TestControlResults,
    ) -> Result<()> {
        let control = Control { state: Arc::clone(&self.state) };
        results.get().set_object(test_control::Client::from_server(control));
        Ok(())
    }
}

/// Revokes a membrane when it is dropped.
struct Revokes(Membrane);

impl test_handle::Server for Revokes {}

impl Drop for Revokes {
    fn drop(&mut self) {
        self.0.revoke(Error::failed("the membrane was revoked"));
    }
}

/// Knows whom it was given to: the one who connected.
pub(super) struct CallerId;

impl test_authenticated_bootstrap::Server<vat_id::Owned> for CallerId {
    fn get_caller_id(
        &self,
        _: test_authenticated_bootstrap::GetCallerIdParams<vat_id::Owned>,
        mut results: test_authenticated_bootstrap::GetCallerIdResults<vat_id::Owned>,
    ) -> Result<()> {
        results.get().init_caller().set_side(Side::Client);
        Ok(())
    }
}
