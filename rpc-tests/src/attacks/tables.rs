//! Entries in tables, and messages about entries that are not there.

use capnp_threads_core::Concurrency;

use super::assault::call;
use super::target::Method;
use super::words::{self, sender_promise};
use super::{Attack, Bound, Ends, Seen, Siege};
use crate::support::raw::{self, Cap, Target};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "bootstraps",
        about: "asks for the bootstrap object and never finishes the question",
        bounds: &[Bound::Budget],
        ends: Ends::CutOff("calls are outstanding"),
        run: bootstraps,
    },
    Attack {
        name: "finished-bootstraps",
        about: "asks for the bootstrap object over and over",
        bounds: &[],
        ends: Ends::GoesOn,
        run: finished_bootstraps,
    },
    Attack {
        name: "kept-objects",
        about: "has objects made for it, and releases none",
        bounds: &[Bound::Budget, Bound::Exports],
        ends: Ends::Refused("Limits::exports"),
        run: kept_objects,
    },
    Attack {
        name: "disembargoes-behind-a-call",
        about: "sends Disembargoes that wait for a call which is never answered",
        bounds: &[Bound::Budget],
        ends: Ends::CutOff("Limits::budget_bytes"),
        run: disembargoes_behind_a_call,
    },
    Attack {
        name: "disembargoes-behind-a-promise",
        about: "sends Disembargoes that wait for a promise which is never resolved",
        bounds: &[Bound::Budget],
        ends: Ends::CutOff("Limits::budget_bytes"),
        run: disembargoes_behind_a_promise,
    },
    Attack {
        name: "embargoes",
        about: "resolves promises to the vat's own objects, and returns no Disembargo",
        bounds: &[Bound::Budget],
        ends: Ends::GoesOn,
        run: embargoes,
    },
    Attack {
        name: "resolves",
        about: "resolves promises that the vat does not have to ever new promises",
        bounds: &[Bound::Budget],
        ends: Ends::GoesOn,
        run: resolves,
    },
    Attack {
        name: "what-is-not-there",
        about: "releases, finishes, returns and disembargoes what is not there, and connects anew",
        bounds: &[],
        ends: Ends::CutOff(""),
        run: what_is_not_there,
    },
];

fn bootstraps(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    for question in 1..=2 * siege.sizes.limits.answers {
        if !assault.write(&words::bootstrap(question)) {
            break;
        }
    }
    assault.leave()
}

fn finished_bootstraps(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let some = [words::bootstrap(1), words::finish(1)].concat().repeat(500);
    let pieces = 2 * siege.sizes.limits.budget_bytes / (500 << 10);
    for _ in 0..pieces {
        if !assault.paced(&some) {
            break;
        }
    }
    assault.leave()
}

fn kept_objects(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    let calls = siege.sizes.limits.exports + 100;
    for question in 1..=calls {
        assault.write(&call(question, object, Method::Give, &[]));
        // The results stay with the peer.
        if question % 100 == 0 {
            assault.answered(question.into());
            (question - 99..=question).for_each(|question| {
                assault.write(&raw::finish(question, false));
            });
        }
    }
    assault.answered(calls.into());
    assault.leave()
}

/// Disembargoes for a target that does not become anything.
fn disembargoes(siege: &Siege, method: Method) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    assault.write(&call(1, object, method, &[]));
    let one = raw::frame(|message| {
        let mut disembargo = message.init_disembargo();
        raw::write_target(disembargo.reborrow().init_target(), &Target::Answer(1, vec![0]));
        disembargo.get_context().set_sender_loopback(7);
    });
    let some = one.repeat(500);
    // Each takes more than a hundred bytes.
    for _ in 0..2 * siege.sizes.limits.budget_bytes / (500 * 100) {
        if !assault.write(&some) {
            break;
        }
    }
    assault.leave()
}

fn disembargoes_behind_a_call(siege: &Siege) -> Seen {
    disembargoes(siege, Method::Hold)
}

fn disembargoes_behind_a_promise(siege: &Siege) -> Seen {
    disembargoes(siege, Method::Keep)
}

fn embargoes(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    let (limit, some) = (siege.sizes.limits.embargoes, 64);
    for promises in (0..limit + 4 * some).step_by(some as usize) {
        let promises = promises..promises + some;
        // The vat keeps each promise, and sends a call through it before it resolves.
        for promise in promises.clone() {
            let question = 2 * promise + 1;
            let table = [sender_promise(promise)];
            assault.write(&call(question, object, Method::Keep, &table));
            assault.write(&call(question + 1, object, Method::Pass, &table));
        }
        assault.called(promises.end.into());
        for promise in promises {
            assault.write(&resolve(promise, &Cap::ReceiverHosted(object)));
        }
    }
    if assault.sync() {
        assert_eq!(assault.connection.snapshot().embargoes, limit as usize);
    }
    assault.leave()
}

fn resolve(promise: u32, to: &Cap) -> Vec<u8> {
    raw::frame(|message| {
        let mut resolve = message.init_resolve();
        resolve.set_promise_id(promise);
        raw::write_cap(resolve.init_cap(), to);
    })
}

fn resolves(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    for piece in 0..100 {
        let some: Vec<u8> = (0..500)
            .flat_map(|number| {
                let promise = 1000 * piece + 2 * number;
                resolve(promise, &Cap::SenderPromise(promise + 1))
            })
            .collect();
        if !assault.paced(&some) {
            break;
        }
    }
    assault.leave()
}

fn what_is_not_there(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    let messages: [Vec<u8>; 6] = [
        raw::frame(|message| {
            let mut release = message.init_release();
            release.set_id(999);
            release.set_reference_count(1);
        }),
        raw::finish(999, true),
        raw::frame(|message| {
            let mut ret = message.init_return();
            ret.set_answer_id(999);
            ret.init_results();
        }),
        raw::frame(|message| {
            let mut disembargo = message.init_disembargo();
            raw::write_target(disembargo.reborrow().init_target(), &Target::Import(999));
            disembargo.get_context().set_sender_loopback(1);
        }),
        raw::frame(|message| {
            let mut disembargo = message.init_disembargo();
            raw::write_target(disembargo.reborrow().init_target(), &Target::Import(0));
            disembargo.get_context().set_receiver_loopback(999);
        }),
        words::call(1, 999, Method::Answer, words::Content::Nothing, &[]),
    ];
    for message in messages.iter().cycle().take(60) {
        let mut assault = siege.assault(Concurrency::Serial);
        assault.write(&message.repeat(100));
        // It may be cut off by the first of them, or all may be harmless.
        assault.sync();
        seen.add(assault.leave());
    }
    seen
}
