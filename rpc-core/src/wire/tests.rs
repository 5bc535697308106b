#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::sync::Arc;

use super::attached::NONE;
use super::*;
use crate::wire::rpc_capnp::{cap_descriptor, message, payload};

fn fd() -> SharedFd {
    Arc::new(File::open("/dev/null").unwrap().into())
}

fn table(caps: impl IntoIterator<Item = (Descriptor, Option<SharedFd>)>) -> Descriptors {
    let mut table = Descriptors::default();
    for (descriptor, fd) in caps {
        table.push(descriptor, fd);
    }
    table
}

fn empty(fill: impl FnOnce(message::Builder<'_>)) -> Frame {
    let mut builder = capnp::message::Builder::new_default();
    fill(builder.init_root());
    builder.into()
}

fn call(caps: Descriptors) -> Message {
    Message::Call(Call {
        question: 0,
        target: Target::ImportedCap(0),
        interface: 0,
        method: 0,
        params: Content {
            frame: Some(empty(|root| _ = root.init_call().init_params()).into()),
            caps,
        },
        results_to: ResultsTo::Caller,
        hint: Hint::None,
    })
}

/// A call whose capabilities name file descriptors by these indices.
fn call_naming(indices: &[u8], fds: Vec<SharedFd>) -> Frame {
    let mut builder = capnp::message::Builder::new_default();
    let root = builder.init_root::<message::Builder<'_>>();
    write_naming(root.init_call().init_params(), indices);
    let mut frame = Frame::from(builder);
    frame.set_fds(fds);
    frame
}

fn write_naming(payload: payload::Builder<'_>, indices: &[u8]) {
    let mut caps = payload.init_cap_table(u32::try_from(indices.len()).unwrap());
    for (cap, index) in (0..).zip(indices) {
        let mut cap = caps.reborrow().get(cap);
        cap.set_sender_hosted(0);
        cap.set_attached_fd(*index);
    }
}

/// What the capabilities of a call name, as it is on the wire.
fn named(frame: &Frame) -> Vec<u8> {
    let reader = capnp::message::Reader::new(frame, capnp::message::ReaderOptions::new());
    let message::Call(call) = reader.get_root::<message::Reader<'_>>().unwrap().which().unwrap()
    else {
        panic!("not a call")
    };
    let table = call.unwrap().get_params().unwrap().get_cap_table().unwrap();
    table.iter().map(cap_descriptor::Reader::get_attached_fd).collect()
}

fn caps_of(message: Message) -> Descriptors {
    let content = match message {
        Message::Call(call) => call.params,
        Message::Return(Return { outcome: ReturnKind::Results(content), .. }) => content,
        other => panic!("no content: {other:?}"),
    };
    content.caps
}

/// What each of so many capabilities got.
fn got(mut caps: Descriptors, len: usize) -> Vec<Option<*const crate::fd::OwnedFd>> {
    (0..len).map(|cap| caps.fds.take(cap).map(|fd| Arc::as_ptr(&fd))).collect()
}

#[test]
fn each_capability_gets_what_was_attached_to_it() {
    let [a, b] = [fd(), fd()];
    let frame = encode(call(table([
        (Descriptor::SenderHosted(3), None),
        (Descriptor::SenderHosted(4), Some(Arc::clone(&a))),
        (Descriptor::ReceiverHosted(5), None),
        (Descriptor::SenderHosted(6), Some(Arc::clone(&b))),
    ])))
    .unwrap();
    assert_eq!(named(&frame), [NONE, 0, NONE, 1]);
    assert!(Arc::ptr_eq(&frame.fds()[0], &a) && Arc::ptr_eq(&frame.fds()[1], &b));
    assert_eq!(frame.fds().len(), 2);

    let caps = caps_of(decode(frame).unwrap());
    let expected = [None, Some(Arc::as_ptr(&a)), None, Some(Arc::as_ptr(&b))];
    assert_eq!(got(caps, 4), expected);
    assert_eq!([&a, &b].map(Arc::strong_count), [1, 1]);
}

#[test]
fn results_and_resolutions_carry_them_too() {
    let a = fd();
    let frame = empty(|root| _ = root.init_return().init_results());
    let caps = table([(Descriptor::SenderHosted(3), Some(Arc::clone(&a)))]);
    let ret = Message::Return(Return {
        answer: 1,
        release_params: false,
        no_finish_needed: false,
        outcome: ReturnKind::Results(Content { frame: Some(frame.into()), caps }),
    });
    let caps = caps_of(decode(encode(ret).unwrap()).unwrap());
    assert_eq!(got(caps, 1), [Some(Arc::as_ptr(&a))]);

    let resolve = Message::Resolve(Resolve {
        promise: 1,
        resolution: Ok(Descriptor::SenderHosted(3)),
        fds: Attached::to_only(Some(Arc::clone(&a))),
    });
    let Message::Resolve(mut resolve) = decode(encode(resolve).unwrap()).unwrap() else {
        panic!("not a resolve")
    };
    assert!(Arc::ptr_eq(&resolve.fds.take(0).unwrap(), &a));
}

#[test]
fn the_first_that_names_one_gets_it() {
    let [a, b] = [fd(), fd()];
    let frame = call_naming(&[1, 0, 1, 0], vec![Arc::clone(&a), Arc::clone(&b)]);
    let caps = caps_of(decode(frame).unwrap());
    assert_eq!(got(caps, 4), [Some(Arc::as_ptr(&b)), Some(Arc::as_ptr(&a)), None, None]);
}

#[test]
fn an_index_beyond_those_that_came_means_none() {
    let a = fd();
    let frame = call_naming(&[1, 254, 255, 0], vec![Arc::clone(&a)]);
    let caps = caps_of(decode(frame).unwrap());
    assert_eq!(got(caps, 4), [None, None, None, Some(Arc::as_ptr(&a))]);
    assert_eq!(got(caps_of(decode(call_naming(&[0], Vec::new())).unwrap()), 1), [None]);
}

#[test]
fn what_nobody_names_is_closed() {
    let with_fd = |fill: fn(message::Builder<'_>)| {
        let mut builder = capnp::message::Builder::new_default();
        fill(builder.init_root());
        let mut frame = Frame::from(builder);
        frame.set_fds(vec![fd()]);
        frame
    };
    let frames = [
        call_naming(&[], vec![fd()]),
        call_naming(&[255, 1], vec![fd()]),
        with_fd(|root| _ = root.init_release()),
        with_fd(|root| _ = root.init_join()),
        with_fd(|root| _ = root.init_resolve().init_exception()),
        with_fd(|root| {
            let call = root.init_unimplemented().init_call();
            write_naming(call.init_params(), &[0]);
        }),
    ];
    for frame in frames {
        let weak = Arc::downgrade(&frame.fds()[0]);
        let message = decode(frame).unwrap();
        assert_eq!(weak.strong_count(), 0, "{message:?}");
    }
}

#[test]
fn what_is_not_wanted_is_closed_with_its_message() {
    let a = fd();
    let weak = Arc::downgrade(&a);
    let message = decode(call_naming(&[0], vec![a])).unwrap();
    assert_eq!(weak.strong_count(), 1);
    drop(message);
    assert_eq!(weak.strong_count(), 0);
}

/// The words of a message that has one segment.
fn words(message: Message) -> Vec<u64> {
    use capnp::message::ReaderSegments;
    let frame = encode(message).unwrap();
    assert_eq!(frame.segment_count(), 1);
    let segment = frame.get_segment(0).unwrap();
    segment.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "a message may hold none")]
