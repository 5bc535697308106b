//! Values and sizes, many things at once, and what only some can do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use capnp_threads_core::FromClient;
use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::typed::{AnyPointerExt, CapabilityListExt};
use rpc_schema::rpc_twoparty_capnp::{Side, vat_id};
use rpc_schema::test_capnp::test_membrane::thing;
use rpc_schema::test_capnp::{
    test_authenticated_bootstrap, test_call_order, test_interface, test_membrane, test_more_stuff,
    test_pipeline,
};

use super::Behaviour;
use super::context::{Context, Failure, check, sequence};
use super::ours::{Gate, Ours};
use crate::support::objects::Thing;

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("null-capability", null_capability),
    ("defaults", defaults),
    ("null-default", null_default),
    ("enormous-result-fails-alone", enormous_result_fails_alone),
    ("enormous-parameters-fail-alone", enormous_parameters_fail_alone),
    ("large-messages", large_messages),
    ("streaming", streaming),
    ("same-capability-twice", same_capability_twice),
    ("capabilities-everywhere", capabilities_everywhere),
    ("many-calls", many_calls),
    ("many-callbacks", many_callbacks),
    ("membrane-objects", membrane_objects),
    ("membrane-tail-calls", membrane_tail_calls),
    ("caller-id", caller_id),
    ("file-descriptors", file_descriptors),
    ("call-counts", call_counts),
    ("tables-at-rest", tables_at_rest),
];

fn null_capability(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let response = c.wait(&theirs.get_null_request().send())?;
    check!(!response.get()?.has_null_cap());
    Ok(())
}

fn defaults(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.method_with_defaults_request();
    request.get().set_a("x");
    let response = c.wait(&request.send())?;
    check!(response.get()?.get_d()? == "x 123 foo", "d is {:?}", response.get()?.get_d()?);
    check!(response.get()?.get_e()? == "bar", "e is {:?}", response.get()?.get_e()?);

    let mut request = theirs.method_with_defaults_request();
    let mut params = request.get();
    params.set_a("y");
    params.set_b(4_000_000_000);
    params.set_c("z");
    let response = c.wait(&request.send())?;
    check!(response.get()?.get_d()? == "y 4000000000 z", "d is {:?}", response.get()?.get_d()?);
    Ok(())
}

fn null_default(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let mut without = theirs.method_with_null_default_request();
    without.get().set_a("x");
    c.wait(&without.send())?;
    let ours = c.ours();
    let mut with = theirs.method_with_null_default_request();
    with.get().set_b(ours.object.clone());
    c.wait(&with.send())?;
    check!(ours.probe.calls() == 1, "ours was called {} times", ours.probe.calls());
    Ok(())
}

fn enormous_result_fails_alone(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    c.failure(&theirs.get_enormous_string_request().send())?;
    c.expect_sequence(&[sequence(&theirs.cast_to(), 0)], 0)
}

fn enormous_parameters_fail_alone(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let mut request = theirs.method_with_defaults_request();
    request.get().init_a(100_000_000);
    c.failure(&request.send())?;
    c.expect_sequence(&[sequence(&theirs.cast_to(), 0)], 0)
}

fn large_messages(c: &Context) -> Result<(), Failure> {
    const SIZE: usize = 4 << 20;
    let theirs: test_more_stuff::Client = c.theirs();
    let text: String = ('a'..='z').cycle().take(SIZE).collect();
    let mut request = theirs.method_with_defaults_request();
    request.get().set_a(&text);
    let response = c.wait(&request.send())?;
    let returned = response.get()?.get_d()?.to_str()?;
    check!(
        returned == format!("{text} 123 foo"),
        "{} bytes came back, or other ones",
        returned.len()
    );
    Ok(())
}

fn streaming(c: &Context) -> Result<(), Failure> {
    let theirs = c.wait(&c.objects().test_streaming_request().send())?.get()?.get_object()?;
    for n in 1..=100 {
        let mut i = theirs.do_stream_i_request();
        i.get().set_i(n);
        i.send()?;
        let mut j = theirs.do_stream_j_request();
        j.get().set_j(2 * n);
        j.send()?;
    }
    let response = c.wait(&theirs.finish_stream_request().send())?;
    let totals = response.get()?;
    check!(totals.get_total_i() == 5050, "{}", totals.get_total_i());
    check!(totals.get_total_j() == 10100, "{}", totals.get_total_j());
    Ok(())
}

