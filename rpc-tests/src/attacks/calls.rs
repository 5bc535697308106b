//! Calls that take workers, or places in queues.

use capnp_threads_core::Concurrency;

use super::assault::{call, refuse};
use super::target::Method;
use super::words::{finish, receiver_hosted, sender_hosted};
use super::{Attack, Bound, Ends, Seen, Siege};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "cancelled-calls",
        about: "calls a busy object, and cancels each call at once",
        bounds: &[],
        ends: Ends::GoesOn,
        run: cancelled_calls,
    },
    Attack {
        name: "unanswered-calls",
        about: "calls an object that is busy, and waits",
        bounds: &[Bound::Budget],
        ends: Ends::CutOff("calls are outstanding"),
        run: unanswered_calls,
    },
    Attack {
        name: "deaf-peer",
        about: "has the vat call it back, and never answers",
        bounds: &[Bound::Budget, Bound::Waiting],
        ends: Ends::Refused("workers"),
        run: deaf_peer,
    },
    Attack {
        name: "foreign-locks",
        about: "calls methods that wait for something that the library does not know",
        bounds: &[Bound::Budget],
        ends: Ends::GoesOn,
        run: foreign_locks,
    },
    Attack {
        name: "round-trips",
        about: "calls an object that passes each call on to itself",
        bounds: &[Bound::Budget],
        ends: Ends::GoesOn,
        run: round_trips,
    },
];

fn cancelled_calls(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    assault.write(&call(1, object, Method::Hold, &[]));
    let some = [call(2, object, Method::Answer, &[]), finish(2)].concat().repeat(500);
    // Each call that stays would take a kilobyte.
    let enough = 3 * siege.sizes.limits.budget_bytes / (500 << 10);
    let mut alive = true;
    for _ in 0..enough {
        alive = alive && assault.paced(&some);
    }
    if alive && assault.sync() {
        // The mailbox is no longer than the one call that has begun.
        assert_eq!(assault.connection.snapshot().answers, 1);
    }
    siege.honest_goes_on();
    assault.leave()
}

fn unanswered_calls(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    assault.write(&call(1, object, Method::Hold, &[]));
    for question in 2..=2 * siege.sizes.limits.answers {
        if !assault.write(&call(question, object, Method::Answer, &[])) {
            break;
        }
    }
    assault.leave()
}

fn deaf_peer(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Concurrent);
    let object = assault.object;
    let pool = &siege.sizes.pool;
    let calls = (pool.max_workers + pool.max_waiting + 200) as u32;
    for question in 1..=calls {
        if !assault.write(&call(question, object, Method::CallBack, &[sender_hosted(7)])) {
            break;
        }
    }
    if assault.sync() {
        // As many of the methods wait as may; the rest is refused.
        let waiting = (pool.max_waiting as u64).div_ceil(4) * 3;
        assault.called(waiting.min(u64::from(calls)));
        siege.honest_goes_on();
        siege.look();
        siege.newcomer().expect("a newcomer is served beside a deaf peer");
    }
    assault.leave()
}

fn foreign_locks(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Concurrent);
    let object = assault.object;
    for question in 1..=2 * siege.sizes.pool.max_workers as u32 {
        assault.write(&call(question, object, Method::Hold, &[]));
    }
    if assault.sync() {
        siege.honest_goes_on();
        siege.look();
        siege.newcomer().expect("a newcomer is served while methods wait");
    }
    assault.leave()
}

fn round_trips(siege: &Siege) -> Seen {
    let mut assault = siege.assault_reacting(Concurrency::Serial, Box::new(refuse));
    let object = assault.object;
    for question in 1..=100 {
        assault.write(&call(question, object, Method::Pass, &[receiver_hosted(object)]));
    }
    assault.sync();
    siege.honest_goes_on();
    for question in 1..=100 {
        assault.write(&finish(question));
    }
    assault.sync();
    assault.leave()
}