fn token(bytes: &[u8]) -> Option<Token> {
    Some(Token::of_bytes(bytes).unwrap())
}

/// The root of a message of this kind, whose only pointer leads right behind it to a struct
/// of so many words of data and so many pointers.
fn root(kind: u64, data: u64, pointers: u64) -> [u64; 3] {
    [struct_pointer(0, 1, 1), kind, struct_pointer(0, data, pointers)]
}

fn struct_pointer(offset: u64, data: u64, pointers: u64) -> u64 {
    offset << 2 | data << 32 | pointers << 48
}

/// A pointer to bytes.
fn data_pointer(offset: u64, length: u64) -> u64 {
    1 | offset << 2 | 2 << 32 | length << 35
}

/// Layout of `Provide`: one word of data, with the question id; target and recipient.
#[test]
fn a_provide_lies_as_the_schema_says() {
    let provide =
        Provide { question: 1 << 31 | 7, target: Target::ImportedCap(5), recipient: token(b"abc") };
    let expected = [
        &root(10, 1, 2)[..],
        &[1 << 31 | 7, struct_pointer(1, 1, 1), data_pointer(2, 3)],
        &[5, 0],
        &[u64::from_le_bytes(*b"abc\0\0\0\0\0")],
    ];
    assert_eq!(words(Message::Provide(provide)), expected.concat());
}

/// Layout of `Join`, with a `JoinKeyPart` of `rpc-twoparty.capnp`: `joinId`, `partCount` and
/// `partNum` in one word.
#[test]
fn a_join_lies_as_the_schemas_say() {
    let key = JoinKey::Part(JoinPart { join: 9, count: 3, number: 2 });
    let join =
        Join { question: 7, target: Target::ImportedCap(5), key: Some(key.token().unwrap()) };
    let expected = [
        &root(12, 1, 2)[..],
        &[7, struct_pointer(1, 1, 1), struct_pointer(2, 1, 0)],
        &[5, 0],
        &[9 | 3 << 32 | 2 << 48],
    ];
    assert_eq!(words(Message::Join(join)), expected.concat());
}

