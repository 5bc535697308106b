//! Messages that are well-formed and wrong.

use std::sync::Mutex;

use capnp_threads_core::{Concurrency, ConnConfig, FromClient};
use rpc_schema::rpc_capnp::message;
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use super::victim::Victim;
use rpc_tests::support::objects::{self, foo_request};
use rpc_tests::support::raw::{self, Cap, Loopback, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Census, Event, LONG, Watchdog, until};

/// What an attacker does, with the id of the bootstrap object, and what it is told
/// in the Abort that follows.
type Attack = (&'static str, fn(&mut RawPeer, u32), &'static str);

fn target(id: u32) -> Target {
    Target::Import(id)
}

fn send_return(
    peer: &mut RawPeer,
    build: impl FnOnce(rpc_schema::rpc_capnp::return_::Builder<'_>),
) {
    peer.send(|message| build(message.init_return()));
}

/// Has the vat call us, as its question 0, and waits for it.
fn be_called(peer: &mut RawPeer, keeper: u32) {
    peer.call(100, &target(keeper), raw::CALL_FOO, &[Cap::SenderHosted(40)]);
    let question = peer.receive_until("a call", |said| match said {
        Said::Call { question, .. } => Some(*question),
        _ => None,
    });
    assert_eq!(question, 0);
}

const FATAL: &[Attack] = &[
    ("a call to an unknown export", |peer, _| peer.call(1, &target(77), 0, &[]), "export 77"),
    (
        "the same question twice",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::NEVER_RETURN, &[Cap::SenderHosted(1)]);
            peer.call(2, &target(keeper), raw::ECHO, &[Cap::SenderHosted(1)]);
            peer.call(2, &target(keeper), raw::ECHO, &[Cap::SenderHosted(1)]);
        },
        "question 2 is asked while it is outstanding",
    ),
    (
        "a bootstrap with the id of a question",
        |peer, keeper| {
            peer.call(2, &target(keeper), raw::ECHO, &[Cap::SenderHosted(1)]);
            peer.bootstrap(2);
        },
        "question 2",
    ),
    (
        "a return for an unknown question",
        |peer, _| peer.results(9, &[]),
        "question 9, which was not asked",
    ),
    (
        "a second return",
        |peer, keeper| {
            be_called(peer, keeper);
            peer.results(0, &[]);
            peer.results(0, &[]);
        },
        "question 0",
    ),
    (
        "a cancellation that was not asked for",
        |peer, keeper| {
            be_called(peer, keeper);
            send_return(peer, |mut ret| {
                ret.set_answer_id(0);
                ret.set_canceled(());
            });
        },
        "canceled",
    ),
    (
        "results that were sent elsewhere for no reason",
        |peer, keeper| {
            be_called(peer, keeper);
            send_return(peer, |mut ret| {
                ret.set_answer_id(0);
                ret.set_results_sent_elsewhere(());
            });
        },
        "elsewhere",
    ),
    (
        "results of a question that nobody asked",
        |peer, keeper| {
            be_called(peer, keeper);
            send_return(peer, |mut ret| {
                ret.set_answer_id(0);
                ret.set_take_from_other_question(55);
            });
        },
        "takeFromOtherQuestion",
    ),
    (
        "results of a question whose results go to the caller",
        |peer, keeper| {
            be_called(peer, keeper);
            send_return(peer, |mut ret| {
                ret.set_answer_id(0);
                ret.set_take_from_other_question(100);
            });
        },
        "takeFromOtherQuestion",
    ),
    (
        "a return of level 3",
        |peer, keeper| {
            be_called(peer, keeper);
            send_return(peer, |mut ret| {
                ret.set_answer_id(0);
                ret.init_await_from_third_party();
            });
        },
        "level 3",
    ),
    (
        "parameters given back that were not there",
        |peer, keeper| {
            // The question's parameters held none, and the export's count is one.
            be_called(peer, keeper);
            peer.release(keeper, 1);
            peer.release(keeper, 1);
        },
        "Release of export",
    ),
    ("an excess release", |peer, keeper| peer.release(keeper, 2), "more often"),
    ("the release of nothing", |peer, _| peer.release(31, 1), "export 31"),
    (
        "a release of what a finish released",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::GET_HANDLE, &[]);
            let Outcome::Results(caps) = peer.outcome(1) else { panic!() };
            let [Cap::SenderHosted(handle)] = caps[..] else { panic!("{caps:?}") };
            peer.finish(1, true);
            peer.release(handle, 1);
        },
        "Release of export",
    ),
    (
        "a second resolve",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderPromise(5)]);
            peer.outcome(1);
            peer.resolve(5, &Cap::SenderPromise(6));
            peer.resolve(5, &Cap::SenderPromise(6));
            // Whatever was made of it, this is one resolve too many.
            peer.resolve(6, &Cap::SenderHosted(8));
            peer.resolve(6, &Cap::None);
        },
        "Resolve",
    ),
    (
        "a resolve of what is no promise",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderHosted(5)]);
            peer.outcome(1);
            peer.resolve(5, &Cap::SenderHosted(6));
        },
        "no promise",
    ),
    (
        "a resolve to none",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderPromise(5)]);
            peer.outcome(1);
            peer.resolve(5, &Cap::None);
        },
        "none",
    ),
    (
        "a capability that was a promise before",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderPromise(5)]);
            peer.outcome(1);
            peer.call(2, &target(keeper), raw::HOLD, &[Cap::SenderHosted(5)]);
        },
        "as a promise",
    ),
    (
        "a promise that was a capability before",
        |peer, keeper| {
            peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderHosted(5)]);
            peer.outcome(1);
            peer.call(2, &target(keeper), raw::HOLD, &[Cap::SenderPromise(5)]);
        },
        "senderHosted",
    ),
    (
        "a disembargo of an unknown export",
        |peer, _| peer.disembargo(&target(66), Loopback::Sender(0)),
        "export 66",
    ),
    (
        "a disembargo of an unknown answer",
        |peer, _| peer.disembargo(&Target::Answer(66, vec![0]), Loopback::Sender(0)),
        "question 66",
    ),
    (
        "a disembargo of what does not lead back",
        |peer, keeper| peer.disembargo(&target(keeper), Loopback::Sender(4)),
        "Disembargo 4",
    ),
    (
        "a disembargo that nobody sent",
        |peer, keeper| peer.disembargo(&target(keeper), Loopback::Receiver(4)),
        "embargo 4",
    ),
    (
        "results to a third party",
        |peer, keeper| {
            peer.send(|message| {
                let mut call = message.init_call();
                call.set_question_id(1);
                raw::write_target(call.reborrow().init_target(), &target(keeper));
                call.get_send_results_to().init_third_party();
            });
        },
        "sendResultsTo",
    ),
    (
        "a call that is not implemented there",
        |peer, _| {
            peer.send(|message| {
                message.init_unimplemented().init_call().set_question_id(1);
            });
        },
        "does not implement",
    ),
    (
        "a return that is not implemented there",
        |peer, _| {
            peer.send(|message| {
                message.init_unimplemented().init_return().set_answer_id(1);
            });
        },
        "does not implement",
    ),
];

