//! Promises that travel, what they may turn out to be, and circles.

use std::sync::Arc;

use super::actor::acknowledge;
use super::content;
use super::net::{self, Call, End, Net};
use super::raw::{self, Raw, call, finish, on, on_field, reject, release, resolve, ret};
use crate::cap::client::Client;
use crate::cap::promise::{Fulfiller, promise};
use crate::error::{Error, ErrorKind};
use crate::sync::Mutex;
use crate::wire::Descriptor;

/// A machine whose peer was sent a promise of ours, as export 0.
fn with_exported_promise(net: Net) -> (Raw, Client, Call, Client, Fulfiller) {
    let (mut raw, server) = raw::caller(net);
    let (promised, fulfiller) = promise();
    let put = raw.net.call(&server, 1, std::slice::from_ref(&promised));
    raw.expect(&["call 0 on 0 (1) [senderPromise 0]"]);
    (raw, server, put, promised, fulfiller)
}

/// `CapDescriptor.senderPromise` is only for a promise that is not resolved yet.
#[test]
fn a_resolved_promise_is_never_exported_as_a_promise() {
    let mut net = Net::new();
    let (_, target) = net.object("target");
    let (mut raw, server) = raw::caller(net);
    let (one, fulfil_one) = promise();
    let (two, fulfil_two) = promise();
    fulfil_one.fulfill(two.clone());
    fulfil_two.fulfill(target.clone());
    let (theirs, fulfil_theirs) = promise();
    fulfil_theirs.fulfill(server.clone());
    let (nothing, fulfil_nothing) = promise();
    fulfil_nothing.fulfill(Client::null());
    let put = raw.net.call(&server, 1, &[one, two, target, theirs, nothing]);
    raw.expect(&[
        // The last one is null, and not in the table.
        "call 0 on 0 (1) [senderHosted 0, senderHosted 0, senderHosted 0, receiverHosted 0]",
    ]);
    drop((server, put));
    raw.finish();
}

/// From a promise to a promise to a capability: the export goes on (`export.rs`,
/// Pending).
#[test]
fn a_promise_that_becomes_another_promise_keeps_its_export_without_a_message() {
    let mut net = Net::new();
    let (end, target) = net.object("target");
    let (mut raw, server, put, _, fulfil_first) = with_exported_promise(net);
    let (second, fulfil_second) = promise();
    let (third, fulfil_third) = promise();
    raw.send(call(0, on(0), 10, &[]));
    fulfil_first.fulfill(second.clone());
    raw.send(call(1, on(0), 11, &[]));
    fulfil_second.fulfill(third);
    raw.expect(&[]);
    // It stands for the new one: that is not exported a second time.
    let again = raw.net.call(&server, 2, &[second]);
    raw.expect(&["call 1 on 0 (2) [senderPromise 0]"]);
    fulfil_third.fulfill(target);
    raw.expect(&["resolve 0 senderHosted 1"]);
    raw.send(call(2, on(0), 12, &[]));
    assert_eq!(end.seen(), [10, 11, 12]);
    drop((server, put, again));
    raw.finish();
}

/// The other promise has an export of its own.
#[test]
fn a_promise_that_becomes_a_promise_that_is_exported_resolves_to_that() {
    let mut net = Net::new();
    let (end, target) = net.object("target");
    let (mut raw, server, put, _, fulfil_first) = with_exported_promise(net);
    let (second, fulfil_second) = promise();
    let again = raw.net.call(&server, 2, std::slice::from_ref(&second));
    raw.expect(&["call 1 on 0 (2) [senderPromise 1]"]);
    fulfil_first.fulfill(second);
    raw.expect(&["resolve 0 senderPromise 1"]);
    raw.send(call(0, on(0), 10, &[]));
    // Counted twice now; once is given back with the call.
    raw.send(release(1, 1));
    fulfil_second.fulfill(target);
    raw.expect(&["resolve 1 senderHosted 2"]);
    raw.send(call(1, on(0), 11, &[]));
    raw.send(release(1, 1));
    raw.send(call(2, on(0), 12, &[]));
    assert_eq!(end.seen(), [10, 11, 12]);
    drop((server, put, again));
    raw.finish();
}

