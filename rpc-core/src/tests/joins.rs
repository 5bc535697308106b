//! Whether capabilities are the same, which vats ask each other: Note [join].

use std::sync::atomic::Ordering;

use super::actor::Actor;
use super::neighbours::Neighbourhood;
use super::net::{End, Net, limits};
use super::raw::{self, Raw};
use crate::cap::client::Client;
use crate::cap::payload::PayloadBuilder;
use crate::cap::promise::promise;
use crate::cap::sameness::Comparison;
use crate::error::{Error, ErrorKind};
use crate::kinds::membrane::{Membrane, MembranePolicy};
use crate::limits::Limits;
use crate::wire::rpc_twoparty_capnp::join_result;
use crate::wire::{self, JoinKey, JoinPart, Message, ReturnKind, Target, Token};

fn answer(comparison: &Comparison) -> bool {
    comparison.try_answer().expect("there is no answer yet").unwrap()
}

fn error(comparison: &Comparison) -> Error {
    comparison.try_answer().expect("there is no answer yet").unwrap_err()
}

fn assert_open(comparison: &Comparison) {
    assert!(comparison.try_answer().is_none(), "{comparison:?}");
}

#[test]
fn what_is_known_here_is_not_asked() {
    let (mut net, [a, _], _server, remote) = super::net::pair();
    let [(_, one), (_, other)] = [net.object("one"), net.object("other")];
    assert!(answer(&one.compare(&one.clone())));
    assert!(!answer(&one.compare(&other)));
    assert!(answer(&remote.compare(&remote)));
    assert!(answer(&Client::null().compare(&Client::null())));
    assert!(!answer(&Client::null().compare(&one)));
    let again = net.bootstrapped(a);
    assert!(answer(&again.compare(&remote)));
    let broken = Client::broken(Error::failed("it is broken"));
    assert_eq!(error(&broken.compare(&broken)).reason(), "it is broken");
    assert_eq!(net.queued(a), 0);
    drop((remote, again, one, other));
    net.finish();
}

#[test]
fn a_comparison_waits_until_both_are_resolved() {
    let mut net = Net::new();
    let (actor, one) = net.object("one");
    let (promised, fulfiller) = promise();
    let comparison = promised.compare(&one);
    assert_open(&comparison);
    fulfiller.fulfill(one.clone());
    assert!(answer(&comparison));
    drop((promised, comparison));
    let (promised, fulfiller) = promise();
    let comparison = one.compare(&promised);
    fulfiller.reject(Error::failed("never mind"));
    assert_eq!(error(&comparison).reason(), "never mind");
    drop((promised, comparison));
    // One that was given up keeps nothing.
    let (promised, fulfiller) = promise();
    drop(one.compare(&promised));
    drop(one);
    assert_eq!(actor.drops(), 1);
    drop((promised, fulfiller));
    net.finish();
}

/// A vat that has one object of a host by way of two others, and another object of it.
struct Detours {
    net: Net,
    host: [Actor; 2],
    /// From the vat to the two that are in between, and from these to the host.
    there: [End; 2],
    on: [End; 2],
    /// The host's answers.
    back: [End; 2],
    /// As they come by the one and by the other.
    same: [Client; 2],
}

impl Detours {
    /// Whether both detours lead to the same object.
    fn new(same: bool) -> Self {
        let mut net = Net::new();
        let (first, one) = net.object("one");
        let (second, other) = net.object("other");
        let offered = [one.clone(), if same { one } else { other }];
        let (mut on, mut back, mut there, mut clients) = (vec![], vec![], vec![], vec![]);
        for object in offered {
            let (near, far) = net.link(None, Some(object));
            let between = net.bootstrapped(near);
            let (start, _) = net.link(None, Some(between));
            clients.push(net.bootstrapped(start));
            on.push(near);
            back.push(far);
            there.push(start);
        }
        Detours {
            net,
            host: [first, second],
            there: there.try_into().unwrap(),
            on: on.try_into().unwrap(),
            back: back.try_into().unwrap(),
            same: clients.try_into().map_err(|_| ()).unwrap(),
        }
    }