#[test]
fn breaking_the_rules_is_answered_with_an_abort_that_says_which() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    for (what, attack, reason) in FATAL {
        let (mut peer, connection, keeper) = victim.attack_bootstrapped();
        attack(&mut peer, keeper);
        let told = peer.aborted();
        assert!(told.contains(reason), "{what}: {told}");
        victim.survive(&connection);
    }
    victim.finish();
}

/// What an attacker does that hurts nobody but itself.
type Harmless = (&'static str, fn(&mut RawPeer, u32));

fn fails(peer: &mut RawPeer, question: u32, reason: &str) {
    match peer.outcome(question) {
        Outcome::Exception(told) => assert!(told.contains(reason), "{told}"),
        other => panic!("{other:?} instead of {reason}"),
    }
}

const HARMLESS: &[Harmless] = &[
    ("a second finish", |peer, keeper| {
        peer.call(1, &target(keeper), raw::ECHO, &[Cap::SenderHosted(1)]);
        peer.outcome(1);
        peer.finish(1, true);
        peer.finish(1, true);
        peer.finish(1, false);
    }),
    ("a finish for nothing", |peer, _| peer.finish(123, true)),
    ("a call to an unknown answer", |peer, _| {
        peer.call(1, &Target::Answer(77, vec![0]), raw::ECHO, &[]);
        fails(peer, 1, "question 77");
    }),
    ("a call to its own answer", |peer, _| {
        peer.call(1, &Target::Answer(1, vec![0]), raw::ECHO, &[]);
        fails(peer, 1, "question 1");
    }),
    ("a call to what is no capability", |peer, keeper| {
        peer.call(1, &target(keeper), raw::ECHO, &[Cap::SenderHosted(1)]);
        // The results are a struct, and its only pointer is the capability.
        for (question, path) in [(2, vec![]), (3, vec![0, 0]), (4, vec![7]), (5, vec![0; 1000])] {
            peer.call(question, &Target::Answer(1, path), raw::ECHO, &[]);
            let Outcome::Exception(_) = peer.outcome(question) else { panic!("{question}") };
        }
    }),
    ("a call to a null capability", |peer, keeper| {
        peer.call(1, &target(keeper), raw::ECHO, &[Cap::None]);
        peer.call(2, &Target::Answer(1, vec![0]), raw::ECHO, &[]);
        let Outcome::Exception(_) = peer.outcome(2) else { panic!() };
    }),
    ("a method and an interface that do not exist", |peer, keeper| {
        peer.call(1, &target(keeper), 9999, &[]);
        fails(peer, 1, "has no method 9999");
        peer.bytes(&raw::call(2, &target(keeper), 0xdead_beef, 0, &[]));
        fails(peer, 2, "does not implement interface");
    }),
    ("our export by an id that does not exist", |peer, keeper| {
        for (question, cap) in [(1, Cap::ReceiverHosted(88)), (2, Cap::ReceiverAnswer(88, vec![0]))]
        {
            peer.call(question, &target(keeper), raw::CALL_FOO, &[cap]);
            let Outcome::Exception(_) = peer.outcome(question) else { panic!() };
        }
    }),
    ("a call that is given its own results", |peer, keeper| {
        peer.call(1, &target(keeper), raw::CALL_FOO, &[Cap::ReceiverAnswer(1, vec![0])]);
        fails(peer, 1, "question 1");
    }),
    ("a capability of a third party", |peer, keeper| {
        // The vine stands in for it.
        peer.call(1, &target(keeper), raw::CALL_FOO, &[Cap::ThirdParty(12)]);
        let question = peer.receive_until("a call to the vine", |said| match said {
            Said::Call { question, target: Target::Import(12), .. } => Some(*question),
            _ => None,
        });
        peer.exception(question, "on purpose");
        fails(peer, 1, "on purpose");
    }),
    ("a resolve of a promise that is gone", |peer, _| {
        // What it resolves to is given back.
        peer.resolve(44, &Cap::SenderHosted(45));
        peer.receive_until("a release", |said| {
            (*said == Said::Release { id: 45, count: 1 }).then_some(())
        });
        peer.resolve(44, &Cap::ReceiverHosted(1000));
    }),
    ("a promise that becomes itself", |peer, keeper| {
        peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderPromise(5)]);
        peer.outcome(1);
        peer.resolve(5, &Cap::SenderPromise(5));
        peer.call(2, &target(keeper), raw::CALL_FOO, &[Cap::ReceiverHosted(0)]);
        peer.call(3, &target(keeper), 4, &[]);
        fails(peer, 3, "itself");
    }),
    ("promises that become one another", |peer, keeper| {
        peer.call(1, &target(keeper), raw::HOLD, &[Cap::SenderPromise(5)]);
        peer.outcome(1);
        peer.resolve(5, &Cap::SenderPromise(6));
        peer.resolve(6, &Cap::SenderPromise(7));
        peer.resolve(7, &Cap::SenderPromise(5));
        // The first one was released when it had become another: this is a new
        // promise of the same id, and unresolved.
        peer.call(3, &target(keeper), 4, &[]);
        let question = peer.receive_until("a call to the promise", |said| match said {
            Said::Call { question, target: Target::Import(5), .. } => Some(*question),
            _ => None,
        });
        peer.exception(question, "on purpose");
        fails(peer, 3, "on purpose");
    }),
    ("a capability index out of range", |peer, keeper| {
        let call = |question| {
            raw::call(
                question,
                &target(keeper),
                raw::MORE_STUFF,
                raw::ECHO,
                &[Cap::SenderHosted(1)],
            )
        };
        peer.bytes(&raw::with_pointer(call(1), 3 | 1 << 32));
        peer.outcome(1);
        peer.bytes(&raw::with_pointer(call(2), 3 | 0xffff_ffff << 32));
        peer.outcome(2);
    }),
    ("content that contains itself", |peer, keeper| {
        let call = |question| {
            raw::call(
                question,
                &target(keeper),
                raw::MORE_STUFF,
                raw::ECHO,
                &[Cap::SenderHosted(1)],
            )
        };
        // A struct of one pointer, which is where the pointer is.
        peer.bytes(&raw::with_pointer(call(1), 0xffff_fffc | 1 << 48));
        let Outcome::Exception(_) = peer.outcome(1) else { panic!() };
    }),
    ("an unknown kind of capability", |peer, keeper| {
        let mut bytes = raw::call(
            1,
            &target(keeper),
            raw::MORE_STUFF,
            raw::CALL_FOO,
            &[Cap::ThirdParty(0x0123_4567)],
        );
        // The descriptor's tag stands in front of it.
        let vine = 0x0123_4567_u32.to_le_bytes();
        assert!(bytes.windows(4).any(|window| window == vine));
        let tag = 5_u16.to_le_bytes();
        let place = (24..bytes.len() - 8)
            .step_by(8)
            .rfind(|at| bytes[*at..*at + 2] == tag || bytes[*at + 2..*at + 4] == tag);
        if let Some(at) = place {
            let at = if bytes[at..at + 2] == tag { at } else { at + 2 };
            bytes[at..at + 2].copy_from_slice(&77_u16.to_le_bytes());
        }
        peer.bytes(&bytes);
        let Outcome::Exception(_) = peer.outcome(1) else { panic!() };
    }),
    ("an exception of a kind from the future", |peer, keeper| {
        be_called(peer, keeper);
        let mut bytes = raw::frame(|message| {
            let mut ret = message.init_return();
            ret.set_answer_id(0);
            ret.set_release_param_caps(false);
            let mut exception = ret.init_exception();
            exception.set_reason("from the future");
            exception.set_type(rpc_schema::rpc_capnp::exception::Type::Unimplemented);
        });
        let kind = bytes.windows(2).rposition(|window| window == [3, 0]).unwrap();
        bytes[kind] = 99;
        peer.bytes(&bytes);
        fails(peer, 100, "from the future");
    }),
    ("a resolve that is not implemented there", |peer, _| {
        peer.send(|message| {
            let mut resolve = message.init_unimplemented().init_resolve();
            resolve.set_promise_id(3);
            resolve.init_exception().set_reason("x");
        });
        peer.send(|message| {
            message.init_unimplemented().init_unimplemented();
        });
    }),
];

