#![allow(clippy::unwrap_used)]

#[cfg(unix)]
use std::os::fd::AsFd;

use capnp::Word;
use capnp::message::Builder;

use super::*;

fn build(fill: impl FnOnce(message::Builder<'_>)) -> Message {
    let mut builder = Builder::new_default();
    fill(builder.init_root());
    builder.into()
}

fn sent(fill: impl FnOnce(message::Builder<'_>)) -> String {
    describe(&build(fill), Direction::Sent, &DescribeOptions::default())
}

fn received(fill: impl FnOnce(message::Builder<'_>)) -> String {
    describe(&build(fill), Direction::Received, &DescribeOptions::default())
}

fn fill_call(message: message::Builder<'_>) {
    let mut call = message.init_call();
    call.set_question_id(3);
    call.set_interface_id(0xabc);
    call.set_method_id(2);
    call.reborrow().init_target().set_imported_cap(0);
    let mut params = call.init_params();
    params.reborrow().get_content().initn_as::<capnp::data_list::Builder<'_>>(11);
    let mut caps = params.init_cap_table(2);
    caps.reborrow().get(0).set_sender_hosted(4);
    caps.reborrow().get(0).set_attached_fd(1);
    let mut promised = caps.get(1).init_receiver_answer();
    promised.set_question_id(7);
    let mut ops = promised.init_transform(2);
    ops.reborrow().get(0).set_noop(());
    ops.get(1).set_get_pointer_field(5);
}

#[cfg(unix)]
#[test]
fn file_descriptors_are_counted() {
    let fd: crate::fd::SharedFd =
        std::sync::Arc::new(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
    let mut message = build(fill_call);
    message.set_fds(vec![fd.clone(), fd]);
    let text = describe(&message, Direction::Received, &DescribeOptions::default());
    assert!(text.ends_with("caps [senderHosted 4 fd 1, receiverAnswer #7.noop.5] fds 2"), "{text}");
    assert!(format!("{message:?}").ends_with(" with 2 file descriptors"), "{message:?}");
}

#[test]
fn calls() {
    assert_eq!(
        sent(fill_call),
        "call #3 to import 0 0x0000000000000abc/2 params 11 words \
         caps [senderHosted 4 fd 1, receiverAnswer #7.noop.5]"
    );
    let pipelined = |message: message::Builder<'_>| {
        let mut call = message.init_call();
        call.set_only_promise_pipeline(true);
        call.set_no_promise_pipelining(true);
        call.set_allow_third_party_tail_call(true);
        call.reborrow().get_send_results_to().set_yourself(());
        let mut promised = call.reborrow().init_target().init_promised_answer();
        promised.set_question_id(9);
        promised.init_transform(1).get(0).set_get_pointer_field(1);
        call.init_params();
    };
    assert_eq!(
        received(pipelined),
        "call #0 to answer #9.1 0x0000000000000000/0 params 0 words \
         sendResultsTo yourself allowThirdPartyTailCall noPromisePipelining \
         onlyPromisePipeline"
    );
    assert!(sent(pipelined).starts_with("call #0 to question #9.1 "));
}

#[test]
fn returns() {
    let results = |message: message::Builder<'_>| {
        let mut ret = message.init_return();
        ret.set_answer_id(1);
        ret.set_release_param_caps(false);
        ret.set_no_finish_needed(true);
        let mut caps = ret.init_results().init_cap_table(4);
        caps.reborrow().get(0).set_sender_promise(2);
        caps.reborrow().get(1).set_receiver_hosted(3);
        caps.reborrow().get(2).init_third_party_hosted().set_vine_id(4);
        caps.get(3).set_none(());
    };
    assert_eq!(
        received(results),
        "return #1 results 0 words \
         caps [senderPromise 2, receiverHosted 3, thirdPartyHosted vine 4, none] \
         noFinishNeeded"
    );
    let exception = |message: message::Builder<'_>| {
        let mut exception = message.init_return().init_exception();
        exception.set_reason("no\nsuch \x1b[1mthing\"");
        exception.set_type(exception::Type::Unimplemented);
        exception.set_trace("here");
        exception.init_details(2);
    };
    assert_eq!(
        sent(exception),
        "return #0 exception unimplemented \"no\\nsuch \\u{1b}[1mthing\\\"\" \
         trace 4 bytes details 2 releaseParamCaps"
    );
    for (fill, expected) in [
        ((|mut ret| ret.set_canceled(())) as fn(return_::Builder<'_>), "canceled"),
        (|mut ret| ret.set_results_sent_elsewhere(()), "resultsSentElsewhere"),
        (|mut ret| ret.set_take_from_other_question(8), "takeFromOtherQuestion #8"),
        (|ret| _ = ret.init_await_from_third_party(), "awaitFromThirdParty 0 words"),
    ] {
        let text = sent(|message| fill(message.init_return()));
        assert_eq!(text, format!("return #0 {expected} releaseParamCaps"));
    }
}

#[test]
fn the_other_kinds() {
    let bootstrap = |message: message::Builder<'_>| message.init_bootstrap().set_question_id(5);
    assert_eq!(sent(bootstrap), "bootstrap #5");

    let finish = |message: message::Builder<'_>| message.init_finish().set_question_id(6);
    assert_eq!(sent(finish), "finish #6 releaseResultCaps requireEarlyCancellationWorkaround");

    let resolve = |message: message::Builder<'_>| {
        let mut resolve = message.init_resolve();
        resolve.set_promise_id(4);
        resolve.init_cap().set_sender_hosted(5);
    };
    assert_eq!(sent(resolve), "resolve export 4 to senderHosted 5");
    assert_eq!(received(resolve), "resolve import 4 to senderHosted 5");

    let rejection = |message: message::Builder<'_>| {
        message.init_resolve().init_exception().set_reason("gone");
    };
    assert_eq!(sent(rejection), "resolve export 0 to exception failed \"gone\"");

    let release = |message: message::Builder<'_>| {
        let mut release = message.init_release();
        release.set_id(3);
        release.set_reference_count(2);
    };
    assert_eq!(sent(release), "release import 3 count 2");
    assert_eq!(received(release), "release export 3 count 2");

    let disembargo = |message: message::Builder<'_>| {
        let mut disembargo = message.init_disembargo();
        disembargo.reborrow().init_target().set_imported_cap(1);
        disembargo.get_context().set_sender_loopback(2);
    };
    assert_eq!(sent(disembargo), "disembargo to import 1 senderLoopback 2");
    assert_eq!(received(disembargo), "disembargo to export 1 senderLoopback 2");

    let abort = |message: message::Builder<'_>| message.init_abort().set_reason("bad id");
    assert_eq!(received(abort), "abort failed \"bad id\"");

    let provide = |message: message::Builder<'_>| _ = message.init_provide().init_target();
    assert_eq!(sent(provide), "provide #0 to import 0 recipient 0 words");
    let accept = |message: message::Builder<'_>| message.init_accept().set_embargo(b"abc");
    assert_eq!(sent(accept), "accept #0 provision 0 words embargo 3 bytes");
    let answer = |message: message::Builder<'_>| {
        message.init_third_party_answer().set_answer_id(1 << 30);
    };
    assert_eq!(sent(answer), "thirdPartyAnswer #1073741824 completion 0 words");
    let join = |message: message::Builder<'_>| _ = message.init_join().init_target();
    assert_eq!(sent(join), "join #0 to import 0 keyPart 0 words");
    let save = |message: message::Builder<'_>| _ = message.init_obsolete_save();
    assert_eq!(sent(save), "obsoleteSave");
}

