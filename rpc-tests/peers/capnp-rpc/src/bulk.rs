//! Values and sizes, many things at once, and what only some can do.

use std::collections::BTreeMap;
use std::future::Ready;
use std::rc::Rc;

use capnp::capability::FromClientHook;
use capnp::traits::HasTypeId;
use capnp_rpc::rpc_twoparty_capnp::{Side, vat_id};

use crate::generated::test_capnp::{
    test_authenticated_bootstrap, test_call_order, test_interface, test_membrane, test_more_stuff,
    test_pipeline,
};
use crate::generated::test_control_capnp::test_control;
use crate::harness::{
    Context, Failure, Outcome, behaviours, check, check_eq, check_extends_foo, failure, sequence,
    skipped,
};
use crate::ours::{Event, OurThing, gated, ours};

behaviours! {
    "null-capability" => null_capability,
    "defaults" => defaults,
    "null-default" => null_default,
    "enormous-result-fails-alone" => enormous_result_fails_alone,
    "enormous-parameters-fail-alone" => enormous_parameters_fail_alone,
    "large-messages" => large_messages,
    "streaming" => streaming,
    "same-capability-twice" => same_capability_twice,
    "capabilities-everywhere" => capabilities_everywhere,
    "many-calls" => many_calls,
    "many-callbacks" => many_callbacks,
    "membrane-objects" => membrane_objects,
    "membrane-tail-calls" => membrane_tail_calls,
    "membrane" => membrane,
    "membrane-at-server" => membrane_at_server,
    "caller-id" => caller_id,
    "file-descriptors" => file_descriptors,
    "call-counts" => call_counts,
    "tables-at-rest" => tables_at_rest,
}

async fn null_capability(c: Rc<Context>) -> Outcome {
    let call = c.theirs::<test_more_stuff::Client>().get_null_request().send();
    let response = call.promise.await?;
    check!(!response.get()?.has_null_cap());
    Ok(())
}

async fn defaults(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.method_with_defaults_request();
    request.get().set_a("x");
    let response = request.send().promise.await?;
    check_eq!(response.get()?.get_d()?.to_str()?, "x 123 foo");
    check_eq!(response.get()?.get_e()?.to_str()?, "bar");

    let mut request = theirs.method_with_defaults_request();
    request.get().set_a("y");
    request.get().set_b(4_000_000_000);
    request.get().set_c("z");
    let response = request.send().promise.await?;
    check_eq!(response.get()?.get_d()?.to_str()?, "y 4000000000 z");
    Ok(())
}

async fn null_default(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    let mut without = theirs.method_with_null_default_request();
    without.get().set_a("x");
    without.send().promise.await?;
    let (probe, cap) = ours();
    let mut with = theirs.method_with_null_default_request();
    with.get().set_b(cap);
    with.send().promise.await?;
    check_eq!(probe.calls.get(), 1);
    Ok(())
}

async fn enormous_result_fails_alone(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    failure(theirs.get_enormous_string_request().send().promise).await?;
    sequence(&c.theirs(), 0).await?;
    Ok(())
}

fn enormous_parameters_fail_alone(_: Rc<Context>) -> Ready<Outcome> {
    skipped("the crate sends messages of any size")
}

async fn large_messages(c: Rc<Context>) -> Outcome {
    const SIZE: usize = 4 << 20;
    let text: String = ('a'..='z').cycle().take(SIZE).collect();
    let mut request = c.theirs::<test_more_stuff::Client>().method_with_defaults_request();
    request.get().set_a(&*text);
    let response = request.send().promise.await?;
    let returned = response.get()?.get_d()?.to_str()?;
    check!(returned == format!("{text} 123 foo"), "{} bytes", returned.len());
    Ok(())
}

async fn streaming(c: Rc<Context>) -> Outcome {
    let response = c.objects().test_streaming_request().send().promise.await?;
    let theirs = response.get()?.get_object()?;
    let mut sent = Vec::new();
    for n in 1..=100 {
        let mut i = theirs.do_stream_i_request();
        i.get().set_i(n);
        sent.push(i.send());
        let mut j = theirs.do_stream_j_request();
        j.get().set_j(2 * n);
        sent.push(j.send());
    }
    let totals = theirs.finish_stream_request().send().promise.await?;
    check_eq!(totals.get()?.get_total_i(), 5050);
    check_eq!(totals.get()?.get_total_j(), 10100);
    futures::future::try_join_all(sent).await?;
    Ok(())
}

