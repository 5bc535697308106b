//! Plain calls, their errors, and calls on what is yet to be returned.

use capnp_threads_core::typed::AnyPointerExt;
use capnp_threads_core::{ErrorKind, FromClient};
use rpc_schema::test_capnp::{
    test_call_order, test_extends, test_extends2, test_interface, test_more_stuff, test_pipeline,
};

use super::Behaviour;
use super::context::{Context, Failure, check, send_extends_foo, sequence};
use super::ours::Gate;
use crate::support::objects::{foo_request, full_message, require_full_message};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("bootstrap-and-call", bootstrap_and_call),
    ("unimplemented-method-fails-alone", unimplemented_method_fails_alone),
    ("unimplemented-type", unimplemented_type),
    ("error-from-handler", error_from_handler),
    ("throw-exception", throw_exception),
    ("throw-remote-exception", throw_remote_exception),
    ("full-message", send_and_return_full_message),
    ("cast", cast),
    ("pipelining", pipelining),
    ("pipelining-any", pipelining_any),
    ("pipelining-after-drop", pipelining_after_drop),
    ("pipelined-null", pipelined_null),
    ("pipeline-only", pipeline_only),
    ("callback", callback),
];

fn bootstrap_and_call(c: &Context) -> Result<(), Failure> {
    c.check_foo(&c.theirs())
}

fn unimplemented_method_fails_alone(c: &Context) -> Result<(), Failure> {
    let object: test_interface::Client = c.theirs();
    c.failure(&object.bar_request().send())?;
    c.check_foo(&object)
}

fn unimplemented_type(c: &Context) -> Result<(), Failure> {
    let object: test_interface::Client = c.theirs();
    let error = c.failure(&object.bar_request().send())?;
    check!(error.kind() == ErrorKind::Unimplemented, "bar: {error}");
    let handle = c.wait(&c.objects().test_handle_request().send())?.get()?.get_object()?;
    let error = c.failure(&foo_request(&handle.cast_to()).send())?;
    check!(error.kind() == ErrorKind::Unimplemented, "foo of a TestHandle: {error}");
    Ok(())
}

fn error_from_handler(c: &Context) -> Result<(), Failure> {
    let object: test_interface::Client = c.theirs();
    let mut request = object.foo_request();
    request.get().set_i(1);
    let error = c.failure(&request.send())?;
    check!(error.kind() == ErrorKind::Failed, "{error}");
    c.check_foo(&object)
}

fn throw_exception(c: &Context) -> Result<(), Failure> {
    let object: test_more_stuff::Client = c.theirs();
    let error = c.failure(&object.throw_exception_request().send())?;
    check!(error.kind() == ErrorKind::Failed, "{error}");
    check!(error.reason() == "test exception", "{error}");
    Ok(())
}

fn throw_remote_exception(c: &Context) -> Result<(), Failure> {
    let object: test_more_stuff::Client = c.theirs();
    let error = c.failure(&object.throw_remote_exception_request().send())?;
    check!(error.reason() == "remote exception: test exception", "{error}");
    Ok(())
}

fn send_and_return_full_message(c: &Context) -> Result<(), Failure> {
    let object: test_extends::Client = c.theirs();
    let base: test_interface::Client = object.clone().cast_to();
    let mut request = base.baz_request();
    request.get().set_s(full_message()?)?;
    c.wait(&request.send())?;
    let returned = c.wait(&object.grault_request().send())?;
    require_full_message(returned.get()?)?;
    let mut other = base.baz_request();
    other.get().init_s().set_int8_field(1);
    c.failure(&other.send())?;
    Ok(())
}

fn cast(c: &Context) -> Result<(), Failure> {
    let extends = c.wait(&c.objects().test_extends_request().send())?.get()?.get_object()?;
    let base: test_interface::Client = extends.cast_to();
    c.check_extends_foo(&base)?;
    c.failure(&foo_request(&base).send())?;
    c.wait(&base.clone().cast_to::<test_extends::Client>().grault_request().send())?;
    c.failure(&sequence(&base.clone().cast_to(), 0))?;
    let extends2: test_extends2::Client = base.cast_to();
    c.check_extends_foo(&extends2.cast_to())
}