/// `Resolve`: one is always sent, whatever the promise resolves to.
#[test]
fn every_kind_of_resolution_of_an_exported_promise_is_told() {
    let mut net = Net::new();
    let (_, local) = net.object("local");
    let (_, far) = net.object("far");
    let (to_far, _) = net.link(None, Some(far));
    let third = net.bootstrapped(to_far);
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 1, &[]);
    let field = asked.pipelined(3);
    raw.sent();
    let cases: [(Client, &str); 6] = [
        (local, "resolve 0 senderHosted 1"),
        (third, "resolve 0 senderHosted 1"),
        (server.clone(), "resolve 0 receiverHosted 0"),
        (field, "resolve 0 receiverAnswer #0.3"),
        (Client::null(), "resolve 0 failed: the promise turned out to be null"),
        (Client::broken(Error::overloaded("later")), "resolve 0 overloaded: later"),
    ];
    for (target, expected) in cases {
        let (promised, fulfiller) = promise();
        let put = raw.net.call(&server, 2, &[promised]);
        raw.expect(&["call 1 on 0 (2) [senderPromise 0]"]);
        fulfiller.fulfill(target);
        raw.expect(&[expected]);
        raw.send(ret(1, 0, &[]));
        if expected.ends_with("senderHosted 1") {
            raw.send(release(1, 1));
        }
        raw.send(release(0, 1));
        raw.expect(&["finish 1"]);
        assert_eq!(raw.net.snapshot(raw.end).exports, 0);
        drop(put);
    }
    drop((server, asked));
    raw.finish();
}

/// A peer that waits for a `Resolve` is not helped by a promise of a third vat.
#[test]
fn a_promise_that_becomes_a_promise_of_a_third_vat_resolves_when_that_does() {
    let mut net = Net::new();
    let (far, far_client) = net.object("far");
    let (end, far_target) = net.object("far target");
    let (far_promise, fulfil_far) = promise();
    far.give(vec![far_promise]);
    let (to_far, from_far) = net.link(None, Some(far_client));
    let third = net.bootstrapped(to_far);
    let get = net.call(&third, 1, &[]);
    net.settle();
    let theirs = get.cap(0);
    let (mut raw, server, put, _, fulfiller) = with_exported_promise(net);
    raw.send(call(0, on(0), 10, &[]));
    fulfiller.fulfill(theirs);
    raw.send(call(1, on(0), 11, &[]));
    raw.expect(&[]);
    raw.net.settle();
    fulfil_far.fulfill(far_target);
    raw.net.step(from_far, "resolve 1 senderHosted 2");
    raw.expect(&["resolve 0 senderHosted 1"]);
    raw.net.settle();
    assert_eq!(end.seen(), [10, 11]);
    far.acknowledge();
    drop((third, get, server, put));
    raw.finish();
}

/// The parameters are made before the promise resolves, and sent afterwards.
#[test]
fn a_call_goes_to_what_the_promise_is_when_it_is_sent() {
    let mut net = Net::new();
    let (own, target) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 1, &[target]);
    let field = asked.pipelined(0);
    let request = content::params(2, &[]);
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(0)]));
    raw.expect(&["finish 0"]);
    let sent = raw.net.call_payload(&field, request);
    raw.expect(&[]);
    raw.net.run();
    assert_eq!(own.seen(), [2]);
    drop((server, asked, field, sent));
    raw.finish();
}

/// In parameters and in results, each broken capability is a promise of its own, and
/// its `Resolve.exception` follows right behind the message.
#[test]
fn broken_capabilities_travel_as_promises_that_fail() {
    let (mut raw, server) = raw::callee();
    let broken = Client::broken(Error::overloaded("worn out"));
    server.give(vec![broken.clone(), broken.clone()]);
    let peer = raw.give_bootstrap(0);
    let put = raw.net.call(&peer, 1, &[broken.clone(), broken]);
    raw.expect(&[
        "call 0 on 0 (1) [senderPromise 1, senderPromise 2]",
        "resolve 1 overloaded: worn out",
        "resolve 2 overloaded: worn out",
    ]);
    raw.send(call(0, on(0), 2, &[]));
    raw.expect(&[
        "return 0 results (2) [senderPromise 3, senderPromise 4]",
        "resolve 3 overloaded: worn out",
        "resolve 4 overloaded: worn out",
    ]);
    raw.send(call(1, on(3), 3, &[]));
    raw.expect(&["return 1 overloaded: worn out"]);
    server.acknowledge();
    drop((peer, put));
    raw.finish();
}

