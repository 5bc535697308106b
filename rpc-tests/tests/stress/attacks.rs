//! The [attacks](rpc_tests::attacks), each against small limits, in a process of its own
//! whose memory, threads and descriptors are counted.

use rpc_tests::attacks::catalogue::{self, Kind};
use rpc_tests::attacks::memory::Counting;
use rpc_tests::attacks::{Siege, Sizes, all, named};
use rpc_tests::support::{Watchdog, alone};

/// For all tests of this binary.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Makes the attack twice: what it leaves behind does not add up either.
fn attack(test: &str, name: &str) {
    if !alone(&format!("attacks::{test}")) {
        return;
    }
    let _watchdog = Watchdog::start();
    let siege = Siege::lay(Sizes::small()).unwrap();
    for _ in 0..2 {
        let report = siege.attack(named(name).unwrap()).unwrap_or_else(|error| panic!("{error}"));
        println!("{name}: {report:?}");
    }
    siege.lift().unwrap();
}

/// One test for each attack, called as it is.
macro_rules! attacks {
    ($($test:ident $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                attack(stringify!($test), $name);
            }
        )*

        #[test]
        fn every_attack_is_made() {
            let made = [$($name),*];
            let known: Vec<&str> = all().map(|attack| attack.name).collect();
            assert_eq!(known, made);
        }
    };
}

attacks! {
    cancelled_calls "cancelled-calls",
    unanswered_calls "unanswered-calls",
    deaf_peer "deaf-peer",
    foreign_locks "foreign-locks",
    round_trips "round-trips",
    large_contents "large-contents",
    one_word_descriptors "one-word-descriptors",
    one_large_table "one-large-table",
    returned_capabilities "returned-capabilities",
    deep_pointers "deep-pointers",
    endless_stream "endless-stream",
    bootstraps "bootstraps",
    finished_bootstraps "finished-bootstraps",
    kept_objects "kept-objects",
    disembargoes_behind_a_call "disembargoes-behind-a-call",
    disembargoes_behind_a_promise "disembargoes-behind-a-promise",
    embargoes "embargoes",
    resolves "resolves",
    what_is_not_there "what-is-not-there",
    unread_returns "unread-returns",
    unread_results "unread-results",
    unread_echoes "unread-echoes",
    introductions "introductions",
    slow_reader "slow-reader",
    segment_tables "segment-tables",
    half_messages "half-messages",
    garbage "garbage",
    silent_connections "silent-connections",
    crowd "crowd",
    comers_and_goers "comers-and-goers",
    endpoint_sessions "endpoint-sessions",
    endpoint_connections "endpoint-connections",
    endpoint_messages "endpoint-messages",
    endpoint_peers "endpoint-peers",
    endpoint_handshakes "endpoint-handshakes",
    tokens "tokens",
    accepts_of_nothing "accepts-of-nothing",
    provisions_for_nobody "provisions-for-nobody",
    embargoes_of_nobody "embargoes-of-nobody",
    contacts_that_lead_nowhere "contacts-that-lead-nowhere",
    contacts_to_dial "contacts-to-dial",
}

/// The same attack on a vat without any limits must take more than small ones allow, or be
/// told nothing of them: so the checks above can fail.
fn is_found_out(test: &str, name: &str, expected: &str) {
    if !alone(&format!("attacks::{test}")) {
        return;
    }
    let _watchdog = Watchdog::start();
    let siege = Siege::lay_under(Sizes::unlimited(), Sizes::small()).unwrap();
    let error = siege.attack(named(name).unwrap()).map(drop).expect_err("nothing was noticed");
    assert!(error.contains(expected), "{error}");
    siege.lift().unwrap();
}

macro_rules! without_limits {
    ($($test:ident $name:literal $expected:literal,)*) => {
        $(
            #[test]
            fn $test() {
                is_found_out(stringify!($test), $name, $expected);
            }
        )*
    };
}

without_limits! {
    contents_without_a_budget_are_noticed "large-contents" "bytes; Limits::budget_bytes",
    descriptors_without_a_budget_are_noticed "one-word-descriptors" "bytes; Limits::budget_bytes",
    disembargoes_without_a_budget_are_noticed "disembargoes-behind-a-call" "bytes; Limits::budget",
    results_without_a_limit_of_the_backlog_are_noticed "unread-results" "bytes; Limits::backlog",
    calls_without_a_limit_are_noticed "unanswered-calls" "instead of CutOff",
    objects_without_a_limit_of_exports_are_noticed "kept-objects" "instead of Refused",
    workers_without_limits_are_noticed "deaf-peer" "threads;",
    accepts_without_a_limit_are_noticed "accepts-of-nothing" "instead of Refused",
    provisions_without_a_limit_are_noticed "provisions-for-nobody" "instead of Refused",
    a_crowd_without_a_limit_is_noticed "crowd" "threads;",
}

/// The program `attack` makes the catalogue on the other kinds of connections, too.
#[test]
fn the_catalogue_passes_on_plain_connections() {
    let _watchdog = Watchdog::start();
    let run = catalogue::run(Kind::Plain, "", |_, _| ()).unwrap();
    assert_eq!(run.faults(), [""; 0]);
    assert!(run.made() > 300, "only {} cases were made", run.made());
}
