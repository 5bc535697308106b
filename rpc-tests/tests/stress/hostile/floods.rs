//! Too much of everything.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use capnp_threads_core::{Concurrency, ConnConfig, Connection, Limits};

use super::victim::Victim;
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Census, Event, Watchdog, objects, until};

fn limits(adjust: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    adjust(&mut limits);
    limits
}

/// Writes messages on a thread of its own until there are no more, or the vat
/// takes no more. Tells how many were written.
fn pour(
    mut writer: UnixStream,
    messages: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut written = 0;
        let mut buffer = Vec::new();
        for message in messages {
            buffer.extend(message);
            written += 1;
            if buffer.len() > 60_000 {
                if writer.write_all(&buffer).is_err() {
                    return written;
                }
                buffer.clear();
            }
        }
        // The rest, if anybody wants it.
        let _ = writer.write_all(&buffer);
        written
    })
}

/// Waits for the end of a connection whose peer does not read, and watches what is
/// queued for it.
fn ends_within(connection: &Connection, bytes: usize) {
    let mut most = 0;
    until("the connection to end", || {
        most = most.max(connection.snapshot().queued_bytes);
        connection.failure().is_some()
    });
    assert!(most <= bytes, "{most} bytes were queued");
}

/// A million tiny messages, each of which is answered, and no answer is read.
#[test]
fn a_peer_that_does_not_read_its_echoes_is_cut_off() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) =
        victim.attack_with(limits(|limits| limits.backlog_bytes = 4 << 20));
    let unknown = raw::tagged(1000);
    let pouring = pour(peer.writer(), std::iter::repeat_n(unknown, 1_000_000));
    ends_within(&connection, 5 << 20);
    let reason = peer.aborted();
    assert!(reason.contains("backlog_bytes"), "{reason}");
    drop(peer);
    assert!(pouring.join().unwrap() > 1000);
    victim.survive(&connection);
    victim.finish();
}

/// A million calls that are finished at once: the peer owes nothing, and the
/// answers are no less for that.
#[test]
fn a_peer_that_does_not_read_its_returns_is_cut_off() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) =
        victim.attack_with(limits(|limits| limits.backlog_bytes = 4 << 20));
    let messages = (0..1_000_000).map(|question| {
        let bootstrap = raw::frame(|message| {
            message.init_bootstrap().set_question_id(question);
        });
        [bootstrap, raw::finish(question, true)].concat()
    });
    let pouring = pour(peer.writer(), messages);
    ends_within(&connection, 5 << 20);
    assert!(peer.aborted().contains("backlog_bytes"));
    drop(peer);
    pouring.join().unwrap();
    victim.survive(&connection);
    victim.finish();
}

/// The same, by a peer that reads: it may go on for ever.
#[test]
fn a_peer_that_reads_may_go_on() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) =
        victim.attack_with(limits(|limits| limits.backlog_bytes = 1 << 20));
    // In all much more than the limit, but never much at once.
    for _ in 0..200 {
        let pouring = pour(peer.writer(), std::iter::repeat_n(raw::tagged(1000), 100));
        for _ in 0..100 {
            assert_eq!(peer.receive(), Some(Said::Unimplemented));
        }
        assert_eq!(pouring.join().unwrap(), 100);
    }
    assert_eq!(connection.failure(), None);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

#[test]
fn a_peer_with_too_many_calls_is_cut_off() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack_with(limits(|limits| limits.answers = 1000));
    let keeper = peer.bootstrapped(0);
    // Calls that wait for a call back, which never comes.
    let messages = (1..100_000).map(move |question| {
        let caps = [Cap::SenderHosted(1)];
        raw::call(question, &Target::Import(keeper), raw::MORE_STUFF, raw::CALL_FOO, &caps)
    });
    let pouring = pour(peer.writer(), messages);
    let mut most = 0;
    until("the connection to end", || {
        most = most.max(connection.snapshot().answers);
        connection.failure().is_some()
    });
    assert!(most <= 1000, "{most} calls were accepted");
    assert!(peer.aborted().contains("1000 calls are outstanding"));
    drop(peer);
    pouring.join().unwrap();
    victim.survive(&connection);
    victim.finish();
}