fn same_capability_twice(c: &Context) -> Result<(), Failure> {
    let Ours { probe, object } = c.ours();
    let theirs: test_pipeline::Client = c.theirs();
    let mut request = theirs.test_pointers_request();
    let mut params = request.get();
    params.set_cap(object.clone());
    params.reborrow().get_obj().set_client(object.clone());
    let mut list = params.init_list(2);
    list.set_client(0, object.clone());
    list.set_client(1, object);
    c.wait(&request.send())?;
    check!(probe.calls() == 4, "ours was called {} times", probe.calls());
    probe.wait_dropped()
}

fn capabilities_everywhere(c: &Context) -> Result<(), Failure> {
    let [field, pointer, first, last] = [c.ours(), c.ours(), c.ours(), c.ours()];
    let theirs: test_pipeline::Client = c.theirs();
    let mut request = theirs.test_pointers_request();
    let mut params = request.get();
    params.set_cap(field.object.clone());
    params.reborrow().get_obj().set_client(pointer.object.clone());
    let mut list = params.init_list(3);
    list.set_client(0, first.object.clone());
    list.set_client(2, last.object.clone());
    c.wait(&request.send())?;
    for (ours, place) in [(field, "field"), (pointer, "pointer"), (first, "first"), (last, "last")]
    {
        check!(ours.probe.calls() == 1, "{place}: called {} times", ours.probe.calls());
    }
    Ok(())
}

fn many_calls(c: &Context) -> Result<(), Failure> {
    let theirs = c.wait(&c.objects().test_call_order_request().send())?.get()?.get_object()?;
    let calls: Vec<_> = (0..1000).map(|expected| sequence(&theirs, expected)).collect();
    c.expect_sequence(&calls, 0)
}

fn many_callbacks(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let gate = Gate::new(c.deadline());
    let ours = c.gated(&gate);
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let mut request = theirs.call_foo_request();
            request.get().set_cap(ours.object.clone());
            request.send()
        })
        .collect();
    ours.probe.wait_called()?;
    gate.open();
    for call in &calls {
        check!(c.wait(call)?.get()?.get_s()? == "bar");
    }
    check!(ours.probe.calls() == 200, "ours was called {} times", ours.probe.calls());
    Ok(())
}

/// Calls things of both sides through the server's methods.
fn call_things(
    c: &Context,
    theirs: &test_membrane::Client,
    things: &[(thing::Client, &str)],
    tail_call: bool,
) -> Result<(), Failure> {
    for (thing, text) in things {
        let mut pass = theirs.call_pass_through_request();
        pass.get().set_thing(thing.clone());
        pass.get().set_tail_call(tail_call);
        let response = c.wait(&pass.send())?;
        let returned = response.get()?.get_text()?;
        check!(returned == *text, "passThrough: {returned:?}, not {text:?}");

        let mut intercept = theirs.call_intercept_request();
        intercept.get().set_thing(thing.clone());
        intercept.get().set_tail_call(tail_call);
        let response = c.wait(&intercept.send())?;
        let returned = response.get()?.get_text()?;
        check!(returned == *text, "intercept: {returned:?}, not {text:?}");
    }
    Ok(())
}

