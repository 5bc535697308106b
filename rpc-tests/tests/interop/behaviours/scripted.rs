//! Behaviours whose messages must cross in a certain way: a peer over a Unix socket
//! that says what the test wants.

use capnp_threads_core::capnp::any_pointer;
use capnp_threads_core::capnp::traits::ImbueMut;
use capnp_threads_core::hook::{CapTable, Hook};
use capnp_threads_core::untyped::Payload;
use capnp_threads_core::{Client, Concurrency, ConnConfig, Error, FromClient, promise_client};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{Keeper, any, plain};
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Census, LONG, Watchdog, until, vat};

/// What the peer's bootstrap object is called by in the peer's table.
const THEIRS: u32 = 1;

/// Makes content the capability with index 0.
fn first_capability(mut content: any_pointer::Builder<'_>) {
    let mut table = CapTable::new();
    let mut imbued = content.reborrow();
    imbued.imbue_mut(&mut table);
    let stand_in = Client::broken(Error::failed("only its index matters"));
    imbued.set_as_capability(Hook::boxed(stand_in));
}

/// A vat with a connection on which the peer has been asked for its bootstrap object.
fn asked(
    name: &str,
) -> (capnp_threads_core::Vat, RawPeer, capnp_threads_core::Connection, test_more_stuff::Client) {
    let vat = vat(name);
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new());
    let theirs: test_more_stuff::Client = connection.bootstrap();
    let question = peer.receive_until("a bootstrap", |said| match said {
        Said::Bootstrap(question) => Some(*question),
        _ => None,
    });
    peer.send(|message| {
        let mut ret = message.init_return();
        ret.set_answer_id(question);
        ret.set_release_param_caps(false);
        let mut payload = ret.init_results();
        raw::write_cap(payload.reborrow().init_cap_table(1).get(0), &Cap::SenderHosted(THEIRS));
        first_capability(payload.get_content());
    });
    theirs.as_client().resolve().unwrap();
    (vat, peer, connection, theirs)
}

fn called(peer: &mut RawPeer) -> (u32, Target, Vec<Cap>) {
    peer.receive_until("a call", |said| match said {
        Said::Call { question, target, caps, .. } => {
            Some((*question, target.clone(), caps.clone()))
        }
        _ => None,
    })
}

