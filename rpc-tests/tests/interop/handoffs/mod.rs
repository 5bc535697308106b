//! Three vats, each of which may be of this library or of the branch v2 of the one in C++: one
//! gives the second what the third hosts.

use std::path::Path;
use std::time::Duration;

use capnp_threads_core::{ErrorKind, Promise, Result};
use rpc_schema::party_capnp::party;
use rpc_tests::peers::{Serving, cxx_v2};
use rpc_tests::support::{LONG, Watchdog, until};
use tempfile::TempDir;

mod mesh;
mod vat;

use self::vat::Here;

/// What a vat is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Here,
    InCxx,
}

/// The vats of a test, in a folder of their own, and one more that tells them what to do.
struct Play {
    director: Here,
    here: Vec<(&'static str, Here)>,
    in_cxx: Vec<(&'static str, Serving)>,
    folder: TempDir,
}

/// Tags in the union `Message`.
mod tag {
    pub(super) const CALL: u16 = 2;
    pub(super) const RESOLVE: u16 = 5;
    pub(super) const PROVIDE: u16 = 10;
    /// A Finish of a Provide.
    pub(super) const PROVIDED: u16 = 0x8004;
    pub(super) const ACCEPT: u16 = 11;
    pub(super) const DISEMBARGO: u16 = 13;
    /// Holds everything.
    pub(super) const NONE: u16 = 0xffff;
}

impl Play {
    fn start(cast: &[(&'static str, Made)], patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: &Path = folder.path();
        let director = Here::start(path, "director", patience);
        let (mut here, mut in_cxx) = (Vec::new(), Vec::new());
        for (name, made) in cast {
            match made {
                Made::Here => here.push((*name, Here::start(path, name, patience))),
                Made::InCxx => {
                    let mut command =
                        cxx_v2().unwrap().unwrap_or_else(|missing| panic!("{missing}"));
                    command.arg(path).arg(name);
                    in_cxx.push((*name, Serving::start(command).unwrap()));
                }
            }
        }
        Play { director, here, in_cxx, folder }
    }

    fn made(&self, name: &str) -> Made {
        let is_here = self.here.iter().any(|(other, _)| *other == name);
        if is_here { Made::Here } else { Made::InCxx }
    }

    fn tell(&self, name: &str) -> Told {
        Told(self.director.reach(name))
    }

    /// Ends a vat, without a word to the others if it is a process.
    fn end(&mut self, name: &str) {
        self.here.retain(|(other, _)| *other != name);
        self.in_cxx.retain(|(other, _)| *other != name);
        let _ = std::fs::remove_file(self.folder.path().join(name));
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        for (name, process) in &mut self.in_cxx {
            // A panic of a failed assertion is enough.
            if !std::thread::panicking() {
                let is_running = process.is_running().unwrap();
                assert!(is_running, "{name} has crashed: {}", process.stderr());
            }
            eprint!("{}", process.stderr());
        }
    }
}

/// One vat, as the director knows it.
struct Told(party::Client);

impl Told {
    fn obtain(&self, vat: &str, settled: bool) {
        let mut request = self.0.obtain_request();
        request.get().set_vat(vat);
        request.get().set_settled(settled);
        request.call().unwrap();
    }

    fn promise(&self) {
        self.0.promise_request().call().unwrap();
    }

    fn resolve(&self, vat: &str) {
        let mut request = self.0.resolve_request();
        request.get().set_vat(vat);
        request.call().unwrap();
    }

    fn give(&self, vat: &str) {
        let mut request = self.0.give_request();
        request.get().set_vat(vat);
        request.call().unwrap();
    }

    fn send(&self, times: u32) -> Promise<party::call_results::Owned> {
        let mut request = self.0.call_request();
        request.get().set_times(times);
        request.send()
    }

    fn call(&self, times: u32) -> Result<Vec<u32>> {
        let results = self.send(times).wait()?;
        Ok(results.get()?.get_numbers()?.iter().collect())
    }

    fn ask(&self, vat: &str, before: u32, after: u32) -> Promise<party::ask_results::Owned> {
        let mut request = self.0.ask_request();
        request.get().set_vat(vat);
        request.get().set_before(before);
        request.get().set_after(after);
        request.send()
    }

    fn forget(&self) {
        self.0.forget_request().call().unwrap();
    }

    fn hold(&self, vat: &str, behind: u16) {
        let mut request = self.0.hold_request();
        request.get().set_vat(vat);
        request.get().set_behind(behind);
        request.call().unwrap();
    }

    fn release(&self, vat: &str) {
        let mut request = self.0.release_request();
        request.get().set_vat(vat);
        request.call().unwrap();
    }

    fn came(&self, vat: &str, tag: u16) -> u32 {
        let mut request = self.0.came_request();
        request.get().set_vat(vat);
        request.get().set_message(tag);
        request.call().unwrap().get().unwrap().get_count()
    }

    fn forward(&self, on: bool) {
        let mut request = self.0.forward_request();
        request.get().set_on(on);
        request.call().unwrap();
    }

    fn is_connected(&self, vat: &str) -> bool {
        let mut request = self.0.connected_request();
        request.get().set_vat(vat);
        request.call().unwrap().get().unwrap().get_connected()
    }

    fn count(&self) -> u32 {
        self.0.count_request().call().unwrap().get().unwrap().get_count()
    }
}

/// Runs a test with vats of all kinds in each role.
fn with_each_cast<const VATS: usize>(names: [&'static str; VATS], test: impl Fn(&mut Play)) {
    with_each_cast_that_waits(LONG, names, test);
}

/// The same with vats that wait so long for a host that does not answer.
fn with_each_cast_that_waits<const VATS: usize>(
    patience: Duration,
    names: [&'static str; VATS],
    test: impl Fn(&mut Play),
) {
    // Building takes longer than a test may.
    let kinds = if cxx_v2().is_some() { 1 << VATS } else { 1 };
    let _watchdog = Watchdog::start();
    for kind in 0..kinds {
        let mut index = 0;
        let cast = names.map(|name| {
            let made = if kind >> index & 1 == 0 { Made::Here } else { Made::InCxx };
            index += 1;
            (name, made)
        });
        eprintln!("{cast:?}");
        test(&mut Play::start(&cast, patience));
    }
}

const THREE: [&str; 3] = ["alice", "bob", "carol"];
const FOUR: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Alice has what Bob hosts and gives it to Carol.
fn give(play: &Play) {
    play.tell("alice").obtain("bob", true);
    play.tell("alice").give("carol");
}

#[test]
fn what_was_given_outlives_the_giver() {
    with_each_cast(THREE, |play| {
        give(play);
        let (bob, carol) = (play.tell("bob"), play.tell("carol"));
        assert_eq!(carol.call(3).unwrap(), [0, 1, 2]);
        assert_eq!(bob.came("carol", tag::ACCEPT), 1);
        // Alice has nothing to do with it any more.
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        play.end("alice");
        assert_eq!(carol.call(2).unwrap(), [3, 4]);
    });
}

/// Nothing is left of what was never used.
#[test]
fn what_the_recipient_does_not_want_is_not_provided_any_more() {
    with_each_cast(THREE, |play| {
        give(play);
        let bob = play.tell("bob");
        until("the provision", || bob.came("alice", tag::PROVIDE) == 1);
        play.tell("carol").forget();
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        assert_eq!(bob.came("carol", tag::ACCEPT), 0);
        // The giver still has it.
        assert_eq!(play.tell("alice").call(2).unwrap(), [0, 1]);
    });
}

#[test]
fn a_recipient_that_is_gone_ends_the_provision() {
    with_each_cast(THREE, |play| {
        give(play);
        let bob = play.tell("bob");
        until("the provision", || bob.came("alice", tag::PROVIDE) == 1);
        play.end("carol");
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        assert_eq!(play.tell("alice").call(2).unwrap(), [0, 1]);
    });
}

/// The host has not seen the Provide when the recipient comes.
#[test]
fn what_was_not_used_is_lost_with_the_giver() {
    // The host in C++ lets Carol wait for a provision that will not come.
    with_each_cast_that_waits(Duration::from_millis(10), THREE, |play| {
        let (alice, bob, carol) = (play.tell("alice"), play.tell("bob"), play.tell("carol"));
        alice.obtain("bob", true);
        bob.hold("alice", tag::NONE);
        alice.give("carol");
        play.end("alice");
        until("the end of Alice", || !carol.is_connected("alice"));
        let error = carol.call(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert_eq!(bob.count(), 0);
    });
}

#[test]
fn a_host_that_is_gone_ends_the_calls() {
    with_each_cast(THREE, |play| {
        give(play);
        play.end("bob");
        let error = play.tell("carol").call(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    });
}

/// What the host has not answered yet.
#[test]
fn what_is_not_known_yet_may_be_given() {
    with_each_cast(THREE, |play| {
        let (alice, bob, carol) = (play.tell("alice"), play.tell("bob"), play.tell("carol"));
        alice.obtain("bob", false);
        alice.give("carol");
        assert_eq!(carol.call(3).unwrap(), [0, 1, 2]);
        // Then it is known, and later calls don't take the detour.
        until("a call without a detour", || {
            carol.call(1).unwrap();
            bob.came("carol", tag::CALL) > 0
        });
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        play.end("alice");
        let called = bob.count();
        assert_eq!(carol.call(2).unwrap(), [called, called + 1]);
    });
}

/// The recipient gives it back unused.
#[test]
fn what_comes_back_is_what_was_given() {
    with_each_cast(THREE, |play| {
        give(play);
        let (alice, bob, carol) = (play.tell("alice"), play.tell("bob"), play.tell("carol"));
        carol.give("alice");
        assert_eq!(alice.call(3).unwrap(), [0, 1, 2]);
        assert_eq!(bob.came("carol", tag::ACCEPT), 0);
    });
}

/// The recipient gives it to the host.
#[test]
fn a_host_comes_to_itself() {
    with_each_cast(THREE, |play| {
        give(play);
        let (bob, carol) = (play.tell("bob"), play.tell("carol"));
        carol.give("bob");
        assert_eq!(bob.call(3).unwrap(), [0, 1, 2]);
        carol.forget();
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        // The one call was that of the gift.
        assert_eq!((bob.came("carol", tag::ACCEPT), bob.came("carol", tag::CALL)), (0, 1));
        play.end("alice");
        play.end("carol");
        assert_eq!(bob.call(2).unwrap(), [3, 4]);
    });
}

/// The recipient passes the contact on, and has nothing to do with the host.
#[test]
fn what_is_passed_on_is_fetched_by_the_last() {
    with_each_cast(FOUR, |play| {
        play.tell("alice").obtain("bob", true);
        play.tell("alice").give("dave");
        play.tell("dave").give("carol");
        let (bob, carol) = (play.tell("bob"), play.tell("carol"));
        assert_eq!(carol.call(3).unwrap(), [0, 1, 2]);
        assert_eq!((bob.came("carol", tag::ACCEPT), bob.came("dave", tag::ACCEPT)), (1, 0));
        play.tell("dave").forget();
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        play.end("dave");
        play.end("alice");
        assert_eq!(carol.call(2).unwrap(), [3, 4]);
    });
}

/// Dave, who stands between, goes to the host himself, and provides at once what he waits for.
#[test]
fn what_is_not_passed_on_is_fetched_and_given() {
    with_each_cast(FOUR, |play| {
        play.tell("dave").forward(false);
        play.tell("alice").obtain("bob", true);
        play.tell("alice").give("dave");
        play.tell("dave").give("carol");
        let (bob, carol) = (play.tell("bob"), play.tell("carol"));
        assert_eq!(carol.call(3).unwrap(), [0, 1, 2]);
        // It is hers when nobody provides it any more.
        until("a call without a detour", || {
            carol.call(1).unwrap();
            bob.came("carol", tag::CALL) > 0
        });
        assert_eq!((bob.came("carol", tag::ACCEPT), bob.came("dave", tag::ACCEPT)), (1, 1));
        for giver in ["alice", "dave"] {
            until("the end of the provision", || bob.came(giver, tag::PROVIDED) == 1);
        }
        play.end("alice");
        play.end("dave");
        let called = bob.count();
        assert_eq!(carol.call(2).unwrap(), [called, called + 1]);
    });
}

/// A promise of Alice's that Dave has given to Carol. Whether Dave passes the contact on or goes
/// to the host himself, nothing overtakes what took the long way.
#[test]
fn calls_over_two_vats_stay_in_order() {
    with_each_cast(FOUR, |play| {
        let (alice, bob, carol) = (play.tell("alice"), play.tell("bob"), play.tell("carol"));
        alice.promise();
        alice.give("dave");
        play.tell("dave").give("carol");
        let early = carol.send(3);
        // Dave in C++ hands a promise of another vat off, too: Carol then calls Alice.
        until("the calls on the promise", || {
            ["carol", "dave"].map(|caller| alice.came(caller, tag::CALL)).iter().sum::<u32>() == 3
        });
        bob.hold("alice", tag::PROVIDE);
        alice.resolve("bob");
        until("the Provide", || bob.came("alice", tag::PROVIDE) == 1);
        let late = carol.send(3);
        bob.release("alice");
        assert_eq!(numbers_called(&early), [0, 1, 2]);
        assert_eq!(numbers_called(&late), [3, 4, 5]);
        let mut next = 6;
        until("a call without a detour", || {
            assert_eq!(carol.call(2).unwrap(), [next, next + 1]);
            next += 2;
            bob.came("carol", tag::CALL) > 0
        });
    });
}

fn numbers_asked(asked: &Promise<party::ask_results::Owned>) -> Vec<u32> {
    asked.wait().unwrap().get().unwrap().get_numbers().unwrap().iter().collect()
}

fn numbers_called(called: &Promise<party::call_results::Owned>) -> Vec<u32> {
    called.wait().unwrap().get().unwrap().get_numbers().unwrap().iter().collect()
}

/// The calls that took the detour come first, though Bob does not read them until what takes
/// the direct way has come.
#[test]
fn calls_on_an_answer_that_is_with_a_third_vat_stay_in_order() {
    with_each_cast(THREE, |play| {
        let (alice, bob, carol) = (play.tell("alice"), play.tell("bob"), play.tell("carol"));
        alice.obtain("bob", true);
        bob.hold("alice", tag::PROVIDE);
        carol.hold("alice", tag::NONE);
        let asked = carol.ask("alice", 3, 3);
        until("the question and the calls", || alice.came("carol", tag::CALL) == 4);
        carol.release("alice");
        // A vat of this library waits for the answer to its Accept.
        let direct = if play.made("carol") == Made::InCxx { 3 } else { 0 };
        until("what Carol sends", || {
            (bob.came("carol", tag::ACCEPT), bob.came("carol", tag::CALL)) == (1, direct)
        });
        assert!(bob.count() <= 3);
        bob.release("alice");
        assert_eq!(numbers_asked(&asked), [0, 1, 2, 3, 4, 5]);
        assert_eq!(bob.came("alice", tag::DISEMBARGO), 1);
        assert_eq!(carol.call(2).unwrap(), [6, 7]);
    });
}

/// Alice's promise was called before she resolves it.
#[test]
fn calls_on_a_promise_that_becomes_a_third_vats_stay_in_order() {
    with_each_cast(THREE, |play| {
        let (alice, bob, carol) = (play.tell("alice"), play.tell("bob"), play.tell("carol"));
        alice.promise();
        alice.give("carol");
        let early = carol.send(3);
        until("the calls on the promise", || alice.came("carol", tag::CALL) == 3);
        bob.hold("alice", tag::PROVIDE);
        alice.resolve("bob");
        until("what the promise is", || carol.came("alice", tag::RESOLVE) == 1);
        // Carol has understood it when she answers what Alice asks afterwards.
        alice.obtain("carol", true);
        let late = carol.send(3);
        until("the Accept", || bob.came("carol", tag::ACCEPT) == 1);
        assert!(bob.count() <= 3);
        bob.release("alice");
        assert_eq!(numbers_called(&early), [0, 1, 2]);
        assert_eq!(numbers_called(&late), [3, 4, 5]);
        assert_eq!(bob.came("alice", tag::DISEMBARGO), 1);
        until("the end of the provision", || bob.came("alice", tag::PROVIDED) == 1);
        play.end("alice");
        assert_eq!(carol.call(1).unwrap(), [6]);
    });
}