/// One thing of the server's and one of ours.
fn make_things(
    c: &Context,
    theirs: &test_membrane::Client,
) -> Result<[(thing::Client, &'static str); 2], Failure> {
    let inside = c.wait(&theirs.make_thing_request().send())?.get()?.get_thing()?;
    Ok([(inside, "inside"), (c.export(Thing("outside")), "outside")])
}

fn membrane_objects(c: &Context) -> Result<(), Failure> {
    let theirs: test_membrane::Client = c.theirs();
    let things = make_things(c, &theirs)?;
    call_things(c, &theirs, &things, false)?;
    for (thing, text) in things {
        check!(c.wait(&thing.pass_through_request().send())?.get()?.get_text()? == text);
        check!(c.wait(&thing.intercept_request().send())?.get()?.get_text()? == text);
        let mut loopback = theirs.loopback_request();
        loopback.get().set_thing(thing.clone());
        let back = c.wait(&loopback.send())?.get()?.get_thing()?;
        check!(back.as_client() == thing.as_client(), "{text}: something else came back");
        check!(c.wait(&back.pass_through_request().send())?.get()?.get_text()? == text);
    }
    Ok(())
}

fn membrane_tail_calls(c: &Context) -> Result<(), Failure> {
    let theirs: test_membrane::Client = c.theirs();
    call_things(c, &theirs, &make_things(c, &theirs)?, true)
}

fn caller_id(c: &Context) -> Result<(), Failure> {
    let theirs: test_authenticated_bootstrap::Client<vat_id::Owned> = c.theirs();
    let response = c.wait(&theirs.get_caller_id_request().send())?;
    let side = response.get()?.get_caller()?.get_side()?;
    check!(side == Side::Client, "the caller is {side:?}");
    Ok(())
}

fn file_descriptors(c: &Context) -> Result<(), Failure> {
    if !c.passes_fds() {
        return Err(Failure::Skipped("descriptors pass over Unix sockets only".to_owned()));
    }
    let theirs: test_more_stuff::Client = c.theirs();
    for second in [false, true] {
        let [(mut reader1, writer1), (mut reader2, writer2)] = [io::pipe()?, io::pipe()?];
        let mut request = theirs.write_to_fd_request();
        request.get().set_fd_cap1(c.file(writer1));
        request.get().set_fd_cap2(if second { c.file(writer2) } else { c.ours().object });
        let response = c.wait(&request.send())?;
        let results = response.get()?;
        check!(results.get_second_fd_present() == second);
        let text = read_three(&mut reader1)?;
        check!(text == "foo", "{text:?}");
        if second {
            let text = read_three(&mut reader2)?;
            check!(text == "bar", "{text:?}");
        }
        let Some(fd) = results.get_fd_cap3()?.as_client().resolve()?.fd() else {
            return Err(Failure::new("no descriptor came back"));
        };
        let text = read_three(&mut File::from(fd.try_clone()?))?;
        check!(text == "baz", "{text:?}");
    }
    Ok(())
}

fn read_three(file: &mut impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    file.take(3).read_to_string(&mut text)?;
    Ok(text)
}

fn counts(c: &Context) -> Result<BTreeMap<u64, u64>, Failure> {
    let response = c.wait(&c.control()?.call_counts_request().send())?;
    let counts = response.get()?.get_counts()?;
    Ok(counts
        .iter()
        .map(|count| (count.get_interface_id(), count.get_calls()))
        .filter(|(_, calls)| *calls > 0)
        .collect())
}

fn call_counts(c: &Context) -> Result<(), Failure> {
    let order: test_call_order::Client = c.theirs();
    c.wait(&c.control()?.reset_request().send())?;
    for _ in 0..3 {
        c.ping()?;
    }
    c.expect_sequence(&[sequence(&order, 0), sequence(&order, 1)], 0)?;
    let expected = BTreeMap::from([
        (test_interface::Client::TYPE_ID, 3),
        (test_call_order::Client::TYPE_ID, 2),
    ]);
    let counted = counts(c)?;
    check!(counted == expected, "{counted:x?}");
    c.wait(&c.control()?.reset_request().send())?;
    let counted = counts(c)?;
    check!(counted.is_empty(), "{counted:x?}");
    c.expect_sequence(&[sequence(&order, 0)], 0)
}

/// The tables are looked at after every behaviour; this one is a mixture.
fn tables_at_rest(c: &Context) -> Result<(), Failure> {
    let theirs: test_more_stuff::Client = c.theirs();
    let ours = c.ours();
    let mut call_foo = theirs.call_foo_request();
    call_foo.get().set_cap(ours.object.clone());
    c.wait(&call_foo.send())?;
    let pipeline: test_pipeline::Client = c.theirs();
    let mut get_cap = pipeline.get_cap_request();
    get_cap.get().set_n(234);
    get_cap.get().set_in_cap(ours.object.clone());
    let promise = get_cap.send();
    c.check_extends_foo(&promise.pipeline().get_out_box().get_cap())?;
    let mut expect = theirs.expect_cancel_request();
    expect.get().set_cap(ours.object.clone());
    let expected = expect.send();
    c.failure(&theirs.throw_exception_request().send())?;
    let handle = c.wait(&theirs.get_handle_request().send())?.get()?.get_handle()?;
    c.ping()?;
    drop((expected, handle));
    Ok(())
}