/// Finished calls do not count, and their ids are free at once.
#[test]
fn a_peer_that_finishes_its_calls_may_go_on() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack_with(limits(|limits| limits.answers = 10));
    let keeper = peer.bootstrapped(0);
    let count = 5000;
    let messages = (0..count).map(move |_| {
        let call = raw::call(1, &Target::Import(keeper), raw::MORE_STUFF, raw::GET_HANDLE, &[]);
        [call, raw::finish(1, true)].concat()
    });
    let pouring = pour(peer.writer(), messages);
    let mut returns = 0;
    while returns < count {
        returns += usize::from(matches!(peer.receive().unwrap(), Said::Return { .. }));
    }
    pouring.join().unwrap();
    assert_eq!(connection.failure(), None);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// A peer that asks for objects and keeps them gets so many and no more, and can
/// go on when it has released some.
#[test]
fn a_peer_that_keeps_everything_gets_so_much() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack_with(limits(|limits| limits.exports = 100));
    let keeper = peer.bootstrapped(0);
    let mut handles = Vec::new();
    for question in 1..200 {
        peer.call(question, &Target::Import(keeper), raw::GET_HANDLE, &[]);
        match peer.outcome(question) {
            Outcome::Results(caps) => handles.push(caps[0].clone()),
            Outcome::Exception(reason) => {
                assert!(reason.contains("exported"), "{reason}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(handles.len(), 99);
    assert!(connection.snapshot().exports <= 100);
    let Cap::SenderHosted(id) = handles[0] else { panic!() };
    peer.release(id, 1);
    peer.call(1000, &Target::Import(keeper), raw::GET_HANDLE, &[]);
    let Outcome::Results(_) = peer.outcome(1000) else { panic!() };
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// Calls that are finished at once, without end, for an object that is busy with an
/// earlier one: nothing of them stays, and none of them runs.
#[test]
fn calls_that_are_finished_at_once_leave_nothing_with_a_busy_object() {
    const CALLS: usize = 20_000;
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (go, begun, ran) = (Event::new(), Event::new(), Census::new());
    let (hold, first, count) = (go.clone(), begun.clone(), ran.clone());
    let object = objects::any(&victim.vat, Concurrency::Serial, move |call| {
        drop(count.count());
        first.set();
        hold.wait();
        drop(call);
    });
    let (mut peer, connection) = RawPeer::connect(&victim.vat, ConnConfig::new().bootstrap(object));
    let object = peer.bootstrapped(0);
    peer.call(1, &Target::Import(object), 0, &[]);
    begun.wait();
    let before = connection.snapshot().budget_bytes;
    let messages = std::iter::repeat_with(move || {
        let call = raw::call(2, &Target::Import(object), raw::MORE_STUFF, 0, &[]);
        [call, raw::finish(2, true)].concat()
    });
    let pouring = pour(peer.writer(), messages.take(CALLS));
    for _ in 0..CALLS {
        assert_eq!(peer.outcome(2), Outcome::Canceled);
    }
    pouring.join().unwrap();
    assert_eq!(connection.snapshot().budget_bytes, before);
    go.set();
    peer.outcome(1);
    peer.end();
    victim.survive(&connection);
    assert_eq!(ran.made(), 1);
    victim.finish();
}

/// Disembargoes for results that do not come.
#[test]
fn a_peer_whose_disembargoes_wait_without_end_is_cut_off() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack_with(limits(|limits| limits.budget_bytes = 1 << 20));
    let keeper = peer.bootstrapped(0);
    peer.call(1, &Target::Import(keeper), raw::CALL_FOO, &[Cap::SenderHosted(9)]);
    let disembargo = raw::frame(|message| {
        let mut disembargo = message.init_disembargo();
        raw::write_target(disembargo.reborrow().init_target(), &Target::Answer(1, vec![0]));
        disembargo.get_context().set_sender_loopback(7);
    });
    let pouring = pour(peer.writer(), std::iter::repeat_n(disembargo, 1_000_000));
    let mut most = 0;
    until("the connection to end", || {
        most = most.max(connection.snapshot().budget_bytes);
        connection.failure().is_some()
    });
    assert!(most <= 1 << 20, "{most} bytes were held");
    assert!(peer.aborted().contains("budget_bytes"));
    drop(peer);
    pouring.join().unwrap();
    victim.survive(&connection);
    victim.finish();
}

/// A table of capabilities costs more than it takes on the wire.
#[test]
fn a_table_of_more_capabilities_than_there_is_room_for_is_refused() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    for count in [5_000, 200_000] {
        let (mut peer, connection) =
            victim.attack_with(limits(|limits| limits.budget_bytes = 1 << 20));
        let keeper = peer.bootstrapped(0);
        let caps: Vec<Cap> = (0..count).map(Cap::SenderHosted).collect();
        peer.call(1, &Target::Import(keeper), raw::GET_HANDLE, &caps);
        let reason = peer.aborted();
        assert!(reason.contains("budget_bytes"), "{reason}");
        victim.survive(&connection);
    }
    victim.finish();
}

/// One message that names very many capabilities.
#[test]
fn a_table_of_very_many_capabilities_is_taken_and_given_back() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection, keeper) = victim.attack_bootstrapped();
    let caps: Vec<Cap> = (0..50_000).map(Cap::SenderHosted).collect();
    peer.call(1, &Target::Import(keeper), raw::GET_HANDLE, &caps);
    let mut released = 0;
    while released < caps.len() {
        released += match peer.receive().unwrap() {
            Said::Release { count, .. } => count as usize,
            _ => 0,
        };
    }
    // The same one many times is one reference that counts.
    let caps = vec![Cap::SenderHosted(7); 50_000];
    peer.call(2, &Target::Import(keeper), raw::GET_HANDLE, &caps);
    peer.receive_until("one release", |said| {
        (*said == Said::Release { id: 7, count: 50_000 }).then_some(())
    });
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// Calls on the results of calls on the results of calls, without end, on something
/// that fails in the end.
#[test]
fn a_very_long_chain_of_pipelined_calls_fails_as_a_whole() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    for cancelled in [false, true] {
        let (mut peer, connection, keeper) = victim.attack_bootstrapped();
        // The first one waits for us.
        peer.call(1, &Target::Import(keeper), raw::CALL_FOO, &[Cap::SenderHosted(9)]);
        let back = peer.receive_until("the call back", |said| match said {
            Said::Call { question, .. } => Some(*question),
            _ => None,
        });
        let last = 20_000;
        let chain = (2..=last).map(|question| {
            let target = Target::Answer(question - 1, vec![0]);
            raw::call(question, &target, raw::MORE_STUFF, raw::ECHO, &[])
        });
        let pouring = pour(peer.writer(), chain);
        pouring.join().unwrap();
        if cancelled {
            let finishes = (1..=last).map(|question| raw::finish(question, true));
            pour(peer.writer(), finishes).join().unwrap();
        } else {
            peer.exception(back, "on purpose");
        }
        let mut returned = 0;
        while returned < last {
            returned += u32::from(matches!(peer.receive().unwrap(), Said::Return { .. }));
        }
        if cancelled {
            peer.exception(back, "on purpose");
        }
        assert_eq!(connection.failure(), None);
        peer.end();
        victim.survive(&connection);
    }
    victim.finish();
}

