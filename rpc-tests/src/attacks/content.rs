//! Contents that are large, or stand for more than they are.

use capnp_threads_core::Concurrency;

use super::assault::{call, refuse};
use super::target::Method;
use super::words::{self, Content, sender_hosted, sender_promise};
use super::{Attack, Bound, Ends, Seen, Siege};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "large-contents",
        about: "leaves calls with large contents in a queue",
        bounds: &[Bound::Budget],
        ends: Ends::Refused("Limits::budget_bytes"),
        run: large_contents,
    },
    Attack {
        name: "one-word-descriptors",
        about: "names very many capabilities, each with one word",
        bounds: &[Bound::Budget, Bound::Backlog],
        ends: Ends::Either("Limits::budget_bytes"),
        run: one_word_descriptors,
    },
    Attack {
        name: "one-large-table",
        about: "names as many capabilities as one message can",
        bounds: &[Bound::Budget],
        ends: Ends::Either("Limits::budget_bytes"),
        run: one_large_table,
    },
    Attack {
        name: "returned-capabilities",
        about: "has its capabilities returned to it, and finishes nothing",
        bounds: &[Bound::Budget],
        ends: Ends::Either("Limits::budget_bytes"),
        run: returned_capabilities,
    },
    Attack {
        name: "deep-pointers",
        about: "sends contents that are deep, that contain themselves or lead nowhere",
        bounds: &[],
        ends: Ends::GoesOn,
        run: deep_pointers,
    },
    Attack {
        name: "endless-stream",
        about: "streams without end and without waiting",
        bounds: &[],
        ends: Ends::GoesOn,
        run: endless_stream,
    },
];

/// As many bytes as exceed the budget for sure.
fn too_much(siege: &Siege) -> u64 {
    2 * siege.sizes.limits.budget_bytes
}

fn large_contents(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    let largest = siege.sizes.limits.message_words as usize - 64;
    for words in [largest, 1 << 12] {
        let mut assault = siege.assault(Concurrency::Serial);
        let object = assault.object;
        let bytes = 8 * words as u64;
        for question in 1..=(too_much(siege) / bytes) as u32 {
            let content = Content::Data(words);
            if !assault.write(&words::call(question, object, Method::Keep, content, &[])) {
                break;
            }
        }
        assault.sync();
        seen.add(assault.leave());
    }
    seen
}

fn one_word_descriptors(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    for descriptor in [sender_hosted, sender_promise] {
        let mut assault = siege.assault(Concurrency::Serial);
        let object = assault.object;
        // Each takes more than 50 bytes.
        let calls = too_much(siege) / (1000 * 50);
        for question in 0..calls as u32 {
            let table: Vec<u64> = (0..1000).map(|cap| descriptor(1000 * question + cap)).collect();
            if !assault.write(&call(question + 1, object, Method::Keep, &table)) {
                break;
            }
        }
        seen.add(assault.leave());
    }
    seen
}

fn one_large_table(siege: &Siege) -> Seen {
    let mut seen = Seen::default();
    let most = siege.sizes.limits.message_words as u32 - 64;
    for length in [most, most / 2, most / 8] {
        for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
            let mut assault = siege.assault(concurrency);
            let object = assault.object;
            let table: Vec<u64> = (0..length).map(sender_hosted).collect();
            for question in 1..=16 {
                if !assault.write(&call(question, object, Method::Keep, &table)) {
                    break;
                }
            }
            seen.add(assault.leave());
        }
    }
    seen
}

fn returned_capabilities(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    let calls = too_much(siege) / (500 * 50);
    for question in 0..calls as u32 {
        let table: Vec<u64> = (0..500).map(|cap| sender_hosted(500 * question + cap)).collect();
        if !assault.write(&call(question + 1, object, Method::Return, &table)) {
            break;
        }
    }
    assault.leave()
}

fn deep_pointers(siege: &Siege) -> Seen {
    let mut assault = siege.assault_reacting(Concurrency::Serial, Box::new(refuse));
    let object = assault.object;
    let half = siege.sizes.limits.message_words as usize / 2;
    // The words stand two words behind the pointer to them: an offset of three.
    let deep: Vec<u64> = vec![1 << 48; half];
    let wide: Vec<u64> = (0..512_u64)
        .map(|index| 1 | (511 - index) << 2 | 5 << 32 | 512 << 35)
        .chain((0..512).map(|_| 1))
        .collect();
    let contents: &[(u64, &[u64])] = &[
        // A pointer to a pointer to a pointer.
        (3 << 2 | 1 << 48, &deep),
        // A list of lists which are all the same.
        (1 | 3 << 2 | 6 << 32 | 512 << 35, &wide),
        // Itself.
        (0xffff_fffc | 1 << 48, &[]),
        // Outside of the message, in another segment, and a list of nothing without end.
        (0x0fff_fffc | 9 << 32 | 9 << 48, &[]),
        (2 | 99 << 32, &[]),
        (1 | 0x1fff_ffff << 35, &[]),
        // Capabilities that are not in the table.
        (3 | 1 << 32, &[]),
        (3 | 0xffff_ffff << 32, &[]),
    ];
    let mut question = 0;
    for _ in 0..20 {
        for (pointer, behind) in contents {
            for method in [Method::Pass, Method::CallBack, Method::Return] {
                question += 1;
                let content = Content::Raw(*pointer, behind);
                let bytes =
                    words::call(question, object, method, content, &[sender_hosted(question)]);
                assault.paced(&bytes);
                assault.answered(question.into());
                assault.paced(&words::finish(question));
            }
        }
    }
    assault.sync();
    assault.leave()
}

fn endless_stream(siege: &Siege) -> Seen {
    let mut assault = siege.assault(Concurrency::Serial);
    let object = assault.object;
    let item = words::call(1, object, Method::Stream, Content::Data(1 << 10), &[]);
    let some = [item, words::finish(1)].concat().repeat(8);
    let pieces = 2 * too_much(siege) / (64 << 10);
    for _ in 0..pieces {
        if !assault.paced(&some) {
            break;
        }
    }
    siege.honest_goes_on();
    assault.leave()
}