    /// What those in between offer, they have from the host as long as they are connected.
    fn finish(self) {
        let Detours { mut net, there, same, .. } = self;
        drop(same);
        there.into_iter().for_each(|end| net.cut(end));
        net.finish();
    }
}

#[test]
fn one_object_by_two_detours_is_the_same() {
    for same in [true, false] {
        let mut detours = Detours::new(same);
        let comparison = detours.same[0].compare(&detours.same[1]);
        for way in 0..2 {
            detours.net.step(detours.there[way], "join 0 on 0 nonce");
            detours.net.step(detours.on[way], "join 0 on 0 nonce");
            detours.net.deliver(detours.back[way], "return 0 results (0) noFinishNeeded");
            assert_open(&comparison);
        }
        detours.net.settle();
        assert_eq!(answer(&comparison), same);
        assert!(detours.host.iter().all(|object| object.seen().is_empty()));
        drop(comparison);
        detours.finish();
    }
}

#[test]
fn an_object_of_this_vat_is_recognised_when_it_comes_back_by_others() {
    let mut net = Net::new();
    let [(_, own), (_, other)] = [net.object("own"), net.object("other")];
    let (mut came, mut ends) = (Vec::new(), Vec::new());
    for object in [&own, &other] {
        let (between, _) = net.link(None, Some(object.clone()));
        let between = net.bootstrapped(between);
        let (end, _) = net.link(None, Some(between));
        came.push(net.bootstrapped(end));
        ends.push(end);
    }
    let [same, different] = [own.compare(&came[0]), own.compare(&came[1])];
    net.settle();
    assert!(answer(&same));
    assert!(!answer(&different));
    drop((came, same, different, own, other));
    ends.into_iter().for_each(|end| net.cut(end));
    net.finish();
}

/// A vat that gives out what it has of others, and another one to which it has given both.
fn given(detours: &mut Detours) -> (Actor, [Client; 2], [End; 2]) {
    let (actor, client) = detours.net.object("keeper");
    let (near, far) = detours.net.link(None, Some(client));
    let keeper = detours.net.bootstrapped(near);
    actor.keep();
    let call = detours.net.call(&keeper, 1, &detours.same);
    detours.net.settle();
    call.ok();
    let kept = actor.kept().try_into().map_err(|_| ()).unwrap();
    (actor, kept, [near, far])
}

#[test]
fn the_peer_of_both_is_asked_by_parts() {
    for same in [true, false] {
        let mut detours = Detours::new(same);
        let (_, kept, [near, far]) = given(&mut detours);
        let comparison = kept[0].compare(&kept[1]);
        detours.net.step(far, "join 0 on 0 part 0 of 2");
        assert_eq!(detours.net.snapshot(near).joins, 1);
        detours.net.step(far, "join 1 on 1 part 1 of 2");
        // The peer asks in turn.
        detours.net.step(detours.there[0], "join 0 on 0 nonce");
        detours.net.step(detours.there[1], "join 0 on 0 nonce");
        assert_eq!(detours.net.snapshot(near).joins, 1);
        detours.net.settle();
        assert_eq!(answer(&comparison), same);
        drop((comparison, kept));
        detours.finish();
    }
}

/// Whatever link is slow, and whatever is given up.
#[test]
fn nothing_is_left_whichever_link_is_held_back_and_given_up() {
    for held in 0..8 {
        for cut in [false, true] {
            let mut detours = Detours::new(true);
            let (_, kept, [near, far]) = given(&mut detours);
            let ends = [detours.there, detours.on, detours.back, [near, far]].concat();
            let held = ends[held];
            let comparison = kept[0].compare(&kept[1]);
            let others: Vec<End> =
                (0..detours.net.ends()).map(End).filter(|end| *end != held).collect();
            detours.net.settle_only(&others);
            if cut {
                detours.net.cut(held);
                detours.net.settle();
                let told = comparison.try_answer().expect("it waits for ever");
                assert!(
                    told == Ok(true)
                        || told.is_err_and(|error| { error.kind() == ErrorKind::Disconnected })
                );
            } else {
                drop(comparison);
                detours.net.settle();
            }
            drop(kept);
            detours.finish();
        }
    }
}

/// Whatever they call, resolve, hand off and cut meanwhile.
#[test]
fn vats_that_compare_at_random_agree() {
    super::walk::compare_at_random();
}