async fn same_capability_twice(c: Rc<Context>) -> Outcome {
    let (probe, cap) = ours();
    let mut request = c.theirs::<test_pipeline::Client>().test_pointers_request();
    request.get().set_cap(cap.clone());
    request.get().init_obj().set_as_capability(cap.clone().into_client_hook());
    let mut list = request.get().init_list(2);
    list.set(0, cap.clone().into_client_hook());
    list.set(1, cap.into_client_hook());
    drop(request.send().promise.await?);
    check_eq!(probe.calls.get(), 4);
    probe.dropped.clone().wait().await;
    Ok(())
}

async fn capabilities_everywhere(c: Rc<Context>) -> Outcome {
    let ours = [ours(), ours(), ours(), ours()];
    let [field, pointer, first, last] = ours.each_ref().map(|(_, cap)| cap.clone());
    let mut request = c.theirs::<test_pipeline::Client>().test_pointers_request();
    request.get().set_cap(field);
    request.get().init_obj().set_as_capability(pointer.into_client_hook());
    let mut list = request.get().init_list(3);
    list.set(0, first.into_client_hook());
    list.set(2, last.into_client_hook());
    request.send().promise.await?;
    for (probe, _) in &ours {
        check_eq!(probe.calls.get(), 1);
    }
    Ok(())
}

async fn many_calls(c: Rc<Context>) -> Outcome {
    let response = c.objects().test_call_order_request().send().promise.await?;
    let theirs = response.get()?.get_object()?;
    let calls: Vec<_> = (0..1000).map(|n| sequence(&theirs, n)).collect();
    for (expected, call) in (0..).zip(calls) {
        check_eq!(call.await?, expected);
    }
    Ok(())
}

async fn many_callbacks(c: Rc<Context>) -> Outcome {
    let theirs: test_more_stuff::Client = c.theirs();
    let gate = Event::new();
    let (probe, cap) = gated(&gate);
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let mut request = theirs.call_foo_request();
            request.get().set_cap(cap.clone());
            request.send()
        })
        .collect();
    probe.called.clone().wait().await;
    gate.happen();
    for call in calls {
        check_eq!(call.promise.await?.get()?.get_s()?.to_str()?, "bar");
    }
    check_eq!(probe.calls.get(), 200);
    Ok(())
}

type Thing = test_membrane::thing::Client;