/// `Resolve.exception` from one machine to the other.
#[test]
fn a_broken_capability_arrives_as_one_that_fails_in_the_same_way() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let error = Error::overloaded("worn out").with_trace("here").with_detail(7, vec![1, 2]);
    server.give(vec![Client::broken(error.clone())]);
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let get = net.call(&remote, 1, &[]);
    let early = net.call(&get.pipelined(0), 2, &[]);
    net.settle();
    let late = net.call(&get.cap(0), 3, &[]);
    for failed in [early.error(), late.error(), get.cap(0).failure().unwrap()] {
        assert_eq!(failed, error);
        assert_eq!(failed.trace(), "here");
        assert_eq!(failed.detail(7), Some(&[1, 2][..]));
    }
    drop((remote, get, early, late));
    net.finish();
}

/// A `Resolve` for a promise that was released: its `cap` is released, too.
#[test]
fn a_resolve_for_a_promise_that_was_released_gives_the_replacement_back() {
    let mut net = Net::new();
    let (_, own) = net.object("own");
    let mut raw = Raw::new(net, Some(own));
    raw.take_bootstrap();
    raw.send(resolve(4, Descriptor::SenderHosted(5)));
    raw.expect(&["release 5 x1"]);
    raw.send(resolve(4, Descriptor::SenderPromise(6)));
    raw.expect(&["release 6 x1"]);
    raw.send(resolve(4, Descriptor::ReceiverHosted(0)));
    raw.send(reject(4, Error::failed("never mind")));
    raw.expect(&[]);
    raw.expect_alive();
    raw.finish();
}

/// The replacement in `Resolve.cap` is counted, even if it is imported already.
#[test]
fn a_replacement_that_nobody_wants_is_counted_with_the_import_that_it_is() {
    let (mut raw, server) = raw::caller(Net::new());
    raw.send(resolve(4, Descriptor::SenderHosted(0)));
    raw.expect(&[]);
    drop(server);
    raw.expect(&["release 0 x2"]);
    raw.finish();
}

/// The promise was dropped, but a described path still names it: Note [described path].
#[test]
fn a_promise_that_only_a_described_path_holds_is_resolved_in_silence() {
    let (mut raw, server) = raw::callee();
    server.keep();
    raw.send(call(0, on(0), 1, &[Descriptor::SenderPromise(4)]));
    server.give(server.kept());
    raw.send(call(1, on(0), 2, &[]));
    server.acknowledge();
    raw.expect(&["return 0 results (1) noFinishNeeded", "return 1 results (2) [receiverHosted 4]"]);
    raw.send(resolve(4, Descriptor::SenderHosted(9)));
    raw.expect(&["release 9 x1"]);
    raw.send(call(2, on_field(1, &[0]), 3, &[]));
    raw.expect(&["call 0 on 4 (3)"]);
    raw.send(finish(1, false));
    raw.send(ret(0, 3, &[]));
    raw.expect(&["release 4 x1", "finish 0", "return 2 results (3) noFinishNeeded"]);
    raw.finish();
}