struct Open;

impl MembranePolicy for Open {}

#[test]
fn what_is_behind_a_membrane_is_only_itself() {
    let mut net = Net::new();
    let (_, inner) = net.object("inner");
    let membrane = Membrane::new(Open);
    let wrapped: Client = membrane.wrap(&inner);
    assert!(answer(&wrapped.compare(&membrane.wrap(&inner))));
    assert!(!answer(&wrapped.compare(&inner)));
    assert!(!answer(&wrapped.compare(&Membrane::new(Open).wrap(&inner))));
    // The same by others, who do not know what a membrane is.
    let mut came = Vec::new();
    for object in [&wrapped, &wrapped, &inner] {
        let (end, _) = net.link(None, Some(object.clone()));
        came.push(net.bootstrapped(end));
    }
    let comparisons = [came[0].compare(&came[1]), came[0].compare(&came[2])];
    net.settle();
    assert!(answer(&comparisons[0]));
    assert!(!answer(&comparisons[1]));
    // A promise behind a membrane is asked when it is resolved.
    let (promised, fulfiller) = promise();
    let (end, _) = net.link(None, Some(membrane.wrap(&promised)));
    let late = net.bootstrapped(end);
    let comparison = late.compare(&came[0]);
    net.settle();
    assert_open(&comparison);
    fulfiller.fulfill(inner.clone());
    net.settle();
    assert!(answer(&comparison));
    drop((came, comparisons, comparison, late, promised, wrapped, membrane, inner));
    net.finish();
}

/// A capability that was handed off is the host's own, and needs no question.
#[test]
fn in_a_network_what_was_handed_off_is_known() {
    for introduced in [true, false] {
        let mut net = Net::new();
        let network = Neighbourhood::new();
        network.closed.store(!introduced, Ordering::SeqCst);
        let (_, bob) = net.object("bob");
        let (carol, carols) = net.object("carol");
        let (alice_bob, _) = net.link_in(&network, [0, 2], None, Some(bob.clone()));
        let (alice_carol, _) = net.link_in(&network, [0, 1], None, Some(carols));
        let (carol_bob, bob_carol) = net.link_in(&network, [1, 2], None, Some(bob.clone()));
        let of_bob = net.bootstrapped(alice_bob);
        let of_carol = net.bootstrapped(alice_carol);
        carol.keep();
        let call = net.call(&of_carol, 1, &[of_bob.clone()]);
        net.settle();
        call.ok();
        let by_alice = carol.kept_one();
        let by_bob = net.bootstrapped(carol_bob);
        let comparison = by_alice.compare(&by_bob);
        let mut asked = 0;
        while net.queued(carol_bob) + net.queued(bob_carol) > 0 {
            for end in [carol_bob, bob_carol] {
                if net.queued(end) > 0 {
                    asked += usize::from(net.deliver_one(end).starts_with("join"));
                    net.run();
                }
            }
        }
        net.settle();
        assert!(answer(&comparison));
        assert_eq!(asked, usize::from(!introduced));
        drop((comparison, by_alice, by_bob, of_bob, of_carol, call, bob));
        net.finish();
    }
}

// ---- Peers that know no Joins, and hostile ones

fn join(question: u32, export: u32, key: &JoinKey) -> Message {
    join_with(question, export, Some(key.token().unwrap()))
}

fn join_with(question: u32, export: u32, key: Option<Token>) -> Message {
    Message::Join(wire::Join { question, target: Target::ImportedCap(export), key })
}

fn part(join: u32, number: u16, count: u16) -> JoinKey {
    JoinKey::Part(JoinPart { join, count, number })
}

fn bytes(bytes: &[u8]) -> ReturnKind {
    let mut builder = PayloadBuilder::for_results();
    builder.content().set_as::<capnp::data::Owned>(bytes).unwrap();
    ReturnKind::Results(super::content::message(
        builder.finish(Vec::new()),
        Vec::<wire::Descriptor>::new(),
    ))
}

fn result(join: u32, succeeded: bool) -> ReturnKind {
    let mut builder = PayloadBuilder::for_results();
    let mut result = builder.content().init_as::<join_result::Builder<'_>>();
    result.set_join_id(join);
    result.set_succeeded(succeeded);
    ReturnKind::Results(super::content::message(
        builder.finish(Vec::new()),
        Vec::<wire::Descriptor>::new(),
    ))
}

