//! Promises as parameters, the order of calls, embargoes and tail calls.

use std::future::Ready;
use std::rc::Rc;

use capnp::Error;
use capnp::capability::FromClientHook;
use futures::future::LocalBoxFuture;

use crate::generated::test_capnp::{
    test_call_order, test_interface, test_more_stuff, test_tail_callee, test_tail_caller,
};
use crate::harness::{Context, Outcome, behaviours, check, check_eq, failure, sequence, skipped};
use crate::ours::{NeverTailCallee, OurCallOrder, OurPromise, OurTailCallee, Probe, ours};

behaviours! {
    "promise-parameter" => promise_parameter,
    "promise-chain" => promise_chain,
    "call-order" => call_order,
    "embargo-error" => embargo_error,
    "embargo-null" => embargo_null,
    "rejected-promise" => rejected_promise,
    "tail-call" => tail_call,
    "tail-call-at-server" => tail_call_at_server,
    "tail-call-back" => tail_call_back,
    "tail-call-cancel" => tail_call_cancel,
}

const BROKEN: &str = "the promise was broken";

type Text = LocalBoxFuture<'static, Result<String, Error>>;

fn call_foo(theirs: &test_more_stuff::Client, cap: test_interface::Client) -> Text {
    let mut request = theirs.call_foo_request();
    request.get().set_cap(cap);
    let promise = request.send().promise;
    Box::pin(async move { Ok(promise.await?.get()?.get_s()?.to_string()?) })
}

fn call_foo_when_resolved(theirs: &test_more_stuff::Client, cap: test_interface::Client) -> Text {
    let mut request = theirs.call_foo_when_resolved_request();
    request.get().set_cap(cap);
    let promise = request.send().promise;
    Box::pin(async move { Ok(promise.await?.get()?.get_s()?.to_string()?) })
}

async fn resolve_and_expect(
    c: &Context,
    answer: Text,
    promise: OurPromise<test_interface::Client>,
) -> Outcome {
    let (probe, cap) = ours();
    // Whoever called too early would have done so by the time that this is
    // answered.
    c.ping().await?;
    check_eq!(probe.calls.get(), 0);
    promise.fulfil(cap)?;
    check_eq!(answer.await?, "bar");
    check_eq!(probe.calls.get(), 1);
    Ok(())
}

async fn promise_parameter(c: Rc<Context>) -> Outcome {
    let promise = OurPromise::<test_interface::Client>::new();
    let answer = call_foo_when_resolved(&c.theirs(), promise.cap.clone());
    resolve_and_expect(&c, answer, promise).await?;
    let promise = OurPromise::<test_interface::Client>::new();
    let answer = call_foo(&c.theirs(), promise.cap.clone());
    resolve_and_expect(&c, answer, promise).await
}

async fn promise_chain(c: Rc<Context>) -> Outcome {
    let outer = OurPromise::<test_interface::Client>::new();
    let inner = OurPromise::<test_interface::Client>::new();
    let answer = call_foo_when_resolved(&c.theirs(), outer.cap.clone());
    c.ping().await?;
    outer.fulfil(inner.cap.clone())?;
    resolve_and_expect(&c, answer, inner).await
}

async fn call_order(c: Rc<Context>) -> Outcome {
    c.needs_results_of_pipelined_calls()?;
    let theirs: test_more_stuff::Client = c.theirs();
    let early = sequence(&c.theirs(), 0);
    let mut request = theirs.echo_request();
    request.get().set_cap(capnp_rpc::new_client(OurCallOrder::default()));
    let echo = request.send();
    let pipeline = echo.pipeline.get_cap();

    let mut answers = vec![sequence(&pipeline, 0), sequence(&pipeline, 1)];
    early.await?;
    answers.push(sequence(&pipeline, 2));
    let response = echo.promise.await?;
    let resolved = response.get()?.get_cap()?;
    // Only calls on the pipeline are held back for those before: `resolved` is
    // our own object without a detour.
    answers.extend((3..6).map(|n| sequence(&pipeline, n)));
    for (expected, answer) in (0..).zip(answers) {
        check_eq!(answer.await?, expected);
    }
    check_eq!(sequence(&resolved, 6).await?, 6);
    Ok(())
}

