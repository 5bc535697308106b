//! Messages by choice: of all kinds, about few things, right or wrong.

use super::choices::Choices;
use crate::error::Error;
use crate::tests::raw;
use crate::wire::{
    self, Accept, Attached, Context, Descriptor, Disembargo, Finish, Hint, Join, JoinKey, JoinPart,
    Message, PromisedAnswer, Provide, Release, Resolve, ResultsTo, Return, ReturnKind, Target,
    Token,
};

/// One message.
pub(super) fn message(choices: &mut Choices<'_>) -> Message {
    match choices.byte() {
        0..=79 => call(choices),
        80..=109 => Message::Finish(Finish {
            question: choices.id(),
            release_results: choices.flag(),
            early_cancellation_workaround: choices.flag(),
        }),
        110..=149 => ret(choices),
        150..=174 => {
            let promise = choices.id();
            let resolution = if choices.below(6) == 0 {
                Err(Error::failed("by choice"))
            } else {
                Ok(descriptor(choices))
            };
            Message::Resolve(Resolve { promise, resolution, fds: Attached::default() })
        }
        175..=194 => Message::Release(Release {
            id: choices.id(),
            count: match choices.byte() {
                0 => 0,
                255 => u32::MAX,
                byte => 1 + u32::from(byte % 3),
            },
        }),
        195..=214 => {
            let target = target(choices);
            let context = match choices.below(5) {
                0 | 1 => Context::SenderLoopback(choices.id()),
                2 | 3 => Context::ReceiverLoopback(choices.id()),
                _ => Context::Accept(vec![choices.byte() % 4].into()),
            };
            Message::Disembargo(Disembargo { target, context })
        }
        215..=224 => raw::bootstrap(choices.id()),
        225..=234 => Message::Provide(Provide {
            question: choices.id(),
            target: target(choices),
            recipient: Some(token(choices, 1)),
        }),
        235..=244 => {
            let question = choices.id();
            let provision = Some(token(choices, 1));
            let embargo = choices.flag().then(|| vec![choices.byte() % 4].into());
            Message::Accept(Accept { question, provision, embargo })
        }
        245..=251 => {
            let echoed = match choices.below(7) {
                0 => return Message::Unimplemented(None),
                1 => raw::bootstrap(choices.id()),
                2 => Message::Resolve(Resolve {
                    promise: choices.id(),
                    resolution: Ok(descriptor(choices)),
                    fds: Attached::default(),
                }),
                3 => raw::release(choices.id(), 1),
                4 => Message::Accept(Accept {
                    question: choices.id(),
                    provision: Some(token(choices, 1)),
                    embargo: None,
                }),
                5 => raw::finish(choices.id(), true),
                _ => Message::Provide(Provide {
                    question: choices.id(),
                    target: target(choices),
                    recipient: Some(token(choices, 1)),
                }),
            };
            Message::Unimplemented(Some(Box::new(echoed)))
        }
        252 => Message::Abort(Error::failed("by choice")),
        _ => Message::Join(Join {
            question: choices.id(),
            target: target(choices),
            key: join_key(choices).token().ok(),
        }),
    }
}

/// What is asked of few comparisons: with a nonce, or in parts, which may not fit together.
fn join_key(choices: &mut Choices<'_>) -> JoinKey {
    let join = choices.byte() % 2;
    match choices.below(4) {
        0 => JoinKey::Nonce([join; 32]),
        count => JoinKey::Part(JoinPart {
            join: join.into(),
            count: u16::from(choices.flag()) + 1,
            number: (count % 3).try_into().unwrap_or_default(),
        }),
    }
}

fn call(choices: &mut Choices<'_>) -> Message {
    let (question, target) = (choices.id(), target(choices));
    let label = u64::from(choices.byte());
    let caps = descriptors(choices);
    let (results_to, hint) = match choices.below(16) {
        0 => (ResultsTo::Yourself, Hint::None),
        1 => (ResultsTo::Caller, Hint::OnlyPipeline),
        2 => (ResultsTo::Caller, Hint::NoPipelining),
        _ => (ResultsTo::Caller, Hint::None),
    };
    match raw::call_to(question, target, label, &caps, results_to) {
        Message::Call(call) => Message::Call(wire::Call { hint, ..call }),
        other => other,
    }
}

fn ret(choices: &mut Choices<'_>) -> Message {
    let answer = choices.id();
    let flags = choices.byte();
    let message = match choices.below(10) {
        0 => raw::ret_with(answer, ReturnKind::Exception(Error::failed("by choice"))),
        1 => raw::ret_with(answer, ReturnKind::Canceled),
        2 => raw::ret_with(answer, ReturnKind::ResultsSentElsewhere),
        3 => raw::ret_with(answer, ReturnKind::TakeFromOtherQuestion(choices.id())),
        _ => {
            let caps = descriptors(choices);
            raw::ret(answer, 0, &caps)
        }
    };
    match message {
        Message::Return(ret) => Message::Return(Return {
            release_params: flags & 1 != 0,
            no_finish_needed: flags & 6 == 6,
            ..ret
        }),
        other => other,
    }
}

fn descriptors(choices: &mut Choices<'_>) -> Vec<Descriptor> {
    (0..choices.below(3)).map(|_| descriptor(choices)).collect()
}

fn descriptor(choices: &mut Choices<'_>) -> Descriptor {
    match choices.below(8) {
        0 | 1 => Descriptor::SenderHosted(choices.id()),
        2 | 3 => Descriptor::SenderPromise(choices.id()),
        4 => Descriptor::ReceiverHosted(choices.id()),
        5 => Descriptor::ReceiverAnswer(promised(choices)),
        6 => {
            let vine = choices.id();
            Descriptor::ThirdPartyHosted(vine, Some(token(choices, 2)))
        }
        _ => Descriptor::None,
    }
}

fn target(choices: &mut Choices<'_>) -> Target {
    if choices.below(3) == 0 {
        Target::PromisedAnswer(promised(choices))
    } else {
        Target::ImportedCap(choices.id())
    }
}

fn promised(choices: &mut Choices<'_>) -> PromisedAnswer {
    let question = choices.id();
    let path: &[u16] = match choices.below(8) {
        0 => &[],
        1 => &[1],
        2 => &[0, 0],
        _ => &[0],
    };
    raw::promised(question, path)
}

/// A token as [`Neighbourhood`](crate::tests::neighbours::Neighbourhood) makes them: the
/// numbers of some vats, and what was counted.
fn token(choices: &mut Choices<'_>, vats: usize) -> Token {
    let mut bytes: Vec<u8> = (0..vats).map(|_| choices.byte() % 4).collect();
    bytes.extend(u64::from(choices.byte() % 8).to_le_bytes());
    Token::of_bytes(&bytes).unwrap()
}
