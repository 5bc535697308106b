//! Bytes that are no messages, or end before they are one.

use crate::attacks::catalogue::case::{Case, Kind, Must, case};
use crate::attacks::catalogue::peer::{ASKED, Peer};
use crate::attacks::catalogue::says;
use crate::attacks::words::{to_list, to_struct};
use crate::support::raw;

/// A framing without what it announces.
fn table(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A pointer to a place in another segment.
fn far(segment: u64, offset: u64) -> u64 {
    2 | offset << 3 | segment << 32
}

/// A message in so many segments, the last one of which holds everything.
fn in_segments(count: u32, content: &[u64]) -> Vec<u8> {
    let mut numbers = vec![count - 1];
    numbers.extend((1..count).map(|number| u32::from(number == 1)));
    numbers.push(u32::try_from(content.len()).unwrap_or_default());
    if numbers.len() % 2 == 1 {
        numbers.push(0);
    }
    let root = far(u64::from(count) - 1, 0);
    let words = std::iter::once(&root).chain(content).flat_map(|word| word.to_le_bytes());
    table(&numbers).into_iter().chain(words).collect()
}

fn cut(peer: &mut Peer, bytes: &[u8]) {
    peer.say(bytes);
    peer.end();
}

pub(super) const CASES: &[Case] = &[
    case("nothing", "ends the stream, and has said nothing", Must::Ends, Peer::end).first(),
    case("one-byte", "writes one byte, and ends the stream", Must::Ends, |peer| cut(peer, &[0]))
        .first(),
    case("half-a-number", "ends in the number of segments", Must::Ends, |peer| {
        cut(peer, &[0, 0, 0]);
    })
    .first(),
    case("half-a-table", "ends in the table of segments", Must::Ends, |peer| {
        cut(peer, &table(&[3, 1, 1]));
    }),
    case("no-content", "ends behind the table of segments", Must::Ends, |peer| {
        cut(peer, &table(&[0, 4]));
    }),
    case("half-the-content", "ends in the middle of a call", Must::Ends, |peer| {
        let call = says::call(ASKED, peer.object, |_| ());
        cut(peer, &call[..call.len() / 2]);
    }),
    case("all-but-a-byte", "ends one byte before the end of a call", Must::Ends, |peer| {
        let call = says::call(ASKED, peer.object, |_| ());
        cut(peer, &call[..call.len() - 1]);
    }),
    case("byte-by-byte", "writes a Bootstrap one byte at a time", Must::Answers, |peer| {
        says::bootstrap(ASKED).iter().for_each(|byte| peer.say(&[*byte]));
    }),
    case("no-words", "sends a message of no words", Must::Aborts("out-of-bounds"), |peer| {
        peer.say(&raw::words(&[]));
    })
    .first(),
    case(
        "no-words-in-segments",
        "sends three empty segments",
        Must::Aborts("out-of-bounds"),
        |peer| {
            peer.say(&table(&[2, 0, 0, 0]));
        },
    ),
    case(
        "no-segments",
        "announces 2^32 segments, which is none",
        Must::Aborts("segments"),
        |peer| {
            peer.say(&table(&[u32::MAX, 0]));
        },
    )
    .first(),
    case("many-segments", "announces 513 segments", Must::Aborts("segments"), |peer| {
        peer.say(&table(&[512, 0]));
    }),
    case("most-segments", "sends 512 segments, 510 of them empty", Must::Answers, |peer| {
        // A Bootstrap, as words.
        let bootstrap = [to_struct(0, 1, 1), 8, to_struct(0, 1, 1), u64::from(ASKED), 0];
        peer.say(&in_segments(512, &bootstrap));
    }),
    case("long-segment", "announces a segment of 32 GiB", Must::Aborts("words"), |peer| {
        peer.say(&table(&[0, u32::MAX]));
    })
    .first(),
    case(
        "one-word-too-many",
        "announces one word more than is allowed",
        Must::Aborts("words"),
        |peer| {
            peer.say(&table(&[0, 8 << 20 | 1]));
        },
    ),
    case(
        "long-sum",
        "announces segments that are too long together",
        Must::Aborts("words"),
        |peer| {
            peer.say(&table(&[1, 4 << 20, 4 << 20 | 1, 0]));
        },
    ),
    case(
        "overflowing-sum",
        "announces segments whose lengths overflow",
        Must::Aborts("words"),
        |peer| {
            peer.say(&table(&[3, u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0]));
        },
    ),
    case("null-root", "sends a message whose root is null", Must::Ignores, |peer| {
        // By its defaults, it is an `unimplemented` about an `unimplemented`.
        peer.say(&raw::words(&[0]));
    }),
    case("empty-root", "sends a message whose root has no fields", Must::Ignores, |peer| {
        peer.say(&raw::words(&[0xffff_fffc]));
    }),
    case(
        "root-out-of-bounds",
        "sends a root behind the end",
        Must::Aborts("out-of-bounds"),
        |peer| {
            peer.say(&raw::words(&[to_struct(0, 1, 1)]));
        },
    ),
    case("root-far-behind", "sends a root 2 GiB behind", Must::Aborts("out-of-bounds"), |peer| {
        peer.say(&raw::words(&[to_struct(0x1fff_ffff, 9, 9), 0]));
    }),
    case(
        "root-before",
        "sends a root in front of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            peer.say(&raw::words(&[to_struct(0x3fff_fc18, 1, 1), 0]));
        },
    ),
    case("root-in-itself", "sends a root that is its own content", Must::Ignores, |peer| {
        // One pointer, which is the root again: a null root, in effect.
        peer.say(&raw::words(&[to_struct(0x3fff_ffff, 0, 1)]));
    }),
    case("root-list", "sends a root that is a list", Must::Aborts("struct"), |peer| {
        peer.say(&raw::words(&[to_list(0, 2, 8), 0]));
    }),
    case("root-capability", "sends a root that is a capability", Must::Aborts("struct"), |peer| {
        peer.say(&raw::words(&[3]));
    }),
    case(
        "root-of-no-kind",
        "sends a root of a reserved kind",
        Must::Aborts("out-of-bounds"),
        |peer| {
            peer.say(&raw::words(&[3 | 1 << 2]));
        },
    ),
    case("root-far-away", "sends a root in segment 7 of 1", Must::Aborts("segment"), |peer| {
        peer.say(&raw::words(&[far(7, 0)]));
    }),
    case(
        "root-far-itself",
        "sends a far root that leads to itself",
        Must::Aborts("non-struct pointer"),
        |peer| {
            peer.say(&raw::words(&[far(0, 0)]));
        },
    ),
    case(
        "root-doubly-far",
        "sends a doubly far root of two far pointers",
        Must::Aborts("non-struct pointer"),
        |peer| {
            peer.say(&raw::words(&[far(0, 1) | 4, far(0, 1), far(0, 1)]));
        },
    ),
    case(
        "trailing-words",
        "sends words behind a Bootstrap that nothing refers to",
        Must::Answers,
        |peer| {
            let bootstrap = [to_struct(0, 1, 1), 8, to_struct(0, 1, 1), u64::from(ASKED), 0];
            peer.say(&raw::words(&[&bootstrap[..], &[u64::MAX; 500]].concat()));
        },
    ),
    case("unknown-message", "sends a message of kind 1000", Must::Echoes, |peer| {
        peer.say(&raw::tagged(1000));
    })
    .first(),
    case("last-message", "sends a message of kind 65535", Must::Echoes, |peer| {
        peer.say(&raw::tagged(u16::MAX));
    }),
    case("next-message", "sends a message of kind 15, the next one to be", Must::Echoes, |peer| {
        peer.say(&raw::tagged(15));
    }),
    case(
        "descriptors-of-nothing",
        "sends a descriptor that no capability has",
        Must::Answers,
        |peer| {
            peer.say_with_fd(&says::bootstrap(ASKED), descriptor());
        },
    )
    .only(&[Kind::Plain, Kind::Handoff]),
    case(
        "descriptors-between",
        "sends a descriptor beside half a message",
        Must::Answers,
        |peer| {
            let bytes = says::bootstrap(ASKED);
            peer.say(&bytes[..10]);
            peer.say_with_fd(&bytes[10..], descriptor());
        },
    )
    .only(&[Kind::Plain, Kind::Handoff]),
];

/// A descriptor of no use.
fn descriptor() -> std::os::fd::OwnedFd {
    std::fs::File::open("/dev/null").expect("there is nothing to be opened").into()
}
