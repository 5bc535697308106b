//! Calls that wait in a membrane until a promise resolves.

use super::content;
use super::net::{INTERFACE, METHOD, Net};
use crate::cap::client::Client;
use crate::cap::promise::promise;
use crate::error::{Error, Result};
use crate::kinds::membrane::{Membrane, MembranePolicy, Passage};

/// The method that passes at once.
const QUICK: u16 = METHOD + 1;

/// Lets a call pass if it is for something that is no promise, or is of one method.
struct Careful;

impl MembranePolicy for Careful {
    fn inbound_call(&self, _: u64, method: u16, target: &Client) -> Result<Passage> {
        if method == QUICK || !target.is_unresolved() {
            return Ok(Passage::Through);
        }
        Err(Error::failed("it is not known yet what this is for"))
    }
}

/// The policy would let the second call pass at once.
#[test]
fn a_call_that_a_membrane_lets_through_does_not_overtake_one_that_waits_there() {
    let mut net = Net::new();
    let (inside, target) = net.object("inside");
    let membrane = Membrane::new(Careful);
    let (inner, fulfiller) = promise();
    let wrapped: Client = membrane.wrap(&inner);
    let first = net.call(&wrapped, 1, &[]);
    let quick = wrapped.call(INTERFACE, QUICK, content::params(2, &[]));
    let last = net.call(&wrapped, 3, &[]);
    net.run();
    fulfiller.fulfill(target);
    net.run();
    assert_eq!(inside.seen(), [1, 2, 3]);
    first.ok();
    last.ok();
    assert!(quick.try_result().is_some_and(|result| result.is_ok()));
    drop((inner, wrapped, first, quick, last, membrane));
    net.finish();
}

/// A call waits, and then the wrapper is passed back in. Calls that the inside makes on it
/// come later.
#[test]
fn what_goes_back_through_a_membrane_is_behind_the_calls_that_wait_there() {
    let mut net = Net::new();
    let (inside, target) = net.object("inside");
    let (keeper, keeper_client) = net.object("keeper");
    keeper.keep();
    let membrane = Membrane::new(Careful);
    let (inner, fulfiller) = promise();
    let (wrapped, door): (Client, Client) = (membrane.wrap(&inner), membrane.wrap(&keeper_client));
    let first = net.call(&wrapped, 1, &[]);
    let passed = net.call(&door, 2, &[wrapped.clone()]);
    net.run();
    passed.ok();
    let back = keeper.kept_one();
    let second = net.call(&back, 3, &[]);
    fulfiller.fulfill(target.clone());
    net.run();
    assert_eq!(inside.seen(), [1, 3]);
    assert!(back == target);
    first.ok();
    second.ok();
    // Nothing waits: it is what it is.
    let again = net.call(&door, 4, &[wrapped.clone()]);
    net.run();
    assert!(keeper.kept_one() == target);
    drop((inner, wrapped, door, first, passed, back, second, again, target, keeper_client));
    drop(membrane);
    net.finish();
}

/// A policy that refuses everything, and panics when asked whether calls wait.
struct Panicking;

impl MembranePolicy for Panicking {
    fn inbound_call(&self, _: u64, _: u16, _: &Client) -> Result<Passage> {
        Err(Error::failed("refused"))
    }

    fn waits_for_promises(&self) -> bool {
        panic!("on purpose")
    }
}

#[test]
fn a_panic_in_any_question_to_a_policy_fails_the_call_alone() {
    let mut net = Net::new();
    let (inner, fulfiller) = promise();
    let wrapped: Client = Membrane::new(Panicking).wrap(&inner);
    let call = net.call(&wrapped, 1, &[]);
    net.run();
    let error = call.error();
    assert_eq!(error.reason(), "the policy of a membrane panicked");
    drop((inner, fulfiller, wrapped, call));
    net.finish();
}
