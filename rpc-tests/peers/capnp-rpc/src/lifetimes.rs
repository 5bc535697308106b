//! Who is alive when, who is told of a cancellation, and the end of a
//! connection.

use std::rc::Rc;

use capnp::ErrorKind;
use capnp_rpc::CapabilityServerSet;

use crate::generated::test_capnp::{test_interface, test_more_stuff};
use crate::harness::{
    Context, Failure, Outcome, behaviours, check, check_eq, check_foo, failure, send_foo,
};
use crate::ours::{Event, Ours, Probe, gated, ours};

behaviours! {
    "hold" => hold,
    "hold-releases" => hold_releases,
    "release-result" => release_result,
    "release-parameter" => release_parameter,
    "drop-in-call" => drop_in_call,
    "cancel-releases-parameters" => cancel_releases_parameters,
    "cancel-reaches-handler" => cancel_reaches_handler,
    "disconnect" => disconnect,
}

async fn hold_cap(theirs: &test_more_stuff::Client, cap: test_interface::Client) -> Outcome {
    let mut request = theirs.hold_request();
    request.get().set_cap(cap);
    request.send().promise.await?;
    Ok(())
}

async fn call_held(theirs: &test_more_stuff::Client) -> Outcome {
    let response = theirs.call_held_request().send().promise.await?;
    check_eq!(response.get()?.get_s()?.to_str()?, "bar");
    Ok(())
}

async fn hold(c: Rc<Context>) -> Outcome {
    let mut set = CapabilityServerSet::<Ours, test_interface::Client>::new();
    let theirs: test_more_stuff::Client = c.theirs();
    let probe = Probe::new();
    hold_cap(&theirs, set.new_client(Ours::object(&probe))).await?;
    call_held(&theirs).await?;
    check_eq!(probe.calls.get(), 1);
    let response = theirs.get_held_request().send().promise.await?;
    let held = response.get()?.get_cap()?;
    check!(set.get_local_server(&held).await.is_some(), "what came back is not our object");
    check_foo(&held).await?;
    check_eq!(probe.calls.get(), 2);
    Ok(())
}

async fn hold_releases(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    let (first, cap) = ours();
    hold_cap(&theirs, cap).await?;
    call_held(&theirs).await?;
    check_eq!(first.calls.get(), 1);
    check!(!first.is_dropped.get(), "released while it was held");
    let (second, cap) = ours();
    hold_cap(&theirs, cap).await?;
    first.dropped.clone().wait().await;
    check!(!second.is_dropped.get());
    Ok(())
}

async fn handles_here(c: &Context) -> Result<u32, Failure> {
    let response = c.control()?.live_handles_request().send().promise.await?;
    Ok(response.get()?.get_here())
}

async fn handles_anywhere(c: &Context) -> Result<u32, Failure> {
    let response = c.control()?.live_handles_request().send().promise.await?;
    Ok(response.get()?.get_all())
}

async fn release_result(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    check_eq!(handles_here(&c).await?, 0);
    let one = theirs.get_handle_request().send().promise.await?;
    check_eq!(handles_here(&c).await?, 1);
    let two = theirs.get_handle_request().send().promise.await?;
    check_eq!(handles_here(&c).await?, 2);
    // Each question asks again over the connection, until the deadline.
    drop(two);
    while handles_here(&c).await? != 1 {}
    drop(one);
    while handles_here(&c).await? != 0 {}
    Ok(())
}

async fn release_parameter(c: Rc<Context>) -> Outcome {
    let (probe, cap) = ours();
    let mut request = c.theirs::<test_more_stuff::Client>().call_foo_request();
    request.get().set_cap(cap);
    drop(request.send().promise.await?);
    probe.dropped.clone().wait().await;
    Ok(())
}

async fn drop_in_call(c: Rc<Context>) -> Outcome {
    let gate = Event::new();
    let (probe, cap) = gated(&gate);
    let call = {
        let response = c.objects().test_more_stuff_request().send().promise.await?;
        let object = response.get()?.get_object()?;
        let mut request = object.call_foo_request();
        request.get().set_cap(cap);
        request.send()
    };
    probe.called.clone().wait().await;
    c.ping().await?;
    gate.happen();
    check_eq!(call.promise.await?.get()?.get_s()?.to_str()?, "bar");
    Ok(())
}

async fn cancel_releases_parameters(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    {
        let (probe, cap) = ours();
        let mut request = theirs.expect_cancel_request();
        request.get().set_cap(cap);
        let call = request.send();
        c.ping().await?;
        check!(!probe.is_dropped.get(), "released before the call was canceled");
        drop(call);
        probe.dropped.clone().wait().await;
    }
    let (probe, cap) = ours();
    let mut request = theirs.never_return_request();
    request.get().set_cap(cap);
    let call = request.send();
    c.ping().await?;
    check!(!probe.is_dropped.get(), "released before the call was canceled");
    drop(call);
    probe.dropped.clone().wait().await;
    Ok(())
}

async fn cancellations(c: &Context) -> Result<u32, Failure> {
    let response = c.control()?.cancellations_request().send().promise.await?;
    Ok(response.get()?.get_count())
}

async fn cancel_reaches_handler(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    let expect = theirs.expect_cancel_request().send();
    let never = theirs.never_return_request().send();
    // An answer of the same object: both methods have begun.
    theirs.get_null_request().send().promise.await?;
    check_eq!(cancellations(&c).await?, 0);
    drop((expect, never));
    while cancellations(&c).await? != 2 {}
    Ok(())
}

async fn disconnect(c: Rc<Context>) -> Outcome {
    let second = c.connect().await?;
    let theirs: test_more_stuff::Client = second.theirs();
    let (probe, cap) = ours();
    let handle = theirs.get_handle_request().send().promise.await?;
    let mut request = theirs.never_return_request();
    request.get().set_cap(cap);
    let in_flight = request.send();
    check_foo(&second.theirs()).await?;

    let before = if c.has_control() { Some(handles_anywhere(&c).await?) } else { None };
    second.shut_down()?;

    let error = failure(in_flight.promise).await?;
    check_eq!(error.kind, ErrorKind::Disconnected);
    let later = failure(send_foo(&second.theirs())).await?;
    check_eq!(later.kind, ErrorKind::Disconnected);
    probe.dropped.clone().wait().await;
    if let Some(before) = before {
        while handles_anywhere(&c).await? != before - 1 {}
    }
    drop(handle);
    Ok(())
}
