//! Promises as parameters, the order of calls, embargoes and tail calls.

use capnp_threads_core::typed::TypedFulfiller;
use capnp_threads_core::{Error, Promise, promise_client};
use rpc_schema::test_capnp::{
    test_call_order, test_interface, test_more_stuff, test_tail_callee, test_tail_caller,
};

use super::Behaviour;
use super::context::{Context, Failure, check, sequence};
use super::ours::{NeverTailCallee, OurTailCaller, Ours, Probe, tail_callee};
use crate::support::objects::CallOrder;

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("promise-parameter", promise_parameter),
    ("promise-chain", promise_chain),
    ("call-order", call_order),
    ("embargo-error", embargo_error),
    ("embargo-null", embargo_null),
    ("rejected-promise", rejected_promise),
    ("tail-call", tail_call),
    ("tail-call-at-server", tail_call_at_server),
    ("tail-call-back", tail_call_back),
    ("tail-call-cancel", tail_call_cancel),
];

const BROKEN: &str = "the promise was broken";

type WhenResolvedPromise = Promise<test_more_stuff::call_foo_when_resolved_results::Owned>;

fn call_foo_when_resolved(c: &Context, object: &test_interface::Client) -> WhenResolvedPromise {
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.call_foo_when_resolved_request();
    request.get().set_cap(object.clone());
    request.send()
}

/// Resolves a promise of ours that the server has, and expects one call.
fn resolve_and_expect_call(
    c: &Context,
    fulfiller: TypedFulfiller<test_interface::Client>,
    ours: &Ours,
) -> Result<(), Failure> {
    // Whoever called too early would have done so by the time that this is
    // answered.
    c.ping()?;
    check!(ours.probe.calls() == 0, "called before the promise resolved");
    fulfiller.fulfill(ours.object.clone());
    Ok(())
}

fn promise_parameter(c: &Context) -> Result<(), Failure> {
    let ours = c.ours();
    let (object, fulfiller) = promise_client();
    let answer = call_foo_when_resolved(c, &object);
    resolve_and_expect_call(c, fulfiller, &ours)?;
    check!(c.wait(&answer)?.get()?.get_s()? == "bar");
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());

    let ours = c.ours();
    let (object, fulfiller) = promise_client();
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.call_foo_request();
    request.get().set_cap(object);
    let answer = request.send();
    resolve_and_expect_call(c, fulfiller, &ours)?;
    check!(c.wait(&answer)?.get()?.get_s()? == "bar");
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());
    Ok(())
}

fn promise_chain(c: &Context) -> Result<(), Failure> {
    let ours = c.ours();
    let (outer, outer_fulfiller) = promise_client();
    let (inner, inner_fulfiller) = promise_client();
    let answer = call_foo_when_resolved(c, &outer);
    c.ping()?;
    outer_fulfiller.fulfill(inner);
    resolve_and_expect_call(c, inner_fulfiller, &ours)?;
    check!(c.wait(&answer)?.get()?.get_s()? == "bar");
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());
    Ok(())
}

fn call_order(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let ours: test_call_order::Client = c.export(CallOrder::default());
    let early = sequence(&theirs.clone().cast_to(), 0);
    let mut request = theirs.echo_request();
    request.get().set_cap(ours);
    let echo = request.send();
    let pipeline = echo.pipeline().get_cap();

    let mut calls = vec![sequence(&pipeline, 0), sequence(&pipeline, 1)];
    c.wait(&early)?;
    calls.push(sequence(&pipeline, 2));
    let resolved = c.wait(&echo)?.get()?.get_cap()?;
    // Calls on either are held back for those that are still on their way.
    calls.push(sequence(&pipeline, 3));
    calls.push(sequence(&resolved, 4));
    calls.push(sequence(&pipeline, 5));
    c.expect_sequence(&calls, 0)?;
    c.expect_sequence(&[sequence(&resolved, 6)], 6)
}

