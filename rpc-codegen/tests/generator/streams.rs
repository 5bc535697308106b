//! `-> stream`, and the struct that it stands for, named as a type.

use std::sync::atomic::{AtomicUsize, Ordering};

use capnp::text;
use capnp_threads::typed::{new_client, unwrap_server};
use capnp_threads::{FromClient, Result};

use crate::streams_capnp::{pump, sub};

/// Counts what is pushed.
#[derive(Default)]
struct Pump(AtomicUsize);

impl pump::Server for Pump {
    fn push(&self, params: pump::PushParams) -> Result<()> {
        self.0.fetch_add(params.get()?.get_chunk()?.len(), Ordering::Relaxed);
        Ok(())
    }

    fn pull(&self, _: pump::PullParams) -> Result<()> {
        self.0.fetch_add(1000, Ordering::Relaxed);
        Ok(())
    }

    fn both(&self, params: pump::BothParams, mut results: pump::BothResults) -> Result<()> {
        results.get().set_result(params.get()?.get_result()?)?;
        Ok(())
    }

    fn named(&self, params: pump::NamedParams) -> Result<()> {
        self.0.fetch_add(params.get()?.get_data()?.len(), Ordering::Relaxed);
        Ok(())
    }

    fn generic(&self, params: pump::GenericParams) -> Result<()> {
        let item: text::Reader<'_> = params.get()?.get_item()?.get_as()?;
        self.0.fetch_add(item.len(), Ordering::Relaxed);
        Ok(())
    }

    fn params(&self, _: pump::ParamsParams, mut results: pump::ParamsResults) -> Result<()> {
        results.get().init_list(3);
        Ok(())
    }
}

impl sub::Server for Pump {}

#[test]
fn every_way_to_write_a_stream_is_one() {
    let client: sub::Client = new_client(Pump::default());
    let mut push = client.push_request();
    push.get().set_chunk(b"12345");
    push.send().unwrap();
    client.pull_request().send().unwrap();
    let mut named = client.named_request();
    named.get().set_data(b"67");
    named.send().unwrap();
    let mut generic = client.generic_request::<text::Owned>();
    generic.get().set_item("8").unwrap();
    generic.send().unwrap();
    let mut both = client.both_request();
    both.get().init_result();
    assert!(both.call().unwrap().get().unwrap().has_result());
    assert_eq!(client.params_request().call().unwrap().get().unwrap().get_list().unwrap().len(), 3);
    client.as_client().finish_stream().unwrap();
    let pump = unwrap_server::<Pump>(&client).unwrap();
    assert_eq!(pump.0.load(Ordering::Relaxed), 1008);
}