#[test]
fn what_comes_back_as_unimplemented_is_described_as_its_sender_did() {
    let release = |message: message::Builder<'_>| {
        message.init_unimplemented().init_release().set_id(3);
    };
    assert_eq!(received(release), "unimplemented (release import 3 count 0)");
    assert_eq!(sent(release), "unimplemented (release export 3 count 0)");
    let deep = |message: message::Builder<'_>| {
        let mut inner = message.init_unimplemented();
        for _ in 0..10 {
            inner = inner.init_unimplemented();
        }
    };
    let text = "unimplemented (unimplemented (unimplemented (unimplemented (…))))";
    assert_eq!(sent(deep), text);
}

#[test]
fn long_things_are_cut_off() {
    let many = build(|message| {
        let mut params = message.init_call().init_params();
        params.reborrow().init_cap_table(1000);
    });
    let mut options = DescribeOptions { max_items: 2, ..DescribeOptions::default() };
    let text = describe(&many, Direction::Sent, &options);
    assert!(text.ends_with("params 0 words caps [none, none, … 998 more]"), "{text}");

    options.max_length = 14;
    assert_eq!(describe(&many, Direction::Sent, &options), "call #0 to …");
    options.max_length = 3;
    assert_eq!(describe(&many, Direction::Sent, &options), "…");
    options.max_length = 2;
    assert_eq!(describe(&many, Direction::Sent, &options), "ca");
    // Nothing is cut off for the mark's sake.
    options.max_length = text.len();
    assert_eq!(describe(&many, Direction::Sent, &options), text);

    for (reason, kept) in [("äöü", "äöü"), ("äöüß", "äöü…"), (&"€".repeat(900)[..], "€€€…")]
    {
        options = DescribeOptions { max_reason: 3, ..DescribeOptions::default() };
        let long = build(|message| message.init_abort().set_reason(reason));
        let text = describe(&long, Direction::Sent, &options);
        assert_eq!(text, format!("abort failed \"{kept}\""));
        options.max_length = 17;
        assert!(describe(&long, Direction::Sent, &options).len() <= 17 + '…'.len_utf8());
    }
}