/// A thing of theirs and one of ours, with the texts that they return.
async fn sides(c: &Context) -> Result<[(Thing, &'static str); 2], Failure> {
    let theirs: test_membrane::Client = c.theirs();
    let made = theirs.make_thing_request().send().promise.await?;
    Ok([(made.get()?.get_thing()?, "inside"), (capnp_rpc::new_client(OurThing), "outside")])
}

async fn call_through_server(c: &Context, thing: &Thing, text: &str, tail_call: bool) -> Outcome {
    let theirs: test_membrane::Client = c.theirs();
    let mut pass = theirs.call_pass_through_request();
    pass.get().set_thing(thing.clone());
    pass.get().set_tail_call(tail_call);
    let passed = pass.send().promise.await?;
    check_eq!(passed.get()?.get_text()?.to_str()?, text);
    let mut intercept = theirs.call_intercept_request();
    intercept.get().set_thing(thing.clone());
    intercept.get().set_tail_call(tail_call);
    let intercepted = intercept.send().promise.await?;
    check_eq!(intercepted.get()?.get_text()?.to_str()?, text);
    Ok(())
}

async fn membrane_objects(c: Rc<Context>) -> Outcome {
    for (thing, text) in sides(&c).await? {
        call_through_server(&c, &thing, text, false).await?;
        let mut loopback = c.theirs::<test_membrane::Client>().loopback_request();
        loopback.get().set_thing(thing.clone());
        let response = loopback.send().promise.await?;
        let back = response.get()?.get_thing()?;
        let called = back.pass_through_request().send().promise.await?;
        check_eq!(called.get()?.get_text()?.to_str()?, text);
        let called = thing.intercept_request().send().promise.await?;
        check_eq!(called.get()?.get_text()?.to_str()?, text);
    }
    Ok(())
}

async fn membrane_tail_calls(c: Rc<Context>) -> Outcome {
    c.needs_results_of_tail_calls()?;
    for (thing, text) in sides(&c).await? {
        call_through_server(&c, &thing, text, true).await?;
    }
    Ok(())
}

fn membrane(_: Rc<Context>) -> Ready<Outcome> {
    skipped("the crate has no membranes")
}

async fn expect(thing: &Thing, through: &str, intercepted: &str) -> Outcome {
    let passed = thing.pass_through_request().send().promise.await?;
    check_eq!(passed.get()?.get_text()?.to_str()?, through);
    let answered = thing.intercept_request().send().promise.await?;
    check_eq!(answered.get()?.get_text()?.to_str()?, intercepted);
    Ok(())
}

async fn membrane_at_server(c: Rc<Context>) -> Outcome {
    // Calls on what comes back out pass through the server.
    c.needs_results_of_pipelined_calls()?;
    let made = c.objects().membraned_request().send().promise.await?;
    let (outside, revoker) = (made.get()?.get_object()?, made.get()?.get_revoker()?);
    drop(made);
    let making = outside.make_thing_request().send();
    expect(&making.pipeline.get_thing(), "inside", "inbound").await?;
    let inside = making.promise.await?.get()?.get_thing()?;
    expect(&inside, "inside", "inbound").await?;
    let ours: Thing = capnp_rpc::new_client(OurThing);
    let mut pass = outside.call_pass_through_request();
    pass.get().set_thing(ours.clone());
    let passed = pass.send().promise.await?;
    check_eq!(passed.get()?.get_text()?.to_str()?, "outside");
    let mut intercept = outside.call_intercept_request();
    intercept.get().set_thing(ours.clone());
    let intercepted = intercept.send().promise.await?;
    check_eq!(intercepted.get()?.get_text()?.to_str()?, "outbound");
    for (thing, through, intercepted) in
        [(ours, "outside", "outside"), (inside.clone(), "inside", "inbound")]
    {
        let mut loopback = outside.loopback_request();
        loopback.get().set_thing(thing);
        let looping = loopback.send();
        expect(&looping.pipeline.get_thing(), through, intercepted).await?;
        let back = looping.promise.await?.get()?.get_thing()?;
        expect(&back, through, intercepted).await?;
    }
    let waiting = outside.wait_forever_request().send();
    expect(&inside, "inside", "inbound").await?;
    drop(revoker);
    let passing = inside.pass_through_request().send();
    for error in [failure(waiting.promise).await?, failure(passing.promise).await?] {
        check!(error.to_string().contains("revoked"), "{error}");
    }
    Ok(())
}

async fn caller_id(c: Rc<Context>) -> Outcome {
    let theirs: test_authenticated_bootstrap::Client<vat_id::Owned> = c.theirs();
    let response = theirs.get_caller_id_request().send().promise.await?;
    check!(response.get()?.get_caller()?.get_side()? == Side::Client);
    Ok(())
}

fn file_descriptors(_: Rc<Context>) -> Ready<Outcome> {
    skipped("the crate does not pass file descriptors")
}

async fn counts(c: &Context) -> Result<BTreeMap<u64, u64>, Failure> {
    let response = c.control()?.call_counts_request().send().promise.await?;
    let counts = response.get()?.get_counts()?;
    Ok(counts.iter().map(|c| (c.get_interface_id(), c.get_calls())).filter(|c| c.1 > 0).collect())
}

async fn call_counts(c: Rc<Context>) -> Outcome {
    let control = c.control()?;
    control.reset_request().send().promise.await?;
    for _ in 0..3 {
        c.ping().await?;
    }
    for n in 0..2 {
        check_eq!(sequence(&c.theirs(), n).await?, n);
    }
    let expected = BTreeMap::from([
        (test_interface::Client::TYPE_ID, 3),
        (test_call_order::Client::TYPE_ID, 2),
    ]);
    check_eq!(counts(&c).await?, expected);
    control.reset_request().send().promise.await?;
    check_eq!(counts(&c).await?, BTreeMap::new());
    check_eq!(sequence(&c.theirs(), 0).await?, 0);
    Ok(())
}

/// The sizes of the server's tables.
pub(crate) async fn tables(control: &test_control::Client) -> Result<[u32; 5], Failure> {
    let response = control.table_sizes_request().send().promise.await?;
    let sizes = response.get()?.get_sizes()?;
    Ok([
        sizes.get_questions(),
        sizes.get_answers(),
        sizes.get_exports(),
        sizes.get_imports(),
        sizes.get_embargoes(),
    ])
}

async fn tables_at_rest(c: Rc<Context>) -> Outcome {
    let control = c.control()?;
    // The first call settles what the bootstrap itself takes.
    tables(&control).await?;
    let before = tables(&control).await?;
    {
        let theirs: test_more_stuff::Client = c.theirs();
        let (_, cap) = ours();
        let mut call_foo = theirs.call_foo_request();
        call_foo.get().set_cap(cap.clone());
        call_foo.send().promise.await?;
        let mut get_cap = c.theirs::<test_pipeline::Client>().get_cap_request();
        get_cap.get().set_n(234);
        get_cap.get().set_in_cap(cap.clone());
        let call = get_cap.send();
        check_extends_foo(&call.pipeline.get_out_box().get_cap()).await?;
        let mut expect = theirs.expect_cancel_request();
        expect.get().set_cap(cap);
        let _expected = expect.send();
        failure(theirs.throw_exception_request().send().promise).await?;
        let _handle = theirs.get_handle_request().send().promise.await?;
        c.ping().await?;
    }
    while tables(&control).await? != before {}
    Ok(())
}