/// A machine that has two capabilities of the test's, and the numbers of what it asks when it
/// compares them.
fn asking() -> (Raw, [Client; 2], Comparison, u32) {
    let (mut raw, server) = raw::caller(Net::new());
    // The second one comes as a result.
    let call = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 0 (1)"]);
    raw.send(raw::ret(0, 1, &[wire::Descriptor::SenderHosted(7)]));
    let other = call.cap(0);
    drop(call);
    raw.sent();
    let comparison = server.compare(&other);
    let sent = raw.net.take_sent(raw.end);
    let [Message::Join(one), Message::Join(two)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!([one.question, two.question], [0, 1]);
    assert_eq!([&one.target, &two.target], [&raw::on(0), &raw::on(7)]);
    let JoinKey::Part(first) = JoinKey::read(one.key.as_ref().unwrap()).unwrap() else {
        panic!("{one:?}")
    };
    (raw, [server, other], comparison, first.join)
}

#[test]
fn a_peer_that_knows_no_joins_is_not_asked_again() {
    let (mut raw, [server, other], comparison, _) = asking();
    let refuse = |question: u32, raw: &mut Raw| {
        raw.send_built(|message| {
            message.init_unimplemented().init_join().set_question_id(question);
        });
    };
    refuse(0, &mut raw);
    let told = error(&comparison);
    assert_eq!(told.kind(), ErrorKind::Unimplemented);
    assert!(told.reason().contains("level 4"), "{told}");
    // The other question was given up meanwhile, and the peer refuses it, too. It might end the
    // connection if that was to be finished.
    raw.expect(&[]);
    refuse(1, &mut raw);
    assert_eq!(raw.net.snapshot(raw.end).questions, 0);
    let again = server.compare(&other);
    assert_eq!(error(&again).kind(), ErrorKind::Unimplemented);
    raw.expect(&[]);
    drop((server, other, comparison, again));
    raw.finish();
}

/// Only what was asked can be refused.
#[test]
fn a_call_cannot_be_refused_as_something_else() {
    let (mut raw, server) = raw::caller(Net::new());
    let call = raw.net.call(&server, 1, &[]);
    raw.send_built(|message| message.init_unimplemented().init_join().set_question_id(0));
    raw.send_built(|message| message.init_unimplemented().init_accept().set_question_id(0));
    call.assert_open();
    raw.send(raw::ret(0, 1, &[]));
    call.ok();
    drop((call, server));
    raw.finish();
}

#[test]
fn answers_of_a_peer_are_believed_only_as_far_as_they_go() {
    type Answers = fn(u32) -> [ReturnKind; 2];
    let cases: [(Answers, Option<bool>); 6] = [
        (|id| [result(id, true), result(id, true)], Some(true)),
        (|id| [result(id, false), result(id, false)], Some(false)),
        (|id| [result(id, true), result(id, false)], Some(false)),
        (|id| [result(id.wrapping_add(1), true), result(id, true)], None),
        (|_| [bytes(b"text"), bytes(&[0; 32])], None),
        (|id| [result(id, true), ReturnKind::Exception(Error::failed("no"))], None),
    ];
    for (answers, expected) in cases {
        let (mut raw, clients, comparison, id) = asking();
        for (question, answer) in (0..).zip(answers(id)) {
            raw.send(raw::ret_with(question, answer));
        }
        raw.expect_alive();
        assert_eq!(comparison.try_answer().unwrap().ok(), expected);
        drop((clients, comparison));
        raw.finish();
    }
}

/// A peer that answers never, or to one part only.
#[test]
fn a_comparison_that_is_not_answered_ends_with_the_connection() {
    let (mut raw, clients, comparison, id) = asking();
    raw.send(raw::ret_with(0, result(id, true)));
    assert_open(&comparison);
    raw.net.cut(raw.end);
    assert_eq!(error(&comparison).kind(), ErrorKind::Disconnected);
    drop((clients, comparison));
    raw.finish();
}

/// Asks for export 0 with a nonce of this byte, and returns the answer.
fn name(raw: &mut Raw, question: u32, nonce: u8) -> Vec<u8> {
    raw.send(join(question, 0, &JoinKey::Nonce([nonce; 32])));
    let sent = raw.net.take_sent(raw.end);
    let [Message::Return(ret)] = &sent[..] else { panic!("{sent:?}") };
    let ReturnKind::Results(content) = &ret.outcome else { panic!("{ret:?}") };
    let payload = crate::cap::payload::Payload::received(
        content.frame.clone(),
        crate::cap::payload::Carrier::Return,
        Vec::new(),
    );
    let reader = payload.open();
    let content = crate::cap::payload::Payload::content(&reader).unwrap();
    content.get_as::<capnp::data::Reader<'_>>().unwrap().to_vec()
}

/// What the host says of an object is the same for one nonce, and only for that.
#[test]
fn a_host_answers_nonces_at_once_and_keeps_nothing() {
    let (mut raw, _server) = raw::callee();
    let names = [(1, 9), (2, 9), (3, 8)].map(|(question, nonce)| name(&mut raw, question, nonce));
    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
    assert_eq!(raw.net.snapshot(raw.end).answers, 0);
    raw.finish();
}

/// What a peer has not settled may be null there, so the peer is asked.
#[test]
fn null_is_recognised_in_another_vat() {
    let (promised, fulfiller) = promise();
    let mut raw = Raw::new(Net::new(), Some(promised));
    raw.send(raw::bootstrap(0));
    raw.expect(&["return 0 results (0) [senderPromise 0]"]);
    fulfiller.fulfill(Client::null());
    raw.expect(&["resolve 0 failed: the promise turned out to be null"]);
    assert_eq!(name(&mut raw, 1, 9), [0; 32]);
    raw.finish();

    for (said, expected) in [([0; 32], true), ([1; 32], false)] {
        let (mut raw, server) = raw::callee();
        server.echo();
        raw.send(raw::call(0, raw::on(0), 1, &[wire::Descriptor::SenderPromise(3)]));
        raw.send(raw::reject(3, Error::failed("the promise turned out to be null")));
        server.keep();
        raw.send(raw::call(1, raw::on(0), 2, &[wire::Descriptor::SenderPromise(3)]));
        raw.sent();
        let again = server.kept_one();
        let comparison = again.compare(&Client::null());
        assert_open(&comparison);
        raw.expect(&["join 0 on 3 nonce"]);
        raw.send(raw::ret_with(0, bytes(&said)));
        assert_eq!(answer(&comparison), expected);
        drop((again, comparison));
        raw.send(raw::finish(0, true));
        raw.sent();
        raw.finish();
    }
}

/// A peer may have said that it hosts what it only stands in for, and what is null elsewhere.
#[test]
fn null_is_told_from_what_a_peer_hosts() {
    // So it hosts it, or it would know more.
    let unimplemented = wire::ReturnKind::Exception(Error::unimplemented("what is a Join?"));
    let replies = [(bytes(&[0; 32]), true), (bytes(&[1; 32]), false), (unimplemented, false)];
    for (reply, expected) in replies {
        let (mut raw, server) = raw::callee();
        server.keep();
        raw.send(raw::call(0, raw::on(0), 1, &[wire::Descriptor::SenderHosted(3)]));
        raw.sent();
        let hosted = server.kept_one();
        let comparison = Client::null().compare(&hosted);
        assert_open(&comparison);
        raw.expect(&["join 0 on 3 nonce"]);
        raw.send(raw::ret_with(0, reply));
        assert_eq!(answer(&comparison), expected);
        drop((hosted, comparison));
        raw.send(raw::finish(0, true));
        raw.sent();
        raw.finish();
    }
}

/// A machine that offers an object, as export 0.
fn host(joins: u32) -> Raw {
    let mut net = Net::new();
    let (_, client) = net.object("server");
    let mut raw = Raw::with_limits(net, Limits { joins, ..limits() }, Some(client));
    raw.take_bootstrap();
    raw
}

#[test]
fn parts_are_answered_together() {
    let mut raw = host(100);
    raw.send(join(1, 0, &part(5, 1, 2)));
    raw.expect(&[]);
    assert_eq!(raw.net.snapshot(raw.end).joins, 1);
    raw.send(join(2, 0, &part(5, 0, 2)));
    let told = raw.sent();
    // The first part gets the capability, the other one only that they are the same.
    assert_eq!(
        told,
        [
            "return 2 results (4294967301) [senderHosted 0]",
            "return 1 results (4294967301) noFinishNeeded"
        ]
    );
    assert_eq!(raw.net.snapshot(raw.end).joins, 0);
    raw.send(raw::finish(2, true));
    // A join of one part is no question.
    raw.send(join(3, 0, &part(6, 0, 1)));
    assert_eq!(raw.sent().len(), 1);
    raw.finish();
}

#[test]
fn parts_that_do_not_belong_together_fail_together() {
    let wrong = [part(5, 0, 2), part(5, 1, 3)];
    for wrong in wrong {
        let mut raw = host(100);
        raw.send(join(1, 0, &part(5, 0, 2)));
        raw.send(join(2, 0, &wrong));
        let told = raw.sent();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|told| told.contains("does not belong")), "{told:?}");
        assert_eq!(raw.net.snapshot(raw.end).joins, 0);
        raw.expect_alive();
        // The number can be used again.
        raw.send(join(3, 0, &part(5, 0, 1)));
        assert!(raw.sent()[0].contains("results"));
        raw.finish();
    }
}