/// Promises that resolve to promises, without end, while something waits for the
/// first.
#[test]
fn a_very_long_chain_of_promises_resolves() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection, keeper) = victim.attack_bootstrapped();
    peer.call(1, &Target::Import(keeper), raw::HOLD, &[Cap::SenderPromise(0)]);
    peer.outcome(1);
    let last = 5000;
    let chain = (0..last).map(|id| {
        raw::frame(|message| {
            let mut resolve = message.init_resolve();
            resolve.set_promise_id(id);
            raw::write_cap(resolve.init_cap(), &Cap::SenderPromise(id + 1));
        })
    });
    let pouring = pour(peer.writer(), chain);
    let mut released = 0;
    while released < last {
        released += u32::from(matches!(peer.receive().unwrap(), Said::Release { .. }));
    }
    pouring.join().unwrap();
    peer.resolve(last, &Cap::ReceiverHosted(keeper));
    peer.sync(2);
    // The object holds itself now, by way of the chain, whose last reference goes when it holds
    // something else.
    peer.call(3, &Target::Import(keeper), raw::HOLD, &[Cap::SenderHosted(last + 1)]);
    peer.outcome(3);
    assert_eq!(connection.failure(), None);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// Half a message, and then nothing, on many connections at once, and a call on
/// each that is never answered.
#[test]
fn many_peers_that_do_nothing_are_let_be() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let peers: Vec<(RawPeer, Connection)> = (0..100)
        .map(|_| {
            let (mut peer, connection, keeper) = victim.attack_bootstrapped();
            peer.call(1, &Target::Import(keeper), raw::CALL_FOO, &[Cap::SenderHosted(1)]);
            peer.bytes(&[0, 0, 0]);
            (peer, connection)
        })
        .collect();
    for (peer, connection) in peers {
        assert_eq!(connection.failure(), None);
        drop(peer);
        victim.survive(&connection);
    }
    victim.finish();
}
