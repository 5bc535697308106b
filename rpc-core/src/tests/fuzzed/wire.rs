//! Bytes that are read as a message.

use capnp::Word;

use crate::tests::line::line;
use crate::wire::message::Message as Frame;
use crate::wire::plain::alike::read_alike;
use crate::wire::print::{DescribeOptions, Direction, describe};
use crate::wire::{Message, Return, ReturnKind, decode_within, encode};

/// More capabilities than a message of this size needs.
const MOST_NAMED: usize = 1000;

/// Reading a message comes to an end, whichever way, and so does describing it, in one line
/// of bounded length. What was read of a message without content means the same when it is written.
pub fn message(bytes: &[u8]) {
    let Some(frame) = framed(bytes) else { return };
    for direction in [Direction::Sent, Direction::Received] {
        let options = DescribeOptions { max_length: 300, ..DescribeOptions::default() };
        let text = describe(&frame, direction, &options);
        assert!(text.len() <= 300, "{} bytes: {text}", text.len());
        assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    }
    if let Err(difference) = read_alike(|| super::super::net::received(&frame)) {
        panic!("{difference}");
    }
    let words = frame.size_in_words();
    let Ok(message) = decode_within(frame, MOST_NAMED) else { return };
    // What a message is counted for covers what it holds.
    assert!(message.size_estimate() >= 8 * held(&message, words), "{message:?}");
    if !can_be_written(&message) {
        return;
    }
    let before = line(&message);
    let written = encode(message).unwrap();
    let after = decode_within(super::super::net::received(&written), MOST_NAMED).unwrap();
    assert_eq!(line(&after), before);
}

/// The words of the frame that a message still holds.
fn held(message: &Message, words: usize) -> usize {
    match message {
        Message::Call(call) if call.params.frame.is_some() => words,
        Message::Return(Return { outcome: ReturnKind::Results(results), .. })
            if results.frame.is_some() =>
        {
            words
        }
        Message::Unknown(_) => words,
        _ => 0,
    }
}

/// Whether this library writes such messages, other than with content that was built for
/// them.
fn can_be_written(message: &Message) -> bool {
    use crate::wire::{Context, Descriptor, Disembargo, Resolve, Target};
    fn is_known(descriptor: &Descriptor) -> bool {
        match descriptor {
            Descriptor::Unknown(_) | Descriptor::ThirdPartyHosted(_, None) => false,
            Descriptor::ReceiverAnswer(answer) => answer.path.is_some(),
            _ => true,
        }
    }
    fn is_target(target: &Target) -> bool {
        match target {
            Target::ImportedCap(_) => true,
            Target::PromisedAnswer(answer) => answer.path.is_some(),
            Target::Unknown => false,
        }
    }
    match message {
        Message::Bootstrap(bootstrap) => bootstrap.object.is_none(),
        Message::Return(ret) => {
            !matches!(ret.outcome, ReturnKind::Results(_) | ReturnKind::Unknown)
        }
        Message::Resolve(Resolve { resolution: Ok(descriptor), .. }) => is_known(descriptor),
        Message::Resolve(_) | Message::Finish(_) | Message::Release(_) | Message::Abort(_) => true,
        Message::Disembargo(Disembargo { target, context }) => {
            is_target(target) && *context != Context::Unknown
        }
        Message::Provide(provide) => is_target(&provide.target) && provide.recipient.is_some(),
        Message::Accept(accept) => accept.provision.is_some(),
        Message::Join(join) => is_target(&join.target) && join.key.is_some(),
        Message::Unimplemented(_) | Message::Call(_) | Message::Unknown(_) => false,
    }
}

/// A message that begins with its framing. What is missing at the end is zero, so that
/// little has to be right.
fn framed(bytes: &[u8]) -> Option<Frame> {
    const MOST: usize = 1 << 14;
    let number = |at: usize| {
        let bytes = bytes.get(4 * at..4 * at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let segments = usize::try_from(number(0)?).ok()?.checked_add(1)?;
    if segments > 16 {
        return None;
    }
    let lengths: Vec<u32> = (1..=segments).map(number).collect::<Option<_>>()?;
    let total: usize = lengths.iter().map(|length| *length as usize).sum();
    if total > MOST {
        return None;
    }
    let content = bytes.get((4 * (segments + 1)).next_multiple_of(8)..)?;
    let mut words = Word::allocate_zeroed_vec(total);
    let there = content.len().min(8 * total);
    Word::words_to_bytes_mut(&mut words)[..there].copy_from_slice(&content[..there]);
    Frame::from_segments(words, &lengths)
}