#[test]
fn mistakes_that_concern_one_call_fail_that_call() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    for (what, attack) in HARMLESS {
        let (mut peer, connection, keeper) = victim.attack_bootstrapped();
        attack(&mut peer, keeper);
        peer.sync(999);
        assert_eq!(connection.failure(), None, "{what}");
        connection.check().unwrap();
        peer.end();
        victim.survive(&connection);
    }
    victim.finish();
}

#[test]
fn unknown_messages_are_sent_back() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack();
    let echoed = |peer: &mut RawPeer| {
        peer.receive_until("an unimplemented", |said| match said {
            Said::Unimplemented => Some(()),
            other => panic!("{other:?}"),
        });
    };
    type Build = fn(message::Builder<'_>);
    let builds: [Build; 5] = [
        |message| message.init_third_party_answer().set_answer_id(1 << 30),
        |message| drop(message.init_obsolete_save()),
        |message| drop(message.init_obsolete_delete()),
        |message| message.init_provide().set_question_id(1),
        |message| message.init_accept().set_question_id(1),
    ];
    for build in builds {
        peer.send(build);
        echoed(&mut peer);
    }
    for tag in [15, 16, 1000, u16::MAX] {
        peer.bytes(&raw::tagged(tag));
        echoed(&mut peer);
    }
    peer.sync(1);
    assert_eq!(connection.failure(), None);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// A short message can stand for a long one, and echoing that would send much more than
/// was received.
#[test]
fn an_unknown_message_that_repeats_itself_is_not_repeated() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack();
    // An obsoleteSave with a list of pointers which all lead to one blob: a few
    // kilobytes that stand for megabytes.
    let (pointers, blob) = (400_u64, 400_u64);
    let mut words = vec![
        // The root: one word of data, with the tag, and one pointer.
        1 << 32 | 1 << 48,
        7,
        // A list of so many pointers.
        1 | 6 << 32 | pointers << 35,
    ];
    for index in 0..pointers {
        // A list of so many words, behind the list of pointers.
        words.push(1 | (pointers - 1 - index) << 2 | 5 << 32 | blob << 35);
    }
    words.extend((0..blob).map(|_| 0x0123_4567_89ab_cdef));
    let bytes = raw::words(&words);
    for _ in 0..20 {
        peer.bytes(&bytes);
    }
    peer.bootstrap(1);
    peer.end();
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut peer.writer(), &mut received).unwrap();
    let said = 20 * bytes.len();
    assert!(received.len() < 3 * said, "{} bytes for {said}", received.len());
    victim.survive(&connection);
    victim.finish();
}