/// A `Resolve` must be for a promise, and for each promise there must be only one.
#[test]
fn a_resolve_that_is_against_the_rules_ends_the_connection() {
    let cases: [(&[(u32, Descriptor)], &str); 3] = [
        (&[(0, Descriptor::SenderHosted(5))], "no promise"),
        (&[(4, Descriptor::None)], "`none`"),
        (&[(4, Descriptor::SenderHosted(5)), (4, Descriptor::SenderHosted(6))], "a second"),
    ];
    for (resolves, why) in cases {
        let (mut raw, server) = raw::callee();
        server.keep();
        raw.send(call(0, on(0), 1, &[Descriptor::SenderHosted(0), Descriptor::SenderPromise(4)]));
        let kept = server.kept();
        let (answerer, target) = raw.net.object("answerer");
        // The promise is held by a path that was described, too, so that it is
        // not gone after the first Resolve.
        answerer.give(kept.clone());
        let put = raw.net.call(&kept[0], 2, &[target]);
        raw.send(call(1, on(1), 3, &[]));
        raw.sent();
        for (promise, cap) in resolves {
            raw.send(resolve(*promise, cap.clone()));
        }
        raw.expect_abort(why);
        answerer.acknowledge();
        drop((kept, put));
        raw.finish();
    }
}

/// As C++ does with a promise that was rejected. What refers to the import meanwhile is what
/// the peer was told of it: Note [described path].
#[test]
fn a_promise_that_is_sent_again_after_it_was_resolved_leads_to_the_peer() {
    let (mut raw, server) = raw::callee();
    server.echo();
    raw.send(call(0, on(0), 1, &[Descriptor::SenderPromise(3)]));
    raw.expect(&["return 0 results (1) [receiverHosted 3]"]);
    raw.send(reject(3, Error::failed("rejected")));
    server.keep();
    raw.send(call(1, on(0), 2, &[Descriptor::SenderPromise(3)]));
    raw.expect(&["return 1 results (2) noFinishNeeded"]);
    let again = server.kept_one();
    let called = raw.net.call(&again, 10, &[]);
    raw.expect(&["call 0 on 3 (10)"]);
    raw.send(raw::ret_with(0, crate::wire::ReturnKind::Exception(Error::failed("rejected"))));
    assert_eq!(called.error().reason(), "rejected");
    raw.expect(&["finish 0"]);
    drop((called, again));
    raw.send(finish(0, true));
    raw.expect(&["release 3 x2"]);
    raw.finish();
}

/// Note [ending]: nobody is left who would resolve it.
#[test]
fn a_promise_of_the_peer_breaks_when_the_connection_ends() {
    let (mut raw, server) = raw::callee();
    server.keep();
    raw.send(call(0, on(0), 1, &[Descriptor::SenderPromise(4)]));
    let promise = server.kept_one();
    let waiting = raw.net.call(&promise, 2, &[]);
    raw.net.cut(raw.end);
    assert_eq!(promise.failure().map(|error| error.kind()), Some(ErrorKind::Disconnected));
    assert_eq!(waiting.error().kind(), ErrorKind::Disconnected);
    drop((promise, waiting));
    raw.finish();
}

/// An import is one or the other for as long as we hold it.
#[test]
fn an_import_does_not_change_between_promise_and_object() {
    let cases = [
        [Descriptor::SenderHosted(4), Descriptor::SenderPromise(4)],
        [Descriptor::SenderPromise(4), Descriptor::SenderHosted(4)],
    ];
    for caps in cases {
        let (mut raw, _) = raw::callee();
        raw.send(call(0, on(0), 1, &caps));
        raw.expect_abort("import 4 came as");
        raw.finish();
    }
}

/// Note [cycles]: directly, and through other promises.
#[test]
fn a_promise_that_is_resolved_to_itself_is_rejected() {
    let mut net = Net::new();
    let (own, fulfiller) = promise();
    let waiting = net.call(&own, 1, &[]);
    fulfiller.fulfill(own.clone());
    assert!(own.failure().unwrap().reason().contains("itself"));
    waiting.error();

    let chain: Vec<(Client, Fulfiller)> = (0..5).map(|_| promise()).collect();
    let (clients, fulfillers): (Vec<_>, Vec<_>) = chain.into_iter().unzip();
    let waiting: Vec<Call> = clients.iter().map(|client| net.call(client, 2, &[])).collect();
    let next = clients.iter().cycle().skip(1).cloned();
    for (fulfiller, next) in fulfillers.into_iter().zip(next) {
        fulfiller.fulfill(next);
    }
    for (client, call) in clients.iter().zip(&waiting) {
        assert!(client.failure().unwrap().reason().contains("itself"));
        call.error();
    }
    drop((own, clients));
    net.finish();
}

