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
        params: Content { frame: empty(|root| _ = root.init_call().init_params()).into(), caps },
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
        outcome: ReturnKind::Results(Content { frame: frame.into(), caps }),
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
