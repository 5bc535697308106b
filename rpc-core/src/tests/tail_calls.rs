//! Tail calls, and peers that answer them against the rules.

use std::sync::Arc;

use super::actor::acknowledge;
use super::net::Net;
use super::raw::{self, Raw};
use crate::cap::client::Client;
use crate::sync::Mutex;
use crate::wire::{Descriptor, ReturnKind};

#[test]
fn a_second_return_of_a_tail_call_breaks_what_was_pipelined_on_it() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    let theirs = raw.give_bootstrap(5);

    // The first call is answered by a call to the peer; what the second one brings
    // is kept.
    let target = Mutex::new(Some(theirs));
    let kept = Arc::new(Mutex::new(None::<Client>));
    let keep = Arc::clone(&kept);
    object.on_call(move |call| {
        let target = target.lock().take();
        if let Some(target) = target {
            call.forward(&target);
        } else {
            *keep.lock() = call.params().caps().first().cloned();
            acknowledge(call);
        }
    });
    raw.send(raw::call(1, raw::on(0), 10, &[]));
    raw.expect(&["call 0 on 5 (10) yourself", "return 1 takeFromOtherQuestion 0", "release 5 x1"]);
    raw.send(raw::call(2, raw::on(0), 11, &[Descriptor::ReceiverAnswer(raw::promised(1, &[0]))]));
    let promise = kept.lock().clone().unwrap();
    assert!(promise.is_unresolved());
    raw.sent();

    raw.send(raw::ret_with(0, ReturnKind::ResultsSentElsewhere));
    raw.expect_alive();
    assert!(promise.is_unresolved());
    raw.send(raw::ret_with(0, ReturnKind::ResultsSentElsewhere));
    raw.expect_abort("a second Return");
    // Whoever waits for it hears of the end.
    assert!(promise.failure().is_some(), "{promise:?}");
    drop(promise);
    *kept.lock() = None;
    drop(object);
    raw.finish();
}