fn received_words(words: Vec<Word>) -> Message {
    let lengths = [u32::try_from(words.len()).unwrap()];
    Message::from_segments(words, &lengths).unwrap()
}

#[test]
fn malformed_messages_are_described_as_far_as_they_can_be_read() {
    let describe = |words: Vec<Word>| {
        describe(&received_words(words), Direction::Sent, &DescribeOptions::default())
    };
    let word = |bytes: u64| {
        let mut word = [capnp::word(0, 0, 0, 0, 0, 0, 0, 0)];
        Word::words_to_bytes_mut(&mut word).copy_from_slice(&bytes.to_le_bytes());
        word[0]
    };
    assert!(describe(vec![]).starts_with("malformed, 0 words in 1 segments ("));
    // A null root is a message of the first kind, which wraps another one.
    assert_eq!(
        describe(vec![word(0)]),
        "unimplemented (unimplemented (unimplemented (unimplemented (…))))"
    );
    let root = word(0x0001_0001_0000_0000);
    assert_eq!(describe(vec![root, word(99), word(0)]), "message of unknown kind 99");
    // A call that lies outside of the message.
    let text = describe(vec![root, word(2), word(0x0003_0003_0000_1000)]);
    assert!(text.starts_with("malformed, 3 words in 1 segments ("), "{text}");
    // A call whose target lies outside of the message.
    let call = word(0x0003_0003_0000_0000);
    let target = word(0x0001_0001_0000_1000);
    let mut words = vec![root, word(2), call, word(7), word(0), word(0), target];
    words.extend([word(0); 2]);
    let text = describe(words);
    assert!(text.starts_with("call #7 malformed, 9 words in 1 segments ("), "{text}");
}

#[test]
fn nothing_that_a_peer_sends_makes_it_fail() {
    let options = DescribeOptions::default();
    let bytes: Vec<u8> = build(fill_call).segments().flatten().copied().collect();
    // A fixed sequence of numbers without pattern (xorshift).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let mut words = Word::allocate_zeroed_vec(bytes.len() / 8);
        let mutated = Word::words_to_bytes_mut(&mut words);
        mutated.copy_from_slice(&bytes);
        for _ in 0..=random(4) {
            let place = random(mutated.len());
            mutated[place] =
                [0, 1, 2, 4, 7, 127, 128, 255, u8::try_from(random(256)).unwrap()][random(9)];
        }
        for direction in [Direction::Sent, Direction::Received] {
            let message = received_words(words.clone());
            let text = describe(&message, direction, &options);
            assert!(!text.is_empty() && text.len() <= options.max_length + '…'.len_utf8());
            assert!(!text.contains(char::is_control), "{text}");
        }
    }
}
