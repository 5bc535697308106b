//! `TestPipeline`.

use capnp_threads_core::capnp::ErrorKind;
use capnp_threads_core::typed::AnyPointerExt;
use capnp_threads_core::{Client, Error, FromClient, Result};
use rpc_schema::test_capnp::{test_interface, test_pipeline};

use super::{Host, call_foo, foo_request, leave_open, require_x};

/// Does what the schema says. Its methods wait, each on the worker that it runs on,
/// for the capabilities that they are given.
#[derive(Debug)]
pub struct Pipeline<H>(pub H);

impl<H: Host> test_pipeline::Server for Pipeline<H> {
    fn get_cap(
        &self,
        params: test_pipeline::GetCapParams,
        mut results: test_pipeline::GetCapResults,
    ) -> Result<()> {
        require_n(params.get()?.get_n())?;
        call_foo(&params.get()?.get_in_cap()?)?;
        let mut result = results.get();
        result.set_s("bar");
        result.init_out_box().set_cap(self.0.boxed());
        Ok(())
    }

    fn test_pointers(
        &self,
        params: test_pipeline::TestPointersParams,
        _: test_pipeline::TestPointersResults,
    ) -> Result<()> {
        let params = params.get()?;
        let mut objects = Vec::new();
        if params.has_cap() {
            objects.push(params.get_cap()?);
        }
        if params.has_obj() {
            objects.push(params.get_obj().get_as_capability::<test_interface::Client>()?);
        }
        for object in params.get_list()? {
            match object {
                Err(error) if error.kind == ErrorKind::MessageContainsNullCapabilityPointer => {}
                object => objects.push(object?),
            }
        }
        let calls: Vec<_> = objects.iter().map(|object| foo_request(object).send()).collect();
        calls.iter().try_for_each(|call| require_x(&call.wait()?, "foo"))
    }

    fn get_any_cap(
        &self,
        params: test_pipeline::GetAnyCapParams,
        mut results: test_pipeline::GetAnyCapResults,
    ) -> Result<()> {
        require_n(params.get()?.get_n())?;
        let object: Client = params.get()?.get_in_cap().get_as_capability()?;
        call_foo(&test_interface::Client::from_client(object))?;
        let mut result = results.get();
        result.set_s("bar");
        let mut cap = result.init_out_box().init_cap();
        cap.set_client(self.0.boxed());
        Ok(())
    }

    fn get_cap_pipeline_only(
        &self,
        _: test_pipeline::GetCapPipelineOnlyParams,
        mut results: test_pipeline::GetCapPipelineOnlyResults,
    ) -> Result<()> {
        results.get().init_out_box().set_cap(self.0.boxed());
        results.set_pipeline()?;
        let host = self.0.clone();
        leave_open(results, (), move || host.cancelled());
        Ok(())
    }
}

fn require_n(n: u32) -> Result<()> {
    if n == 234 { Ok(()) } else { Err(Error::failed("this method takes 234")) }
}