/// Note [cycles]: an object answers with a field of that very answer.
#[test]
fn results_that_contain_their_own_field_are_rejected_there() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    server.hold();
    let asked = net.call(&client, 1, &[]);
    let field = asked.pipelined(0);
    let waiting = net.call(&field, 2, &[]);
    net.run();
    server.answer_with(&[field.clone()]);
    assert!(field.failure().unwrap().reason().contains("itself"));
    waiting.error();
    drop((client, asked, field));
    net.finish();
}

/// Note [cycles]: the peer gives the promise back, and it is fulfilled with that
/// capability.
#[test]
fn a_promise_that_is_resolved_to_itself_by_way_of_the_peer_is_rejected() {
    // In whichever order the messages cross.
    for order in 0..16 {
        let (mut net, [a, b], server, remote) = net::pair();
        server.echo();
        let (own, fulfiller) = promise();
        let echo = net.call(&remote, 1, std::slice::from_ref(&own));
        let field = echo.pipelined(0);
        let before = net.call(&own, 2, &[]);
        let through = net.call(&field, 3, &[]);
        let mut fulfiller = Some(fulfiller);
        for step in 0..4 {
            if order & (1 << step) != 0 {
                if let Some(fulfiller) = fulfiller.take() {
                    fulfiller.fulfill(field.clone());
                }
            }
            let end = if net.queued(a) > 0 { a } else { b };
            if net.queued(end) > 0 {
                net.deliver_one(end);
                net.run();
            }
        }
        if let Some(fulfiller) = fulfiller.take() {
            fulfiller.fulfill(field.clone());
        }
        net.settle();
        for call in [&before, &through] {
            call.error();
        }
        let late = net.call(&own, 4, &[]);
        net.settle();
        late.error();
        drop((remote, own, echo, field, before, through, late));
        net.finish();
    }
}

/// Note [cycles]: each side fulfils its promise with the other's, at the same time.
#[test]
fn two_promises_of_two_vats_that_become_each_other_are_rejected() {
    for (a_first, b_called) in [(true, false), (false, false), (true, true), (false, true)] {
        let (mut net, [a, b], server, remote) = net::pair();
        server.keep();
        let (of_a, fulfil_of_a) = promise();
        let put = net.call(&remote, 1, std::slice::from_ref(&of_a));
        net.settle();
        let of_a_at_b = server.kept_one();
        let (of_b, fulfil_of_b) = promise();
        server.give(vec![of_b.clone()]);
        let get = net.call(&remote, 2, &[]);
        net.settle();
        server.acknowledge();
        let of_b_at_a = get.cap(0);
        let mut calls = vec![net.call(&of_a, 10, &[]), net.call(&of_b_at_a, 11, &[])];
        if b_called {
            calls.push(net.call(&of_b, 12, &[]));
            calls.push(net.call(&of_a_at_b, 13, &[]));
        }
        fulfil_of_a.fulfill(of_b_at_a.clone());
        fulfil_of_b.fulfill(of_a_at_b.clone());
        calls.push(net.call(&of_a, 14, &[]));
        calls.push(net.call(&of_b, 15, &[]));
        let ends: [End; 2] = if a_first { [a, b] } else { [b, a] };
        for end in ends {
            while net.queued(end) > 0 {
                net.deliver_one(end);
            }
        }
        net.settle();
        for call in &calls {
            call.error();
        }
        for client in [&of_a, &of_b, &of_a_at_b, &of_b_at_a] {
            let late = net.call(client, 20, &[]);
            net.settle();
            late.error();
        }
        drop((remote, put, get, of_a, of_a_at_b, of_b, of_b_at_a, calls));
        net.finish();
    }
}