/// A call comes back for us to take its outcome from itself.
#[test]
fn a_call_that_is_answered_with_its_own_outcome_fails_and_is_forgotten() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let census = Census::new();
    let counted = census.clone();
    // Passes each call on to the capability in its parameters.
    let forwarder = objects::any(&victim.vat, Concurrency::Serial, move |call| {
        let counted = counted.count();
        call.on_cancel(move || drop(counted));
        let target = call.params().caps()[0].clone();
        call.forward(&target);
    });
    let (mut peer, connection) =
        RawPeer::connect(&victim.vat, ConnConfig::new().bootstrap(forwarder));
    let forwarder = peer.bootstrapped(0);
    let kept = |peer: &mut RawPeer, question, hosted| {
        peer.send(|message| {
            let mut call = message.init_call();
            call.set_question_id(question);
            raw::write_target(call.reborrow().init_target(), &target(forwarder));
            call.reborrow().get_send_results_to().set_yourself(());
            let mut params = call.init_params();
            let mut table = params.reborrow().init_cap_table(1);
            raw::write_cap(table.reborrow().get(0), &Cap::SenderHosted(hosted));
            raw::pointer_to_first(params.get_content());
        });
        peer.receive_until("the call to come back", |said| match said {
            Said::Call { question, target: Target::Import(id), .. } if *id == hosted => {
                Some(*question)
            }
            _ => None,
        })
    };
    let take = |peer: &mut RawPeer, answer, from| {
        send_return(peer, |mut ret| {
            ret.set_answer_id(answer);
            ret.set_release_param_caps(false);
            ret.set_take_from_other_question(from);
        });
    };
    // From itself.
    let back = kept(&mut peer, 1, 50);
    take(&mut peer, back, 1);
    assert_eq!(peer.outcome(1), Outcome::SentElsewhere);
    until("the call to be forgotten", || census.alive() == 0);
    // Two from each other.
    let (first, second) = (kept(&mut peer, 2, 50), kept(&mut peer, 3, 51));
    take(&mut peer, first, 3);
    take(&mut peer, second, 2);
    for _ in 0..2 {
        peer.receive_until("the calls to end", |said| {
            matches!(said, Said::Return { answer: 2 | 3, .. }).then_some(())
        });
    }
    until("the calls to be forgotten", || census.alive() == 0);
    assert_eq!(census.made(), 3);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