fn embargo_error(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let (promise, fulfiller) = promise_client::<test_call_order::Client>();
    let early = sequence(&theirs.clone().cast_to(), 0);
    let mut request = theirs.echo_request();
    request.get().set_cap(promise);
    let echo = request.send();
    let pipeline = echo.pipeline().get_cap();

    let mut calls = vec![sequence(&pipeline, 0), sequence(&pipeline, 1)];
    c.wait(&early)?;
    calls.push(sequence(&pipeline, 2));
    let resolved = c.wait(&echo)?.get()?.get_cap()?;
    calls.push(sequence(&pipeline, 3));
    calls.push(sequence(&pipeline, 4));
    calls.push(sequence(&resolved, 5));
    fulfiller.reject(Error::failed(BROKEN));

    for call in &calls {
        let error = c.failure(call)?;
        check!(error.reason().contains(BROKEN), "{error}");
    }
    // Nothing of it is left over.
    c.expect_sequence(&[sequence(&theirs.cast_to(), 1)], 1)
}

fn embargo_null(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let promise = theirs.get_null_request().send();
    let null: test_call_order::Client = promise.pipeline().get_null_cap().cast_to();
    let before = sequence(&null, 0);
    c.wait(&promise)?;
    let after = sequence(&null, 1);
    c.failure(&before)?;
    c.failure(&after)?;
    c.expect_sequence(&[sequence(&theirs.cast_to(), 0)], 0)
}

fn rejected_promise(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let (promise, fulfiller) = promise_client();
    let mut hold = theirs.hold_request();
    hold.get().set_cap(promise);
    c.wait(&hold.send())?;
    let call = theirs.call_held_request().send();
    c.ping()?;
    fulfiller.reject(Error::failed(BROKEN));
    let error = c.failure(&call)?;
    check!(error.reason().contains(BROKEN), "{error}");
    c.hold_nothing_of_ours()
}

fn expect_tail_call(c: &Context, callee: test_tail_callee::Client) -> Result<(), Failure> {
    let theirs: test_tail_caller::Client = c.theirs();
    let mut request = theirs.foo_request();
    request.get().set_i(456);
    request.get().set_callee(callee);
    let promise = request.send();
    let pipeline = promise.pipeline().get_c();
    let mut calls = vec![sequence(&pipeline, 0)];
    let response = c.wait(&promise)?;
    let result = response.get()?;
    check!(result.get_i() == 456, "i is {}", result.get_i());
    check!(result.get_t()? == "from TestTailCaller", "t is {:?}", result.get_t()?);
    calls.push(sequence(&pipeline, 1));
    calls.push(sequence(&pipeline, 2));
    calls.push(sequence(&result.get_c()?, 3));
    c.expect_sequence(&calls, 0)
}

fn tail_call(c: &Context) -> Result<(), Failure> {
    let probe = Probe::new(c.deadline());
    expect_tail_call(c, tail_callee(c.vat(), &probe))?;
    check!(probe.calls() == 1, "ours was called {} times", probe.calls());
    Ok(())
}

fn tail_call_at_server(c: &Context) -> Result<(), Failure> {
    let callee = c.wait(&c.objects().test_tail_callee_request().send())?.get()?.get_object()?;
    expect_tail_call(c, callee)
}

fn tail_call_back(c: &Context) -> Result<(), Failure> {
    let target = c.wait(&c.objects().test_interface_request().send())?.get()?.get_object()?;
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.call_foo_request();
    request.get().set_cap(c.export::<test_interface::Client, _>(OurTailCaller(target)));
    check!(c.wait(&request.send())?.get()?.get_s()? == "bar");
    Ok(())
}

fn tail_call_cancel(c: &Context) -> Result<(), Failure> {
    let probe = Probe::new(c.deadline());
    {
        let callee: test_tail_callee::Client = c.export(NeverTailCallee(probe.clone()));
        let theirs: test_tail_caller::Client = c.theirs();
        let mut request = theirs.foo_request();
        request.get().set_callee(callee);
        let promise = request.send();
        probe.wait_called()?;
        drop(promise);
    }
    probe.wait("is cancelled", |seen| seen.cancelled > 0)
}