/// Note [cycles]: the circle closes when only the descriptions of the two vats still
/// refer to the promises. It must not keep itself alive, and no call may go round in
/// it.
#[test]
fn a_circle_that_nobody_holds_any_more_goes_away() {
    for called in [false, true] {
        let (mut net, [a, b], server, remote) = net::pair();
        server.echo();
        let (own, fulfiller) = promise();
        let echo = net.call(&remote, 1, std::slice::from_ref(&own));
        let call = called.then(|| net.call(&echo.pipelined(0), 2, &[]));
        fulfiller.fulfill(echo.pipelined(0));
        drop((echo, own));
        net.step(a, "call 0 on 0 (1) [senderPromise 0]");
        net.step(b, "return 0 results (1) [receiverHosted 0]");
        net.settle();
        if let Some(call) = call {
            call.error();
        }
        drop(remote);
        net.finish();
    }
}

/// Note [cycles]: a circle over two promises of each vat.
#[test]
fn a_circle_of_four_promises_over_two_vats_is_rejected() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let (of_a, fulfil_of_a): (Vec<_>, Vec<_>) = (0..2).map(|_| promise()).unzip();
    let (of_b, fulfil_of_b): (Vec<_>, Vec<_>) = (0..2).map(|_| promise()).unzip();
    server.keep();
    let put = net.call(&remote, 1, &of_a);
    net.settle();
    let of_a_at_b = server.kept();
    server.give(of_b.clone());
    let get = net.call(&remote, 2, &[]);
    net.settle();
    server.acknowledge();
    let of_b_at_a = [get.cap(0), get.cap(1)];
    let mut calls: Vec<Call> = of_a.iter().map(|client| net.call(client, 10, &[])).collect();
    calls.extend(of_b.iter().map(|client| net.call(client, 11, &[])).collect::<Vec<_>>());
    // a0 -> b0 -> a1 -> b1 -> a0
    for (fulfiller, target) in fulfil_of_a.into_iter().zip([&of_b_at_a[0], &of_b_at_a[1]]) {
        fulfiller.fulfill(target.clone());
    }
    for (fulfiller, target) in fulfil_of_b.into_iter().zip([&of_a_at_b[1], &of_a_at_b[0]]) {
        fulfiller.fulfill(target.clone());
    }
    net.settle();
    for call in &calls {
        call.error();
    }
    drop((remote, put, get, of_a, of_b, of_a_at_b, of_b_at_a, calls));
    net.finish();
}

/// `Message.unimplemented`, which echoes a Resolve.
#[test]
fn an_echoed_resolve_gives_back_what_it_exported() {
    let mut net = Net::new();
    let (own, target) = net.object("own");
    let (mut raw, server, put, _, fulfiller) = with_exported_promise(net);
    fulfiller.fulfill(target);
    raw.expect(&["resolve 0 senderHosted 1"]);
    raw.send_built(|message| {
        let mut resolve = message.init_unimplemented().init_resolve();
        resolve.set_promise_id(0);
        resolve.init_cap().set_sender_hosted(1);
    });
    assert_eq!(raw.net.snapshot(raw.end).exports, 1);
    // The promise itself still holds the object, and can be called.
    raw.send(call(0, on(0), 5, &[]));
    assert_eq!(own.seen(), [5]);
    raw.send(release(0, 1));
    assert_eq!(own.drops(), 1);
    raw.send_built(|message| {
        let mut resolve = message.init_unimplemented().init_resolve();
        resolve.set_promise_id(0);
        resolve.init_exception().set_reason("what");
    });
    raw.expect_alive();
    drop((server, put));
    raw.finish();
}