#[test]
fn an_abort_ends_the_connection_and_tells_why() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack();
    let call = foo_request(&connection.bootstrap()).send();
    peer.send(|message| {
        let mut abort = message.init_abort();
        abort.set_reason("enough");
        abort.set_trace("somewhere");
    });
    // What comes after it is not looked at.
    peer.release(99, 9);
    peer.end();
    assert_eq!(peer.drain().iter().filter(|said| matches!(said, Said::Abort(_))).count(), 0);
    let error = call.wait().map(drop).unwrap_err();
    assert_eq!(error.kind(), capnp_threads_core::ErrorKind::Disconnected);
    assert_eq!(error.reason(), "the peer ended the connection: enough");
    assert_eq!(connection.failure().unwrap().trace(), "somewhere");
    victim.survive(&connection);
    victim.finish();
}

/// Content that cannot be copied fails the call that would be forwarded with it,
/// on both connections only that call.
#[test]
fn hostile_content_that_is_passed_on_fails_its_call() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let behind = rpc_tests::support::Pair::new(objects::Keeper::client);
    let target_behind: capnp_threads_core::Client = behind.bootstrap();
    let forwarder = objects::any(&victim.vat, Concurrency::Inline, move |call| {
        call.forward(&target_behind);
    });
    let (mut peer, connection) =
        RawPeer::connect(&victim.vat, ConnConfig::new().bootstrap(forwarder));
    let forwarder = peer.bootstrapped(0);
    let pointers = [
        ("itself", 0xffff_fffc | 1 << 48),
        ("itself, as a list", 0xffff_fffc | 1 | 6 << 32 | 1 << 35),
        ("out of bounds", 0x0fff_fffc | 9 << 32 | 9 << 48),
        ("a far pointer to nowhere", 2 | 99 << 32),
        ("an enormous list of nothing", 1 | 0 << 32 | 0x1fff_ffff << 35),
        ("a capability that is not there", 3 | 0x7777 << 32),
    ];
    for (question, (what, pointer)) in (1..).zip(pointers) {
        let call = raw::call(
            question,
            &target(forwarder),
            raw::MORE_STUFF,
            raw::ECHO,
            &[Cap::SenderHosted(1)],
        );
        peer.bytes(&raw::with_pointer(call, pointer));
        match peer.outcome(question) {
            Outcome::Exception(_) => {}
            Outcome::Results(caps) if caps.iter().all(|cap| *cap == Cap::None) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    let keeper: test_more_stuff::Client = behind.bootstrap();
    keeper.get_handle_request().call().unwrap();
    drop(keeper);
    assert_eq!(connection.failure(), None);
    peer.end();
    victim.survive(&connection);
    behind.finish();
    victim.finish();
}

/// Answers to our own calls that are malformed fail those calls.
#[test]
fn malformed_results_fail_the_call_that_reads_them() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (mut peer, connection) = victim.attack();
    let client: test_more_stuff::Client = connection.bootstrap();
    let pointers = [0xffff_fffc | 1 << 48, 0x0fff_fffc | 9 << 32 | 9 << 48, 3 | 9 << 32];
    for pointer in pointers {
        let call = client.get_held_request().send();
        let field: test_interface::Client = call.pipeline().get_cap();
        let pipelined = foo_request(&field).send();
        let mut questions = Vec::new();
        while questions.len() < 2 {
            if let Said::Call { question, .. } = peer.receive().unwrap() {
                questions.push(question);
            }
        }
        let bytes = raw::frame(|message| {
            let mut ret = message.init_return();
            ret.set_answer_id(questions[0]);
            ret.set_release_param_caps(false);
            let mut results = ret.init_results();
            let mut table = results.reborrow().init_cap_table(1);
            raw::write_cap(table.reborrow().get(0), &Cap::SenderHosted(1));
            raw::pointer_to_first(results.get_content());
        });
        peer.bytes(&raw::with_pointer(bytes, pointer));
        peer.exception(questions[1], "pipelined on what is no capability");
        let failed = call.wait().and_then(|response| {
            response.get()?.get_cap()?.as_client().resolve()?;
            Ok(())
        });
        failed.unwrap_err();
        pipelined.wait().map(drop).unwrap_err();
        foo_request(&field).call().map(drop).unwrap_err();
    }
    assert_eq!(connection.failure(), None);
    drop(client);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// A handler that is still running, and what it gives out, when its peer is cut
/// off for a mistake.
#[test]
fn methods_that_run_for_a_peer_that_is_cut_off_end_in_peace() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let (go, begun, cancelled) = (Event::new(), Event::new(), Event::new());
    let (hold, first, told) = (go.clone(), begun.clone(), Mutex::new(cancelled.clone()));
    let object = objects::any(&victim.vat, Concurrency::Concurrent, move |call| {
        let told = told.lock().unwrap().clone();
        call.on_cancel(move || told.set());
        first.set();
        hold.wait();
        let mut caps = call.params().caps().to_vec();
        caps.push(call.params().caps()[0].clone());
        call.respond(Ok(capnp_threads_core::untyped::PayloadBuilder::for_results().finish(caps)));
    });
    let (mut peer, connection) = RawPeer::connect(&victim.vat, ConnConfig::new().bootstrap(object));
    let object = peer.bootstrapped(0);
    for question in 1..10 {
        peer.call(question, &target(object), 0, &[Cap::SenderPromise(question)]);
    }
    // A method that has not begun would not run.
    begun.wait();
    peer.release(999, 1);
    peer.aborted();
    cancelled.wait();
    go.set();
    assert!(connection.join_timeout(LONG).unwrap());
    victim.survive(&connection);
    victim.finish();
}