/// Layout of `Accept`, whose embargo is `Data` in the second pointer.
#[test]
fn an_accept_lies_as_the_schema_says() {
    let accept = |embargo: Option<&[u8]>| {
        let embargo = embargo.map(Into::into);
        words(Message::Accept(Accept { question: 3, provision: token(b"abc"), embargo }))
    };
    let root = root(11, 1, 2);
    let abc = u64::from_le_bytes(*b"abc\0\0\0\0\0");
    assert_eq!(accept(None), [&root[..], &[3, data_pointer(1, 3), 0, abc]].concat());
    let e = u64::from(b'e');
    let expected = [&root[..], &[3, data_pointer(2, 3), data_pointer(0, 1), e, abc]].concat();
    assert_eq!(accept(Some(b"e")), expected);
    // An embargo without a name is an embargo.
    let Message::Accept(read) = decode(
        encode(Message::Accept(Accept { question: 3, provision: None, embargo: Some([].into()) }))
            .unwrap(),
    )
    .unwrap() else {
        panic!("not an accept")
    };
    assert_eq!(read.embargo.as_deref(), Some(&[][..]));
    // The token was a null pointer, which is a value, too.
    assert!(read.provision.is_some());
}

/// Layout of `Disembargo.context.accept`; the transform of the promised answer is null.
#[test]
fn a_disembargo_of_an_accept_lies_as_the_schema_says() {
    let answer = PromisedAnswer { question: 1 << 31, path: Some([].into()) };
    let disembargo = Disembargo {
        target: Target::PromisedAnswer(answer),
        context: Context::Accept((*b"e").into()),
    };
    let expected = [
        &root(13, 1, 2)[..],
        // Tag 2, in the second half of the word.
        &[2 << 32, struct_pointer(1, 1, 1), data_pointer(5, 1)],
        // Tag 1 of the target, whose only pointer leads to the promised answer.
        &[1 << 32, struct_pointer(0, 1, 1), 1 << 31, 0],
        &[u64::from(b'e')],
    ];
    let found = words(Message::Disembargo(disembargo));
    // Where the bytes lie in the segment is up to the order of writing.
    assert_eq!(found.len(), expected.concat().len());
    assert_eq!((&found[..5], &found[6..]), (&expected.concat()[..5], &expected.concat()[6..]));
}

#[test]
fn a_contact_travels_with_its_vine() {
    let named = Descriptor::ThirdPartyHosted(7, token(b"how to get there"));
    let frame = encode(call(table([(named.clone(), None)]))).unwrap();
    assert_eq!(caps_of(decode(frame).unwrap()).descriptors, [named]);
}

#[test]
fn a_token_is_bounded_and_holds_no_capability() {
    let most = vec![7; 8 * (super::token::MAX_WORDS - 1)];
    let token = Token::of_bytes(&most).unwrap();
    assert_eq!(token.bytes(), Some(most));
    assert!(Token::of_bytes(&vec![7; 8 * super::token::MAX_WORDS + 1]).is_err());
    // Whatever a peer sends instead is no token, and the message can be read nevertheless.
    let read = |fill: fn(message::Builder<'_>)| {
        let Message::Accept(accept) = decode(empty(fill)).unwrap() else { panic!("no accept") };
        accept.provision
    };
    let large = read(|root| {
        let provision = root.init_accept().init_provision();
        provision.initn_as::<capnp::data::Builder<'_>>(9 * 512);
    });
    assert_eq!(large, None);
    assert!(!format!("{token:?}").contains('7'), "{token:?}");
}

/// Before a token lie a message and more, which count for the bound of depth of whoever reads it.
#[test]
fn a_token_that_is_not_too_deep_arrives_wherever_it_travels() {
    let deep = |depth: usize| {
        Token::build(|root| {
            let mut inner = root.init_as::<message::Builder<'_>>();
            for _ in 1..depth {
                inner = inner.init_unimplemented();
            }
            Ok(())
        })
    };
    let depth = (1..100).take_while(|depth| deep(*depth).is_ok()).last().unwrap();
    assert!(depth > 50, "{depth}");
    let token = deep(depth).ok();
    let target = Target::ImportedCap(0);
    let named = || Descriptor::ThirdPartyHosted(7, token.clone());
    let results = empty(|root| _ = root.init_return().init_results());
    let results = Content { frame: Some(results.into()), caps: table([(named(), None)]) };
    let sent = [
        Message::Provide(Provide { question: 1, target: target.clone(), recipient: token.clone() }),
        Message::Accept(Accept { question: 1, provision: token.clone(), embargo: None }),
        Message::Join(Join { question: 1, target, key: token.clone() }),
        Message::Resolve(Resolve { promise: 1, resolution: Ok(named()), fds: Attached::default() }),
        call(table([(named(), None)])),
        Message::Return(Return {
            answer: 1,
            release_params: false,
            no_finish_needed: false,
            outcome: ReturnKind::Results(results),
        }),
    ];
    for message in sent {
        let frame = encode(message).unwrap();
        let arrived = match decode(frame).unwrap() {
            Message::Provide(provide) => provide.recipient,
            Message::Accept(accept) => accept.provision,
            Message::Join(join) => join.key,
            Message::Resolve(Resolve {
                resolution: Ok(Descriptor::ThirdPartyHosted(_, token)),
                ..
            }) => token,
            other => match &caps_of(other).descriptors[..] {
                [Descriptor::ThirdPartyHosted(_, token)] => token.clone(),
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(arrived, token);
    }
}