/// `Message.unimplemented`, which echoes an indispensable message.
#[test]
fn an_echo_of_a_message_that_we_need_ends_the_connection() {
    type Fill = fn(crate::wire::rpc_capnp::message::Builder<'_>);
    let fills: [Fill; 4] = [
        |message| message.init_unimplemented().init_bootstrap().set_question_id(0),
        |message| message.init_unimplemented().init_finish().set_question_id(0),
        |message| message.init_unimplemented().init_release().set_id(0),
        |message| drop(message.init_unimplemented().init_call()),
    ];
    for fill in fills {
        let mut raw = Raw::new(Net::new(), None);
        raw.send_built(fill);
        raw.expect_abort("does not implement");
        raw.finish();
    }
}

/// `Message.unimplemented`, for messages of level 3 to a vat that has no network.
#[test]
fn messages_that_are_not_known_are_echoed() {
    type Fill = fn(crate::wire::rpc_capnp::message::Builder<'_>);
    let fills: [Fill; 4] = [
        |message| message.init_provide().set_question_id(3),
        |message| message.init_accept().set_question_id(3),
        |message| message.init_third_party_answer().set_answer_id(3),
        |message| message.init_disembargo().init_context().set_accept(b"x"),
    ];
    let mut raw = Raw::new(Net::new(), None);
    for fill in fills {
        raw.send_built(fill);
        let [echo] = <[String; 1]>::try_from(raw.sent()).unwrap();
        assert!(echo.starts_with("unimplemented"), "{echo}");
    }
    // Our own echo comes back: that is the end of it.
    raw.send_built(|message| drop(message.init_unimplemented().init_unimplemented().init_abort()));
    raw.expect(&[]);
    raw.expect_alive();
    raw.finish();
}

/// "A vine fallback, no panic."
#[test]
fn a_capability_of_a_third_party_is_reached_through_its_vine() {
    let (mut raw, server) = raw::callee();
    server.keep();
    raw.send(call(0, on(0), 1, &[Descriptor::ThirdPartyHosted(8, None)]));
    raw.expect(&["return 0 results (1) noFinishNeeded"]);
    let vine = server.kept_one();
    let called = raw.net.call(&vine, 2, &[]);
    raw.expect(&["call 0 on 8 (2)"]);
    drop((vine, called));
    raw.expect(&["release 8 x1", "finish 0 releaseResultCaps"]);
    raw.finish();
}

/// Level 3 where a level 1 peer cannot go on.
#[test]
fn results_for_or_from_a_third_party_end_the_connection() {
    let (mut raw, _) = raw::callee();
    raw.send_built(|message| {
        let mut call = message.init_call();
        call.reborrow().init_target().set_imported_cap(0);
        call.reborrow().get_send_results_to().init_third_party();
        call.init_params();
    });
    raw.expect_abort("sendResultsTo");
    raw.finish();

    let (mut raw, server) = raw::caller(Net::new());
    let asked = raw.net.call(&server, 1, &[]);
    raw.send_built(|message| {
        message.init_return().init_await_from_third_party();
    });
    raw.expect_abort("level 3");
    asked.error();
    drop((server, asked));
    raw.finish();
}

/// A capability named in a way that is not known fails when it is called.
#[test]
fn a_descriptor_of_an_unknown_kind_is_a_capability_that_fails() {
    let (mut raw, server) = raw::callee();
    server.keep();
    raw.send(call(0, on(0), 1, &[Descriptor::ReceiverHosted(77)]));
    let unknown = server.kept_one();
    assert_eq!(unknown.failure().map(|error| error.kind()), Some(ErrorKind::Failed));
    raw.expect_alive();
    raw.finish();
}

/// Note [described path]: A answers B with a field of B's results, and with an object of B;
/// B answers A with the latter field. Each vat's results are in the path of the other's, and
/// neither vat can see that nothing else refers to them. Both give their places up.
#[test]
fn results_that_lead_through_each_other_are_released() {
    let mut net = Net::new();
    let (on_a, of_a) = net.object("on a");
    let (on_b, of_b) = net.object("on b");
    let (a, b) = net.link(Some(of_a), Some(of_b));
    let (to_b, to_a) = (net.bootstrapped(a), net.bootstrapped(b));
    on_a.hold();
    on_b.hold();
    let from_b = net.call(&to_b, 1, &[]);
    let from_a = net.call(&to_a, 2, &[]);
    net.settle();
    on_a.answer_with(&[from_b.pipelined(0), to_b.clone()]);
    on_b.answer_with(&[from_a.pipelined(1)]);
    net.settle();
    on_b.acknowledge();
    let through_both = net.call(&from_a.cap(0), 3, &[]);
    net.settle();
    through_both.ok();
    drop((to_a, to_b, from_a, from_b, through_both));
    on_a.acknowledge();
    net.finish();
}

/// Note [cycles]: four fields of results are each answered with the next one, before any of
/// the answers arrives. The embargoes of the two vats would wait for each other.
#[test]
fn a_circle_of_results_that_lead_through_each_other_breaks() {
    for called in [false, true] {
        let mut net = Net::new();
        let (on_a, of_a) = net.object("on a");
        let (on_b, of_b) = net.object("on b");
        on_a.hold();
        on_b.hold();
        let (a, b) = net.link(Some(of_a), Some(of_b));
        let (to_b, to_a) = (net.bootstrapped(a), net.bootstrapped(b));
        let from_b = [net.call(&to_b, 1, &[]), net.call(&to_b, 2, &[])];
        let from_a = [net.call(&to_a, 3, &[]), net.call(&to_a, 4, &[])];
        net.settle();
        on_b.answer_with(&[from_a[0].pipelined(0)]);
        on_a.answer_with(&[from_b[1].pipelined(0)]);
        on_b.answer_with(&[from_a[1].pipelined(0)]);
        on_a.answer_with(&[from_b[0].pipelined(0)]);
        let fields: Vec<Client> =
            from_b.iter().chain(&from_a).map(|call| call.pipelined(0)).collect();
        let mut calls = Vec::new();
        if called {
            calls.extend(fields.iter().map(|field| net.call(field, 5, &[])));
        }
        net.settle();
        assert!(fields.iter().all(|field| field.failure().is_some()), "{fields:?}");
        calls.iter().for_each(|call| drop(call.error()));
        drop((to_a, to_b, from_a, from_b, fields, calls));
        on_a.acknowledge();
        on_b.acknowledge();
        net.finish();
    }
}

/// Note [tail calls]: a vat never learns what a field of results is that stay with the peer.
/// So two calls that were passed back keep each other, if each returns a field of the other.
#[test]
fn results_that_stay_with_the_peer_and_hold_each_others_fields_are_kept() {
    const PASS_BACK: u64 = 10;
    let mut net = Net::new();
    let (on_a, of_a) = net.object("on a");
    let (on_b, of_b) = net.object("on b");
    let (last_a, at_a) = net.object("last at a");
    let (last_b, at_b) = net.object("last at b");
    last_a.hold();
    last_b.hold();
    let kept = [&on_a, &on_b].map(|object| {
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        object.on_call(move |call| {
            let cap = call.params().caps()[0].clone();
            if content::label(call.params()) == PASS_BACK {
                call.forward(&cap);
            } else {
                *keep.lock() = Some(cap);
                acknowledge(call);
            }
        });
        kept
    });
    let (a, b) = net.link(Some(of_a), Some(of_b));
    let (to_b, to_a) = (net.bootstrapped(a), net.bootstrapped(b));
    let asked = [net.call(&to_a, PASS_BACK, &[at_b]), net.call(&to_b, PASS_BACK, &[at_a])];
    // What they will return is sent along before they come back.
    let fields = asked.each_ref().map(|asked| asked.pipelined(0));
    let sent =
        [net.call(&to_a, 11, &[fields[0].clone()]), net.call(&to_b, 11, &[fields[1].clone()])];
    net.settle();
    sent.iter().for_each(|call| drop(call.ok()));
    let [of_last_b, of_last_a] = kept.map(|kept| kept.lock().take().unwrap());
    assert!(of_last_a.is_unresolved() && of_last_b.is_unresolved());
    last_a.answer_with(&[to_b.clone(), of_last_b]);
    last_b.answer_with(&[to_a.clone(), of_last_a]);
    net.settle();
    asked.iter().for_each(|call| drop(call.ok()));
    drop((to_a, to_b, asked, fields, sent));
    on_a.acknowledge();
    on_b.acknowledge();
    net.settle();
    for end in [a, b] {
        let left = net.snapshot(end);
        assert_eq!((left.questions, left.answers), (1, 1), "{left:?}");
    }
    // This is all that keeps them.
    net.give_up_kept_fields();
    net.finish();
}