fn pipelining(c: &Context) -> Result<(), Failure> {
    let gate = Gate::new(c.deadline());
    let ours = c.gated(&gate);
    let theirs: test_pipeline::Client = c.theirs();
    let mut request = theirs.get_cap_request();
    request.get().set_n(234);
    request.get().set_in_cap(ours.object.clone());
    let promise = request.send();
    let pipelined = send_extends_foo(&promise.pipeline().get_out_box().get_cap());
    gate.open();
    c.expect_x(&pipelined, "bar")?;
    let response = c.wait(&promise)?;
    check!(response.get()?.get_s()? == "bar");
    c.check_extends_foo(&response.get()?.get_out_box()?.get_cap()?)?;
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());
    Ok(())
}

fn pipelining_any(c: &Context) -> Result<(), Failure> {
    let gate = Gate::new(c.deadline());
    let ours = c.gated(&gate);
    let theirs: test_pipeline::Client = c.theirs();
    let mut request = theirs.get_any_cap_request();
    request.get().set_n(234);
    request.get().init_in_cap().set_client(ours.object.clone());
    let promise = request.send();
    let pipelined = promise.pipeline().get_out_box().get_cap().as_cap();
    let pipelined = send_extends_foo(&test_interface::Client::from_client(pipelined));
    gate.open();
    c.expect_x(&pipelined, "bar")?;
    let response = c.wait(&promise)?;
    check!(response.get()?.get_s()? == "bar");
    c.check_extends_foo(&response.get()?.get_out_box()?.get_cap().get_as_capability()?)?;
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());
    Ok(())
}

fn pipelining_after_drop(c: &Context) -> Result<(), Failure> {
    let gate = Gate::new(c.deadline());
    let ours = c.gated(&gate);
    let pipelined = {
        let theirs: test_pipeline::Client = c.theirs();
        let mut request = theirs.get_cap_request();
        request.get().set_n(234);
        request.get().set_in_cap(ours.object.clone());
        let promise = request.send();
        send_extends_foo(&promise.pipeline().get_out_box().get_cap())
    };
    ours.probe.wait_called()?;
    gate.open();
    c.expect_x(&pipelined, "bar")
}

fn pipelined_null(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let promise = theirs.get_null_request().send();
    let null: test_call_order::Client = promise.pipeline().get_null_cap().cast_to();
    c.failure(&sequence(&null, 0))?;
    c.ping()
}

fn pipeline_only(c: &Context) -> Result<(), Failure> {
    let theirs: test_pipeline::Client = c.theirs();
    let promise = theirs.get_cap_pipeline_only_request().send();
    c.check_extends_foo(&promise.pipeline().get_out_box().get_cap())?;
    c.check_extends_foo(&promise.pipeline().get_out_box().get_cap())?;
    check!(promise.try_response().is_none(), "it returned");
    // The same without a promise.
    let pipeline = theirs.get_cap_pipeline_only_request().send_pipeline_only();
    c.check_extends_foo(&pipeline.get_out_box().get_cap())?;
    // And of a call that returns: its results, which nobody sees, are there.
    let mut request = theirs.get_cap_request();
    request.get().set_n(234);
    request.get().set_in_cap(c.ours().object);
    let pipeline = request.send_pipeline_only();
    c.check_extends_foo(&pipeline.get_out_box().get_cap())?;
    c.check_extends_foo(&pipeline.get_out_box().get_cap())
}

fn callback(c: &Context) -> Result<(), Failure> {
    let ours = c.ours();
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.call_foo_request();
    request.get().set_cap(ours.object.clone());
    check!(c.wait(&request.send())?.get()?.get_s()? == "bar");
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());
    Ok(())
}
