//! Peers that say what they will not do, and do it.

use capnp_threads_core::Limits;
use rpc_schema::rpc_capnp::call;
use rpc_schema::test_capnp::test_pipeline;

use super::victim::Victim;
use rpc_tests::support::raw::{self, Cap, Loopback, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Watchdog, until};

/// A call of `TestMoreStuff` with hints.
fn hinted(
    peer: &mut RawPeer,
    question: u32,
    target: &Target,
    method: u16,
    caps: &[Cap],
    hint: impl FnOnce(call::Builder<'_>),
) {
    peer.send(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(raw::MORE_STUFF);
        call.set_method_id(method);
        raw::write_target(call.reborrow().init_target(), target);
        raw::write_payload(call.reborrow().init_params(), caps);
        hint(call);
    });
}

fn field(question: u32) -> Target {
    Target::Answer(question, vec![0])
}

fn exception(peer: &mut RawPeer, question: u32) -> String {
    match peer.outcome(question) {
        Outcome::Exception(reason) => reason,
        other => panic!("question {question} was answered with {other:?}"),
    }
}

#[test]
fn a_call_that_is_pipelined_against_its_callers_word_fails() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection, keeper) = victim.attack_bootstrapped();
    let keeper = Target::Import(keeper);
    let echo = [Cap::SenderHosted(5)];
    hinted(&mut peer, 1, &keeper, raw::ECHO, &echo, |mut call| {
        call.set_no_promise_pipelining(true);
    });
    // Before the results are there, or after that.
    for question in [2, 3] {
        peer.call(question, &field(1), raw::GET_HANDLE, &[]);
        assert!(exception(&mut peer, question).contains("noPromisePipelining"));
        peer.sync(20 + question);
    }
    // As a parameter it fails whoever calls it.
    peer.call(4, &keeper, raw::CALL_FOO, &[Cap::ReceiverAnswer(1, vec![0])]);
    assert!(exception(&mut peer, 4).contains("noPromisePipelining"));
    for question in 1..=4 {
        peer.finish(question, true);
    }
    peer.sync(5);
    assert_eq!(connection.failure(), None);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

#[test]
fn a_disembargo_of_what_was_not_to_be_pipelined_ends_the_connection() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection, keeper) = victim.attack_bootstrapped();
    let echo = [Cap::SenderHosted(5)];
    hinted(&mut peer, 1, &Target::Import(keeper), raw::ECHO, &echo, |mut call| {
        call.set_no_promise_pipelining(true);
    });
    peer.disembargo(&field(1), Loopback::Sender(3));
    assert!(peer.aborted().contains("noPromisePipelining"));
    victim.survive(&connection);
    victim.finish();
}

/// Neither is a Return sent, nor does anything depend on one; and hints that make no
/// sense are none.
#[test]
fn calls_for_the_pipeline_only_get_no_return_whatever_becomes_of_them() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection, keeper) = victim.attack_bootstrapped();
    let keeper = Target::Import(keeper);
    let only = |mut call: call::Builder<'_>| call.set_only_promise_pipeline(true);
    hinted(&mut peer, 1, &keeper, raw::GET_HANDLE, &[], only);
    hinted(&mut peer, 2, &keeper, 999, &[], only);
    hinted(&mut peer, 3, &Target::Answer(77, vec![]), raw::ECHO, &[], only);
    hinted(&mut peer, 4, &field(1), raw::ECHO, &[], only);
    for question in [2, 3, 4] {
        peer.call(10 + question, &field(question), raw::GET_HANDLE, &[]);
    }
    // They fail in any order.
    let mut failed = 0;
    peer.receive_until("three failures", |said| {
        let failure = Outcome::Exception(String::new());
        if let Said::Return { answer: 12..=14, outcome } = said {
            assert_eq!(std::mem::discriminant(outcome), std::mem::discriminant(&failure));
            failed += 1;
        }
        (failed == 3).then_some(())
    });
    // Twice the same id, finished in between, and finished twice.
    for _ in 0..2 {
        peer.finish(1, true);
    }
    hinted(&mut peer, 1, &keeper, raw::GET_HANDLE, &[], only);
    // Both, and together with results that stay: ordinary calls.
    hinted(&mut peer, 5, &keeper, raw::GET_HANDLE, &[], |mut call| {
        call.set_only_promise_pipeline(true);
        call.set_no_promise_pipelining(true);
    });
    assert!(matches!(peer.outcome(5), Outcome::Results(_)));
    hinted(&mut peer, 6, &keeper, raw::GET_HANDLE, &[], |mut call| {
        call.set_only_promise_pipeline(true);
        call.get_send_results_to().set_yourself(());
    });
    assert_eq!(peer.outcome(6), Outcome::SentElsewhere);
    peer.finish(1, false);
    peer.end();
    let returned: Vec<_> = peer
        .drain()
        .into_iter()
        .filter(|said| matches!(said, Said::Return { answer: 1..=4, .. }))
        .collect();
    assert_eq!(returned, []);
    victim.survive(&connection);
    victim.finish();
}

#[test]
fn pipelines_that_are_never_finished_are_limited_as_other_calls() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let mut limits = Limits::default();
    limits.answers = 100;
    let (mut peer, connection) = victim.attack_with(limits);
    let keeper = Target::Import(peer.bootstrapped(0));
    for question in 1..=101 {
        hinted(&mut peer, question, &keeper, raw::GET_HANDLE, &[], |mut call| {
            call.set_only_promise_pipeline(true);
        });
    }
    assert!(peer.aborted().contains("100 calls are outstanding"));
    victim.survive(&connection);
    victim.finish();
}

/// A peer that returns what nobody wants, again and again; and one that returns what
/// nobody has asked.
#[test]
fn returns_that_nobody_wants_are_harmless() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack();
    // It need not be known what it is.
    let desk: test_pipeline::Client = connection.bootstrap();
    let pipeline = desk.get_cap_pipeline_only_request().send_pipeline_only();
    let question = peer.receive_until("a call", |said| match said {
        Said::Call { question, .. } => Some(*question),
        _ => None,
    });
    assert!(question >= 1 << 31);
    for _ in 0..3 {
        peer.results(question, &[Cap::SenderHosted(41), Cap::ReceiverHosted(99)]);
        peer.exception(question, "in vain");
        peer.send(|message| {
            let mut ret = message.init_return();
            ret.set_answer_id(question);
            ret.set_canceled(());
        });
    }
    peer.sync(7);
    drop(pipeline);
    peer.receive_until("a Finish", |said| match said {
        Said::Finish { question: finished, release } if *finished == question => {
            assert!(release, "it gives up whatever was returned");
            Some(())
        }
        _ => None,
    });
    peer.results(question, &[]);
    peer.sync(8);
    until("the question to be gone", || connection.snapshot().questions == 1);
    assert_eq!(connection.failure(), None);
    peer.results(question + 1, &[]);
    assert!(peer.aborted().contains("was not asked"));
    drop(desk);
    victim.survive(&connection);
    victim.finish();
}