/// Ours, on its way to a peer whose results are on their way to us.
#[test]
fn a_finish_that_crosses_the_return_leaks_nothing_r() {
    let _watchdog = Watchdog::start();
    let (vat, mut peer, connection, theirs) = asked("bsa");
    for _ in 0..20 {
        let call = theirs.get_handle_request().send();
        let (question, ..) = called(&mut peer);
        drop(call);
        let release = peer.receive_until("a finish", |said| match said {
            Said::Finish { question: finished, release } if *finished == question => Some(*release),
            _ => None,
        });
        // What the results name is given back by the Finish.
        assert!(release);
        peer.results(question, &[Cap::SenderHosted(7)]);
        // Not before the Return is the id free.
        let next = theirs.get_handle_request().send();
        let (question, ..) = called(&mut peer);
        peer.exception(question, "enough");
        next.wait().unwrap_err();
    }
    drop(theirs);
    until("everything to be given back", || connection.snapshot().is_empty());
    connection.check().unwrap();
    connection.close();
    let said = peer.drain();
    let releases: Vec<_> =
        said.iter().filter(|said| matches!(said, Said::Release { .. })).collect();
    assert_eq!(releases, [&Said::Release { id: THEIRS, count: 1 }], "{said:?}");
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

/// The peer's, on its way to us while our results are on their way.
#[test]
fn a_finish_of_the_peer_that_crosses_the_return_leaks_nothing_r() {
    let _watchdog = Watchdog::start();
    let (vat, census) = (vat("bsb"), Census::new());
    let keeper: test_more_stuff::Client =
        vat.export_with(Keeper::with_handles(&census), Concurrency::Concurrent);
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new().bootstrap(keeper));
    let target = Target::Import(peer.bootstrapped(0));
    for question in 1..=50 {
        peer.call(question, &target, raw::GET_HANDLE, &[]);
        peer.finish(question, true);
        // Whichever came first, there is one Return, and then nothing.
        match peer.outcome(question) {
            Outcome::Canceled => {}
            Outcome::Results(caps) => assert_eq!(caps.len(), 1),
            other => panic!("{other:?}"),
        }
    }
    peer.sync(51);
    until("the handles to go", || census.alive() == 0);
    until("one export to be left", || {
        let left = connection.snapshot();
        (left.exports, left.answers) == (1, 0)
    });
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn the_same_promise_is_exported_twice_under_one_id_r() {
    let _watchdog = Watchdog::start();
    let (vat, mut peer, connection, theirs) = asked("bsc");
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut hold = theirs.hold_request();
        hold.get().set_cap(promise.clone());
        let call = hold.send();
        let (question, _, caps) = called(&mut peer);
        let [Cap::SenderPromise(id)] = caps[..] else { panic!("{caps:?}") };
        ids.push(id);
        peer.results(question, &[]);
        call.wait().unwrap();
    }
    assert_eq!(ids[0], ids[1]);
    let census = Census::new();
    fulfiller.fulfill(plain(&vat, &census));
    let resolved = peer.receive_until("a resolve", |said| match said {
        Said::Resolve { promise, to: Ok(Cap::SenderHosted(to)) } => Some((*promise, *to)),
        _ => None,
    });
    assert_eq!(resolved.0, ids[0]);
    // It was counted twice, and what it resolved to once.
    peer.release(ids[0], 2);
    peer.release(resolved.1, 1);
    drop((promise, theirs));
    until("everything to be given back", || connection.snapshot().is_empty());
    until("our object to go", || census.alive() == 0);
    connection.close();
    let again = peer.drain().into_iter().find(|said| matches!(said, Said::Resolve { .. }));
    assert_eq!(again, None, "one promise is resolved once");
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

/// The peer calls a method that tail-calls an object of the peer's, and finishes the
/// call at once: before or after the tail call left, one answer is what it gets, and
/// what left is cancelled.
#[test]
fn a_tail_call_races_with_its_cancellation_r() {
    let _watchdog = Watchdog::start();
    let vat = vat("bsd");
    let object = any(&vat, Concurrency::Concurrent, |call| {
        let target = call.params().caps()[0].clone();
        let params = Payload::empty().clone();
        call.tail_call(&target, raw::MORE_STUFF, raw::NEVER_RETURN, params);
    });
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new().bootstrap(object));
    let target = Target::Import(peer.bootstrapped(0));
    for round in 0..100 {
        peer.call(1, &target, raw::ECHO, &[Cap::SenderHosted(5)]);
        let mut tails = Vec::new();
        let mut outcome = None;
        if round % 2 == 0 {
            // It has left for certain.
            let (tail, to, _) = called(&mut peer);
            assert_eq!(to, Target::Import(5));
            tails.push(tail);
            outcome = Some(peer.outcome(1));
            assert_eq!(outcome, Some(Outcome::TakeFrom(tail)));
        }
        peer.finish(1, true);
        peer.bootstrap(2);
        // Up to the answer to what was asked behind the Finish.
        let mut finished = Vec::new();
        let mut note = |said: &Said| match said {
            Said::Call { question, .. } => tails.push(*question),
            Said::Finish { question, .. } => finished.push(*question),
            Said::Return { answer: 1, outcome: one } => {
                assert_eq!(outcome.replace(one.clone()), None, "answered twice");
            }
            _ => {}
        };
        peer.receive_until("the end of a round", |said| {
            note(said);
            matches!(said, Said::Return { answer: 2, .. }).then_some(())
        });
        peer.finish(2, true);
        while tails.len() > finished.len() {
            finished.push(peer.receive_until("the tail call to be cancelled", |said| match said {
                Said::Finish { question, .. } => Some(*question),
                _ => None,
            }));
        }
        assert_eq!(tails, finished);
        for tail in tails {
            let taken = outcome == Some(Outcome::TakeFrom(tail));
            peer.send(|message| {
                let mut ret = message.init_return();
                ret.set_answer_id(tail);
                if taken { ret.set_results_sent_elsewhere(()) } else { ret.set_canceled(()) }
            });
        }
        assert!(outcome.is_some());
        until("the round to leave nothing", || {
            let left = connection.snapshot();
            (left.questions, left.answers, left.imports, left.exports) == (0, 0, 0, 1)
        });
    }
    connection.check().unwrap();
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn closing_an_idle_connection_sends_no_abort_r() {
    let _watchdog = Watchdog::start();
    let vat = vat("bse");
    let keeper = Keeper::client(&vat);
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new().bootstrap(keeper));
    let id = peer.bootstrapped(0);
    peer.release(id, 1);
    peer.sync(1);
    connection.close();
    assert_eq!(peer.drain(), []);
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}