/// Two methods that wait for each other's results, as the peer arranged it. As long as the
/// peer stays nobody can help them; when it leaves, they must not be left waiting.
#[test]
fn methods_that_wait_for_one_another_are_freed_by_the_end() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    for _ in 0..3 {
        let (mut peer, connection, keeper) = victim.attack_bootstrapped();
        peer.call(1, &target(keeper), raw::CALL_FOO, &[Cap::SenderPromise(9)]);
        peer.call(2, &target(keeper), raw::CALL_FOO, &[Cap::ReceiverAnswer(1, vec![0])]);
        let called = peer.receive_until("a call to the promise", |said| match said {
            Said::Call { question, .. } => Some(*question),
            _ => None,
        });
        peer.resolve(9, &Cap::ReceiverAnswer(2, vec![0]));
        // The call comes back, for the field.
        peer.bytes(&raw::call(3, &Target::Answer(2, vec![0]), 0x88eb_12a0_e0af_92b2, 0, &[]));
        peer.finish(1, true);
        peer.finish(2, true);
        peer.sync(4);
        send_return(&mut peer, |mut ret| {
            ret.set_answer_id(called);
            ret.set_release_param_caps(false);
            ret.init_exception().set_reason("on purpose");
        });
        peer.end();
        victim.survive(&connection);
    }
    // Workers that were left waiting would hold this up.
    victim.finish();
}

/// An object that passes calls on to what they name, and a call that names the
/// object: it goes round for as long as somebody wants it.
#[test]
fn a_call_that_goes_round_ends_when_nobody_wants_it() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let census = Census::new();
    let counted = census.clone();
    let object = objects::any(&victim.vat, Concurrency::Serial, move |call| {
        let alive = counted.count();
        let target = call.params().caps()[0].clone();
        call.forward(&target);
        drop(alive);
    });
    let (mut peer, connection) = RawPeer::connect(&victim.vat, ConnConfig::new().bootstrap(object));
    let object = peer.bootstrapped(0);
    for finish in [true, false] {
        peer.call(1, &target(object), 0, &[Cap::ReceiverHosted(object)]);
        let rounds = census.made();
        until("the call to go round", || census.made() > rounds + 10);
        if finish {
            peer.finish(1, true);
            assert_eq!(peer.outcome(1), Outcome::Canceled);
        }
    }
    peer.end();
    victim.survive(&connection);
    victim.finish();
}