async fn embargo_error(c: Rc<Context>) -> Outcome {
    c.needs_results_of_pipelined_calls()?;
    let theirs: test_more_stuff::Client = c.theirs();
    let promise = OurPromise::<test_call_order::Client>::new();
    let early = sequence(&c.theirs(), 0);
    let mut request = theirs.echo_request();
    request.get().set_cap(promise.cap.clone());
    let echo = request.send();
    let pipeline = echo.pipeline.get_cap();

    let mut answers = vec![sequence(&pipeline, 0), sequence(&pipeline, 1)];
    early.await?;
    answers.push(sequence(&pipeline, 2));
    let response = echo.promise.await?;
    let resolved = response.get()?.get_cap()?;
    answers.extend([sequence(&pipeline, 3), sequence(&pipeline, 4), sequence(&resolved, 5)]);
    promise.reject(BROKEN)?;
    for answer in answers {
        let error = failure(answer).await?;
        check!(error.extra.contains(BROKEN), "{error}");
    }
    // Nothing of it is left over.
    sequence(&c.theirs(), 1).await?;
    Ok(())
}

async fn embargo_null(c: Rc<Context>) -> Outcome {
    let call = c.theirs::<test_more_stuff::Client>().get_null_request().send();
    let cap: test_call_order::Client = call.pipeline.get_null_cap().cast_to();
    let before = sequence(&cap, 0);
    call.promise.await?;
    let after = sequence(&cap, 1);
    failure(before).await?;
    failure(after).await?;
    sequence(&c.theirs(), 0).await?;
    Ok(())
}

async fn rejected_promise(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    let promise = OurPromise::<test_interface::Client>::new();
    let mut hold = theirs.hold_request();
    hold.get().set_cap(promise.cap.clone());
    hold.send().promise.await?;
    let call = theirs.call_held_request().send();
    c.ping().await?;
    promise.reject(BROKEN)?;
    let error = failure(call.promise).await?;
    check!(error.extra.contains(BROKEN), "{error}");
    Ok(())
}

async fn expect_tail_call(c: &Context, callee: test_tail_callee::Client) -> Outcome {
    let mut request = c.theirs::<test_tail_caller::Client>().foo_request();
    request.get().set_i(456);
    request.get().set_callee(callee);
    let call = request.send();
    let first = sequence(&call.pipeline.get_c(), 0);
    let response = call.promise.await?;
    check_eq!(response.get()?.get_i(), 456);
    check_eq!(response.get()?.get_t()?.to_str()?, "from TestTailCaller");
    let second = sequence(&call.pipeline.get_c(), 1);
    let third = sequence(&call.pipeline.get_c(), 2);
    check_eq!(first.await?, 0);
    check_eq!(second.await?, 1);
    check_eq!(third.await?, 2);
    check_eq!(sequence(&response.get()?.get_c()?, 3).await?, 3);
    Ok(())
}

async fn tail_call(c: Rc<Context>) -> Outcome {
    c.needs_results_of_tail_calls()?;
    let probe = Probe::new();
    expect_tail_call(&c, capnp_rpc::new_client(OurTailCallee(probe.clone()))).await?;
    check_eq!(probe.calls.get(), 1);
    Ok(())
}

async fn tail_call_at_server(c: Rc<Context>) -> Outcome {
    let response = c.objects().test_tail_callee_request().send().promise.await?;
    expect_tail_call(&c, response.get()?.get_object()?).await
}

fn tail_call_back(_: Rc<Context>) -> Ready<Outcome> {
    skipped("the crate has no tail calls")
}

async fn tail_call_cancel(c: Rc<Context>) -> Outcome {
    c.needs_results_of_tail_calls()?;
    let probe = Probe::new();
    let mut request = c.theirs::<test_tail_caller::Client>().foo_request();
    request.get().set_callee(capnp_rpc::new_client(NeverTailCallee(probe.clone())));
    let call = request.send();
    probe.called.clone().wait().await;
    drop(call);
    probe.canceled.clone().wait().await;
    Ok(())
}
