//! Interfaces that extend others, servers behind pointers, and casts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capnp_threads::typed::{new_client, unwrap_server};
use capnp_threads::{Client, Error, ErrorKind, FromClient};

use crate::other_capnp::base;
use crate::torture_capnp::{below, diamond, empty, left, right, streams};

/// Answers every method with a number of its own.
struct Object(u32);

impl base::Server for Object {
    fn ping(&self, _: base::PingParams, mut results: base::PingResults) -> Result<(), Error> {
        results.get().set_count(self.0);
        Ok(())
    }

    fn same(&self, _: base::SameParams, mut results: base::SameResults) -> Result<(), Error> {
        results.get().set_text("base");
        Ok(())
    }
}

impl left::Server for Object {
    fn left(&self, _: left::LeftParams, mut results: left::LeftResults) -> Result<(), Error> {
        results.get().set_n(1);
        Ok(())
    }

    fn clash(&self, _: left::ClashParams, mut results: left::ClashResults) -> Result<(), Error> {
        results.get().set_n(2);
        Ok(())
    }
}

impl right::Server for Object {
    fn clash(&self, _: right::ClashParams, mut results: right::ClashResults) -> Result<(), Error> {
        results.get().set_n(3);
        Ok(())
    }
}

impl diamond::Server for Object {
    fn same(&self, _: diamond::SameParams, mut results: diamond::SameResults) -> Result<(), Error> {
        results.get().set_n(4);
        Ok(())
    }

    fn diamond(
        &self,
        _: diamond::DiamondParams,
        mut results: diamond::DiamondResults,
    ) -> Result<(), Error> {
        let below: below::Client = new_client(Object(self.0 + 1));
        results.get().set_diamond(below.into());
        Ok(())
    }
}

impl below::Server for Object {}

fn ping(client: &base::Client) -> u32 {
    client.ping_request().call().unwrap().get().unwrap().get_count()
}

#[test]
fn a_server_serves_all_that_its_interface_extends() {
    let client = below::Client::from_server(Object(7));

    // The interface's own and inherited methods, as far as their names are clear.
    assert_eq!(client.left_request().call().unwrap().get().unwrap().get_n(), 1);
    assert_eq!(client.ping_request().call().unwrap().get().unwrap().get_count(), 7);
    // `Diamond` extends `Base`, so its `same` is meant.
    assert_eq!(client.same_request().call().unwrap().get().unwrap().get_n(), 4);

    // Two interfaces have `clash`, and neither extends the other.
    let as_left: left::Client = client.clone().into();
    assert_eq!(as_left.clash_request().call().unwrap().get().unwrap().get_n(), 2);
    let as_right: right::Client = client.clone().into();
    assert_eq!(as_right.clash_request().call().unwrap().get().unwrap().get_n(), 3);

    let as_base: base::Client = as_right.into();
    assert_eq!(ping(&as_base), 7);
    let response = as_base.same_request().call().unwrap();
    assert_eq!(response.get().unwrap().get_text().unwrap(), "base");

    let next = client.diamond_request().send().pipeline().get_diamond();
    assert_eq!(ping(&next.clone().into()), 8);
    assert_eq!(ping(&next.cast_to::<below::Client>().into()), 8);
}

#[test]
fn what_is_not_implemented_is_said_by_name() {
    let client = below::Client::from_server(Object(7));
    let error = client.right_request().call().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert_eq!(error.reason(), "this object does not implement torture.capnp:Right.right");

    let wrong: streams::Client = client.clone().cast_to();
    // A stream's failure shows when it is finished, if not before.
    let _ = wrong.push_request().send();
    let error = wrong.as_client().finish_stream().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    let id = <streams::Client as capnp::traits::HasTypeId>::TYPE_ID;
    let reason = format!("this torture.capnp:Below does not implement interface {id:#018x}");
    assert_eq!(error.reason(), reason);

    let id = <below::Client as capnp::traits::HasTypeId>::TYPE_ID;
    let params = capnp_threads::untyped::PayloadBuilder::for_params().finish(Vec::new());
    let error = client.as_client().call(id, 3, params).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    let reason = format!("interface torture.capnp:Below ({id:#018x}) has no method 3");
    assert_eq!(error.reason(), reason);
}

#[test]
fn servers_may_be_trait_objects() {
    let boxed: Box<dyn below::Server> = Box::new(Object(1));
    let client = below::Client::from_server(boxed);
    assert_eq!(ping(&client.into()), 1);

    let shared: Arc<dyn below::Server> = Arc::new(Object(2));
    let client = below::Client::from_server(Arc::clone(&shared));
    assert_eq!(ping(&client.clone().into()), 2);
    let again = base::Client::from_server(shared);
    assert_eq!(ping(&again), 2);
}

#[test]
fn a_server_of_this_process_can_be_had_back() {
    let client = below::Client::from_server(Object(5));
    let object = unwrap_server::<Object>(&client).expect("a local object");
    assert_eq!(object.0, 5);
    assert!(unwrap_server::<String>(&client).is_none());

    let shared = Arc::new(Object(6));
    let client: base::Client = new_client(Arc::clone(&shared));
    let object = unwrap_server::<Object>(&client).expect("a local object");
    assert!(Arc::ptr_eq(&object, &shared));

    assert!(unwrap_server::<Object>(&Client::null()).is_none());
}

struct Nothing;

impl empty::Server for Nothing {}

#[test]
fn an_interface_may_have_no_methods() {
    let client: empty::Client = new_client(Nothing);
    let error = client.cast_to::<base::Client>().ping_request().call().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}

/// Counts bytes.
struct Sink(AtomicU32);

impl streams::Server for Sink {
    fn push(&self, params: streams::PushParams) -> Result<(), Error> {
        let bytes = params.get()?.get_chunk()?.len();
        let bytes = u32::try_from(bytes).map_err(|_| Error::failed("too large"))?;
        if bytes == 0 {
            return Err(Error::failed("nothing in it"));
        }
        self.0.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn done(&self, _: streams::DoneParams, mut results: streams::DoneResults) -> Result<(), Error> {
        results.get().set_n(self.0.load(Ordering::SeqCst));
        Ok(())
    }
}

#[test]
fn a_stream_only_says_whether_it_failed() {
    let client: streams::Client = new_client(Sink(0.into()));
    for _ in 0..3 {
        let mut request = client.push_request();
        request.get().set_chunk(&[1, 2, 3]);
        request.send().unwrap();
    }
    assert_eq!(client.done_request().call().unwrap().get().unwrap().get_n(), 9);
    // What fails ends the stream, for its sender and for its receiver.
    let _ = client.push_request().send();
    assert_eq!(client.as_client().finish_stream().unwrap_err().reason(), "nothing in it");
    assert_eq!(client.push_request().send().unwrap_err().reason(), "nothing in it");
    let error = client.done_request().call().map(drop).unwrap_err();
    assert_eq!(error.reason(), "nothing in it");
}