#[test]
fn a_part_that_is_given_up_takes_the_others_along() {
    let mut raw = host(100);
    raw.send(join(1, 0, &part(5, 0, 3)));
    raw.send(join(2, 0, &part(5, 1, 3)));
    raw.send(raw::finish(1, true));
    let told = raw.sent();
    assert_eq!(told[0], "return 1 canceled");
    assert!(told[1].contains("another part of the join was given up"), "{told:?}");
    assert_eq!(raw.net.snapshot(raw.end).joins, 0);
    // Nor is anything left by the end of the connection.
    raw.send(join(3, 0, &part(6, 0, 2)));
    raw.finish();
}

#[test]
fn malformed_joins_fail_alone() {
    let mut raw = host(100);
    let text = Token::build(|mut root| root.set_as::<capnp::text::Owned>("a key")).unwrap();
    let tokens = [
        None,
        Some(text),
        Some(Token::of_bytes(&[1; 31]).unwrap()),
        Some(part(1, 3, 3).token().unwrap()),
        Some(part(1, 0, 0).token().unwrap()),
        Some(part(1, 0, u16::MAX).token().unwrap()),
    ];
    for (question, token) in (1..).zip(tokens) {
        raw.send(join_with(question, 0, token));
        let [told] = <[String; 1]>::try_from(raw.sent()).unwrap();
        assert!(told.starts_with(&format!("return {question} ")), "{told}");
        assert!(!told.contains("results"), "{told}");
        raw.send(raw::finish(question, true));
    }
    // What is pipelined on nothing is broken, and no reason to end the connection.
    raw.send(Message::Join(wire::Join {
        question: 20,
        target: raw::on_field(33, &[]),
        key: Some(JoinKey::Nonce([0; 32]).token().unwrap()),
    }));
    assert!(raw.sent()[0].contains("not outstanding"));
    assert_eq!(raw.net.snapshot(raw.end).joins, 0);
    raw.send(join(21, 9, &part(1, 0, 2)));
    raw.expect_abort("Join of export 9");
    raw.finish();
}

#[test]
fn a_peer_can_have_only_so_many_joins_under_way() {
    let mut raw = host(2);
    raw.send(join(1, 0, &part(1, 0, 2)));
    raw.send(join(2, 0, &part(2, 0, 2)));
    raw.send(join(3, 0, &part(3, 0, 2)));
    let [told] = <[String; 1]>::try_from(raw.sent()).unwrap();
    assert!(told.starts_with("return 3 ") && told.contains("Limits::joins"), "{told}");
    raw.send(join(4, 0, &JoinKey::Nonce([0; 32])));
    assert!(raw.sent()[0].contains("Limits::joins"));
    raw.send(raw::finish(1, true));
    raw.sent();
    raw.send(join(5, 0, &JoinKey::Nonce([0; 32])));
    assert!(raw.sent()[0].contains("results"));
    raw.finish();
}
