//! Membranes, on this side and on theirs.

use capnp_threads_core::membrane::Membrane;
use capnp_threads_core::{Error, FromClient};
use rpc_schema::test_capnp::test_membrane::{self, thing};

use super::Behaviour;
use super::context::{Context, Failure, check};
use crate::support::objects::{Intercepts, Thing};

pub(super) const BEHAVIOURS: &[Behaviour] =
    &[("membrane", membrane), ("membrane-at-server", membrane_at_server)];

/// Everything that a membrane does. `outside` is a `TestMembrane` behind one, which
/// `revoke` revokes.
fn through_a_membrane(
    c: &Context,
    outside: &test_membrane::Client,
    revoke: impl FnOnce(),
) -> Result<(), Failure> {
    let expect = |thing: &thing::Client, through: &str, intercepted: &str| {
        let passed = thing.pass_through_request().send();
        let text = c.wait(&passed)?.get()?.get_text()?.to_string()?;
        check!(text == through, "passThrough: {text:?}, not {through:?}");
        let text = c.wait(&thing.intercept_request().send())?.get()?.get_text()?.to_string()?;
        check!(text == intercepted, "intercept: {text:?}, not {intercepted:?}");
        Ok(())
    };
    // Inside, as a promise and as what it becomes.
    let making = outside.make_thing_request().send();
    expect(&making.pipeline().get_thing(), "inside", "inbound")?;
    let inside = c.wait(&making)?.get()?.get_thing()?;
    expect(&inside, "inside", "inbound")?;
    // Outside.
    let ours: thing::Client = c.export(Thing("outside"));
    let mut pass = outside.call_pass_through_request();
    pass.get().set_thing(ours.clone());
    let text = c.wait(&pass.send())?.get()?.get_text()?.to_string()?;
    check!(text == "outside", "passThrough: {text:?}");
    let mut intercept = outside.call_intercept_request();
    intercept.get().set_thing(ours.clone());
    let text = c.wait(&intercept.send())?.get()?.get_text()?.to_string()?;
    check!(text == "outbound", "intercept: {text:?}");
    // In and out, as a promise and as what it becomes.
    for (thing, intercepted) in [(&ours, "outside"), (&inside, "inbound")] {
        let through = if intercepted == "outside" { "outside" } else { "inside" };
        let mut loopback = outside.loopback_request();
        loopback.get().set_thing(thing.clone());
        let looping = loopback.send();
        expect(&looping.pipeline().get_thing(), through, intercepted)?;
        let back = c.wait(&looping)?.get()?.get_thing()?;
        expect(&back, through, intercepted)?;
        // C++ 0.9 wraps the same thing anew each time.
        let same = back.as_client().resolve()? == *thing.as_client();
        check!(same || through == "inside", "something else came back");
    }
    // Revoked.
    let waiting = outside.wait_forever_request().send();
    expect(&inside, "inside", "inbound")?;
    revoke();
    let revoked = |error: &Error| error.reason().contains("revoked");
    let error = c.failure(&waiting)?;
    check!(revoked(&error), "a call under way failed with {error}");
    let error = c.failure(&inside.pass_through_request().send())?;
    check!(revoked(&error), "a call of something that came out failed with {error}");
    let error = c.failure(&outside.make_thing_request().send())?;
    check!(revoked(&error), "a call of the first object failed with {error}");
    Ok(())
}

/// The membrane is on this side.
fn membrane(c: &Context) -> Result<(), Failure> {
    let membrane = Membrane::new(Intercepts::new(c.vat()));
    let outside = membrane.wrap(&c.theirs::<test_membrane::Client>());
    let error = Error::failed("the membrane was revoked");
    through_a_membrane(c, &outside, || membrane.revoke(error))
}

/// The membrane is on their side.
fn membrane_at_server(c: &Context) -> Result<(), Failure> {
    let response = c.wait(&c.objects().membraned_request().send())?;
    let (outside, revoker) = (response.get()?.get_object()?, response.get()?.get_revoker()?);
    drop(response);
    through_a_membrane(c, &outside, || drop(revoker))
}
