//! Who is alive when, who is told of a cancellation, and the end of a connection.

use std::sync::Arc;

use capnp_threads_core::typed::unwrap_server;
use capnp_threads_core::{ErrorKind, FromClient};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use super::Behaviour;
use super::context::{Context, Failure, check};
use super::ours::{Gate, OurObject, Ours, Probe};
use crate::support::objects::foo_request;

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("hold", hold_and_get),
    ("hold-releases", hold_releases),
    ("release-result", release_result),
    ("release-parameter", release_parameter),
    ("drop-in-call", drop_in_call),
    ("cancel-releases-parameters", cancel_releases_parameters),
    ("cancel-reaches-handler", cancel_reaches_handler),
    ("disconnect", disconnect),
];

fn hold(
    c: &Context,
    theirs: &test_more_stuff::Client,
    object: test_interface::Client,
) -> Result<(), Failure> {
    let mut request = theirs.hold_request();
    request.get().set_cap(object);
    c.wait(&request.send())?;
    Ok(())
}

fn hold_and_get(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let ours = c.ours();
    hold(c, &theirs, ours.object.clone())?;
    check!(c.wait(&theirs.call_held_request().send())?.get()?.get_s()? == "bar");
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());

    let held = c.wait(&theirs.get_held_request().send())?.get()?.get_cap()?;
    check!(held.as_client() == ours.object.as_client(), "something else came back");
    let object = unwrap_server::<OurObject>(&held);
    let probe = object.as_ref().map(|object| object.probe());
    check!(
        probe.is_some_and(|probe| Arc::ptr_eq(probe, &ours.probe)),
        "what came back is not our object"
    );
    c.check_foo(&held)?;
    check!(ours.probe.calls() == 2, "ours was called {} times", ours.probe.calls());
    c.hold_nothing_of_ours()
}

fn hold_releases(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let Ours { probe: first, object } = c.ours();
    hold(c, &theirs, object)?;
    check!(c.wait(&theirs.call_held_request().send())?.get()?.get_s()? == "bar");
    check!(first.calls() == 1, "ours was called {} times", first.calls());
    check!(!first.is_dropped(), "released while it was held");
    let second = c.ours();
    hold(c, &theirs, second.object.clone())?;
    first.wait_dropped()?;
    check!(!second.probe.is_dropped());
    c.hold_nothing_of_ours()
}

fn release_result(c: &Context) -> Result<(), Failure> {
    let expect = |count: u32| {
        c.until("the handles are those that this side has", || {
            let here = c.handles_here()?;
            Ok(if here == count { Ok(()) } else { Err(format!("{here}, not {count}")) })
        })
    };
    check!(c.handles_here()? == 0);
    let theirs: test_more_stuff::Client = c.theirs();
    let first = c.wait(&theirs.get_handle_request().send())?.get()?.get_handle()?;
    check!(c.handles_here()? == 1);
    let second = c.wait(&theirs.get_handle_request().send())?.get()?.get_handle()?;
    check!(c.handles_here()? == 2);
    drop(second);
    expect(1)?;
    drop(first);
    expect(0)
}

fn release_parameter(c: &Context) -> Result<(), Failure> {
    let Ours { probe, object } = c.ours();
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.call_foo_request();
    request.get().set_cap(object);
    c.wait(&request.send())?;
    probe.wait_dropped()
}

fn drop_in_call(c: &Context) -> Result<(), Failure> {
    let gate = Gate::new(c.deadline());
    let ours = c.gated(&gate);
    let call = {
        let objects = c.objects();
        let object = c.wait(&objects.test_more_stuff_request().send())?.get()?.get_object()?;
        let mut request = object.call_foo_request();
        request.get().set_cap(ours.object.clone());
        request.send()
    };
    ours.probe.wait_called()?;
    c.ping()?;
    gate.open();
    check!(c.wait(&call)?.get()?.get_s()? == "bar");
    Ok(())
}

fn cancel_releases_parameters(c: &Context) -> Result<(), Failure> {
    fn expect_release<P>(c: &Context, probe: &Probe, promise: P) -> Result<(), Failure> {
        c.ping()?;
        check!(!probe.is_dropped(), "released before the call was cancelled");
        drop(promise);
        probe.wait_dropped()
    }
    let theirs: test_more_stuff::Client = c.theirs();

    let Ours { probe, object } = c.ours();
    let mut request = theirs.expect_cancel_request();
    request.get().set_cap(object);
    expect_release(c, &probe, request.send())?;

    let Ours { probe, object } = c.ours();
    let mut request = theirs.never_return_request();
    request.get().set_cap(object);
    expect_release(c, &probe, request.send())
}

fn cancel_reaches_handler(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let control = c.control()?;
    let count = || -> Result<u32, Failure> {
        Ok(c.wait(&control.cancellations_request().send())?.get()?.get_count())
    };
    let expect = theirs.expect_cancel_request().send();
    let never = theirs.never_return_request().send();
    // An answer of the same object: both methods have begun.
    c.wait(&theirs.get_null_request().send())?;
    check!(count()? == 0);
    drop((expect, never));
    c.until("two calls were cancelled", || {
        let count = count()?;
        Ok(if count == 2 { Ok(()) } else { Err(format!("{count} were")) })
    })
}

fn disconnect(c: &Context) -> Result<(), Failure> {
    let second = c.second_connection()?;
    let theirs: test_more_stuff::Client = second.connection.bootstrap();
    let base: test_interface::Client = theirs.clone().cast_to();
    let Ours { probe, object } = c.ours();
    let handle = c.wait(&theirs.get_handle_request().send())?.get()?.get_handle()?;
    let mut request = theirs.never_return_request();
    request.get().set_cap(object);
    let in_flight = request.send();
    c.check_foo(&base)?;

    let before = if c.has_control() { c.handles_of_server()? } else { 0 };
    second.control.shutdown();

    let error = c.failure(&in_flight)?;
    check!(error.kind() == ErrorKind::Disconnected, "{error}");
    let later = c.failure(&foo_request(&base).send())?;
    check!(later.kind() == ErrorKind::Disconnected, "{later}");
    probe.wait_dropped()?;
    let ended = second.connection.join_timeout(super::context::DEADLINE)?;
    check!(ended, "the connection does not end");
    check!(second.connection.snapshot().is_empty(), "{:?}", second.connection.snapshot());
    second.connection.check().map_err(Failure::Failed)?;
    if c.has_control() {
        c.until("the server dropped the handle", || {
            let now = c.handles_of_server()?;
            Ok(if now + 1 == before { Ok(()) } else { Err(format!("{before}, now {now}")) })
        })?;
    }
    drop(handle);
    Ok(())
}
