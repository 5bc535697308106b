//! Handoffs where the host holds back what the introducer has sent: Note [held references].

use super::content;
use super::handoffs::{Host, accept, host, lift, provide};
use super::raw;

/// A host whose object keeps its calls open. The introducer has made two calls, 1 and 2, of
/// which the second one is held back, and then provides the object.
fn host_that_holds_back() -> Host {
    let mut host = host();
    let introducer = host.introducer;
    host.object.hold();
    host.net.set_flow_limit(introducer, 0);
    host.send(introducer, raw::call(1, raw::on(0), 1, &[]));
    host.send(introducer, raw::call(2, raw::on(0), 2, &[]));
    host.send(introducer, provide(9, 7));
    assert_eq!(host.object.seen(), [1]);
    host
}

fn end(host: Host) {
    host.object.let_go();
    host.finish();
}

/// Somebody is waiting for it, so nothing in front of it waits for room.
#[test]
fn what_is_provided_is_behind_the_calls_that_are_held_back() {
    let mut host = host_that_holds_back();
    let (introducer, recipient) = (host.introducer, host.recipient);
    host.send(recipient, accept(0, 7, None));
    host.send(recipient, raw::call(1, raw::on_field(0, &[]), 20, &[]));
    assert_eq!(host.object.seen(), [1, 2, 20]);
    host.expect(introducer, &[]);
    end(host);
}

/// The introducer lifts it behind its calls.
#[test]
fn the_embargo_of_an_accept_ends_behind_the_calls_that_are_held_back() {
    let mut host = host_that_holds_back();
    let (introducer, recipient) = (host.introducer, host.recipient);
    host.send(recipient, accept(0, 7, Some(b"e")));
    host.send(recipient, raw::call(1, raw::on_field(0, &[]), 20, &[]));
    host.send(introducer, lift(9, &[], b"e"));
    host.expect(recipient, &[]);
    host.object.answer(Ok(content::results(0, &[])));
    host.net.run();
    assert_eq!(host.object.seen(), [1, 2, 20]);
    host.expect(introducer, &["return 1 results (0) noFinishNeeded"]);
    end(host);
}

/// Note [draining]: nobody new is let in.
#[test]
fn a_vat_that_is_about_to_end_gives_nothing_away() {
    let mut host = host();
    let (introducer, recipient) = (host.introducer, host.recipient);
    host.send(introducer, provide(9, 7));
    host.net.machine(recipient).drain();
    host.send(recipient, accept(0, 7, None));
    let [told] = <[String; 1]>::try_from(host.sent(recipient)).unwrap();
    assert!(told.starts_with("return 0 ") && !told.contains("results"), "{told}");
    host.finish();
}
