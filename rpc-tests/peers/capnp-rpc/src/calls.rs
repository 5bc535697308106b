//! Plain calls, their errors, and calls on what is yet to be returned.

use std::rc::Rc;

use capnp::ErrorKind;
use capnp::capability::FromClientHook;

use crate::generated::test_capnp::{test_extends, test_interface, test_more_stuff, test_pipeline};
use crate::generated::test_values_capnp::FULL_MESSAGE;
use crate::harness::{
    Context, Outcome, behaviours, check, check_eq, check_extends_foo, check_foo, expect_foo,
    failure, send_extends_foo, send_foo, sequence,
};
use crate::objects::is_full_message;
use crate::ours::{Event, gated, ours};

behaviours! {
    "bootstrap-and-call" => bootstrap_and_call,
    "unimplemented-method-fails-alone" => unimplemented_method_fails_alone,
    "unimplemented-type" => unimplemented_type,
    "error-from-handler" => error_from_handler,
    "throw-exception" => throw_exception,
    "throw-remote-exception" => throw_remote_exception,
    "full-message" => full_message,
    "cast" => cast,
    "pipelining" => pipelining,
    "pipelining-any" => pipelining_any,
    "pipelining-after-drop" => pipelining_after_drop,
    "pipelined-null" => pipelined_null,
    "pipeline-only" => pipeline_only,
    "callback" => callback,
}

async fn bootstrap_and_call(c: Rc<Context>) -> Outcome {
    check_foo(&c.theirs()).await
}

async fn unimplemented_method_fails_alone(c: Rc<Context>) -> Outcome {
    let cap: test_interface::Client = c.theirs();
    failure(cap.bar_request().send().promise).await?;
    check_foo(&cap).await
}

async fn unimplemented_type(c: Rc<Context>) -> Outcome {
    let bar = failure(c.theirs::<test_interface::Client>().bar_request().send().promise).await?;
    check_eq!(bar.kind, ErrorKind::Unimplemented);
    let response = c.objects().test_handle_request().send().promise.await?;
    let handle = response.get()?.get_object()?;
    let wrong_interface = failure(send_foo(&handle.cast_to())).await?;
    check_eq!(wrong_interface.kind, ErrorKind::Unimplemented);
    Ok(())
}

async fn error_from_handler(c: Rc<Context>) -> Outcome {
    let cap: test_interface::Client = c.theirs();
    let mut request = cap.foo_request();
    request.get().set_i(1);
    let error = failure(request.send().promise).await?;
    check_eq!(error.kind, ErrorKind::Failed);
    check_foo(&cap).await
}

async fn throw_exception(c: Rc<Context>) -> Outcome {
    let cap: test_more_stuff::Client = c.theirs();
    let error = failure(cap.throw_exception_request().send().promise).await?;
    check_eq!(error.kind, ErrorKind::Failed);
    check_eq!(error.extra, "remote exception: test exception");
    Ok(())
}

async fn throw_remote_exception(c: Rc<Context>) -> Outcome {
    let cap: test_more_stuff::Client = c.theirs();
    let error = failure(cap.throw_remote_exception_request().send().promise).await?;
    // The crate puts its prefix in front of whatever was sent.
    check_eq!(error.extra, "remote exception: remote exception: test exception");
    Ok(())
}

async fn full_message(c: Rc<Context>) -> Outcome {
    let cap: test_extends::Client = c.theirs();
    let base: test_interface::Client = c.theirs();
    let mut request = base.baz_request();
    request.get().set_s(FULL_MESSAGE.get()?)?;
    request.send().promise.await?;
    let response = cap.grault_request().send().promise.await?;
    check!(is_full_message(response.get()?)?);
    let mut other = base.baz_request();
    other.get().init_s().set_int8_field(1);
    failure(other.send().promise).await?;
    Ok(())
}

async fn cast(c: Rc<Context>) -> Outcome {
    let response = c.objects().test_extends_request().send().promise.await?;
    let cap = response.get()?.get_object()?;
    let base: test_interface::Client = cap.clone().cast_to();
    check_extends_foo(&base).await?;
    failure(send_foo(&base)).await?;
    cap.grault_request().send().promise.await?;
    failure(sequence(&cap.cast_to(), 0)).await?;
    check_extends_foo(&base).await
}

async fn pipelining(c: Rc<Context>) -> Outcome {
    let gate = Event::new();
    let (probe, cap) = gated(&gate);
    let mut request = c.theirs::<test_pipeline::Client>().get_cap_request();
    request.get().set_n(234);
    request.get().set_in_cap(cap);
    let call = request.send();
    let pipelined = send_extends_foo(&call.pipeline.get_out_box().get_cap());
    gate.happen();
    expect_foo(pipelined, "bar").await?;
    let response = call.promise.await?;
    check_eq!(response.get()?.get_s()?.to_str()?, "bar");
    check_extends_foo(&response.get()?.get_out_box()?.get_cap()?).await?;
    check_eq!(probe.calls.get(), 1);
    Ok(())
}

async fn pipelining_any(c: Rc<Context>) -> Outcome {
    let gate = Event::new();
    let (probe, cap) = gated(&gate);
    let mut request = c.theirs::<test_pipeline::Client>().get_any_cap_request();
    request.get().set_n(234);
    request.get().init_in_cap().set_as_capability(cap.into_client_hook());
    let call = request.send();
    let boxed = test_interface::Client::new(call.pipeline.get_out_box().get_cap().as_cap());
    let pipelined = send_extends_foo(&boxed);
    gate.happen();
    expect_foo(pipelined, "bar").await?;
    let response = call.promise.await?;
    check_eq!(response.get()?.get_s()?.to_str()?, "bar");
    check_extends_foo(&response.get()?.get_out_box()?.get_cap().get_as_capability()?).await?;
    check_eq!(probe.calls.get(), 1);
    Ok(())
}

async fn pipelining_after_drop(c: Rc<Context>) -> Outcome {
    let gate = Event::new();
    let (probe, cap) = gated(&gate);
    let pipelined = {
        let mut request = c.theirs::<test_pipeline::Client>().get_cap_request();
        request.get().set_n(234);
        request.get().set_in_cap(cap);
        let call = request.send();
        send_extends_foo(&call.pipeline.get_out_box().get_cap())
    };
    probe.called.clone().wait().await;
    gate.happen();
    expect_foo(pipelined, "bar").await
}

async fn pipelined_null(c: Rc<Context>) -> Outcome {
    let call = c.theirs::<test_more_stuff::Client>().get_null_request().send();
    failure(sequence(&call.pipeline.get_null_cap().cast_to(), 0)).await?;
    c.ping().await
}

async fn pipeline_only(c: Rc<Context>) -> Outcome {
    let call = c.theirs::<test_pipeline::Client>().get_cap_pipeline_only_request().send();
    check_extends_foo(&call.pipeline.get_out_box().get_cap()).await?;
    check_extends_foo(&call.pipeline.get_out_box().get_cap()).await
}

async fn callback(c: Rc<Context>) -> Outcome {
    let (probe, cap) = ours();
    let mut request = c.theirs::<test_more_stuff::Client>().call_foo_request();
    request.get().set_cap(cap);
    let response = request.send().promise.await?;
    check_eq!(response.get()?.get_s()?.to_str()?, "bar");
    check_eq!(probe.calls.get(), 1);
    Ok(())
}
