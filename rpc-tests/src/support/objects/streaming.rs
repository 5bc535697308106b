//! `TestStreaming`.

use std::sync::Mutex;

use capnp_threads_core::Result;
use rpc_schema::test_capnp::test_streaming;

/// Does what the schema says: adds up.
#[derive(Debug, Default)]
pub struct Streaming {
    totals: Mutex<Totals>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    i: u32,
    j: u32,
}

impl test_streaming::Server for Streaming {
    fn do_stream_i(&self, params: test_streaming::DoStreamIParams) -> Result<()> {
        let i = params.get()?.get_i();
        let mut totals = self.totals.lock().unwrap();
        totals.i = totals.i.wrapping_add(i);
        Ok(())
    }

    fn do_stream_j(&self, params: test_streaming::DoStreamJParams) -> Result<()> {
        let j = params.get()?.get_j();
        let mut totals = self.totals.lock().unwrap();
        totals.j = totals.j.wrapping_add(j);
        Ok(())
    }

    fn finish_stream(
        &self,
        _: test_streaming::FinishStreamParams,
        mut results: test_streaming::FinishStreamResults,
    ) -> Result<()> {
        let totals = *self.totals.lock().unwrap();
        let mut result = results.get();
        result.set_total_i(totals.i);
        result.set_total_j(totals.j);
        Ok(())
    }
}
