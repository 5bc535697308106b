//! The hostile peer of one case.

use std::io::Read;
use std::os::fd::OwnedFd;

use capnp_threads_core::capnp::message::ReaderOptions;
use capnp_threads_core::capnp::serialize;
use rpc_schema::rpc_capnp::message;

use super::case::Must;
use super::says;
use crate::attacks::target::Method;
use crate::support::raw::{self, Cap, Outcome, Said, Target};

/// The question whose answer decides on a case.
pub(super) const ASKED: u32 = 100;
/// A capability of the peer's, which the vat is made to call.
pub(super) const OWN: u32 = 7;
/// The question to whose answer the vat comes when it has looked at everything before.
const MARK: u32 = 0x7000_0000;

/// The peer's end of a connection, as a stream of bytes. Reading ends with a panic if the vat
/// says nothing for so long that it never will.
pub(super) trait Stream: Read {
    /// Writes. A vat that has ended the connection takes nothing.
    fn put(&mut self, bytes: &[u8]);
    /// Writes, with a file descriptor beside the bytes. Only a Unix socket can.
    fn put_fd(&mut self, bytes: &[u8], fd: OwnedFd) {
        let _ = (bytes, fd);
        panic!("no descriptor travels over this");
    }
    /// Ends the writing direction, as a peer does that has nothing more to say.
    fn end(&mut self);
}

/// A message of the vat's.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    said: Said,
    /// The kind of the message that an `unimplemented` sends back.
    echoed: Option<u16>,
}

impl Heard {
    /// Whether this only gives back what the peer has given.
    fn is_quiet(&self) -> bool {
        matches!(self.said, Said::Release { .. } | Said::Finish { .. })
    }
}

/// A peer that says whatever its case wants, and hears what comes of it.
pub(super) struct Peer {
    stream: Box<dyn Stream>,
    /// The vat's object, of which the peer has one reference.
    pub(super) object: u32,
    /// What was heard and nobody has asked for.
    left: Vec<Heard>,
    /// The last bytes that were written.
    last: Vec<u8>,
    has_ended: bool,
}

impl Peer {
    pub(super) fn over(stream: Box<dyn Stream>) -> Self {
        Peer { stream, object: 0, left: Vec::new(), last: Vec::new(), has_ended: false }
    }

    /// Asks for the vat's object, and calls it.
    pub(super) fn begin(&mut self) {
        self.say(&says::bootstrap(0));
        let [object] = self.results(0)[..] else { panic!("no object") };
        self.object = object;
        self.say(&raw::finish(0, false));
        self.call(1, Method::Answer, &[]);
        assert_eq!(self.results(1), [], "the object does not answer");
        self.say(&raw::finish(1, true));
    }

    // ---- Saying

    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.stream.put(bytes);
        self.last.clear();
        self.last.extend_from_slice(bytes);
    }

    pub(super) fn send(&mut self, build: impl FnOnce(message::Builder<'_>)) {
        self.say(&raw::frame(build));
    }

    /// Says something with a file descriptor.
    pub(super) fn say_with_fd(&mut self, bytes: &[u8], fd: OwnedFd) {
        self.stream.put_fd(bytes, fd);
    }

    pub(super) fn end(&mut self) {
        self.stream.end();
        self.has_ended = true;
    }

    /// Calls the object.
    pub(super) fn call(&mut self, question: u32, method: Method, caps: &[Cap]) {
        self.say(&raw::call(question, &Target::Import(self.object), 1, method as u16, caps));
    }

    /// Calls what there is at the end of a path in the results of another question.
    pub(super) fn pipelined(&mut self, question: u32, on: u32, path: Vec<u16>) {
        let target = Target::Answer(on, path);
        self.say(&raw::call(question, &target, 1, Method::Answer as u16, &[]));
    }

    /// Asks for another object, by a method that returns one.
    pub(super) fn given(&mut self, method: Method) -> u32 {
        const QUESTION: u32 = 90;
        self.call(QUESTION, method, &[]);
        let [object] = self.results(QUESTION)[..] else { panic!("no object") };
        self.say(&raw::finish(QUESTION, false));
        object
    }

    /// Makes the vat keep a promise of the peer's, as the first capability of call 80, which is
    /// never answered, and call it, for [`ASKED`].
    pub(super) fn kept_promise(&mut self, promise: u32) -> u32 {
        self.call(80, Method::Keep, &[Cap::SenderPromise(promise)]);
        self.call(ASKED, Method::CallBack, &[Cap::SenderPromise(promise)]);
        self.called(promise)
    }

    /// Makes the vat call the peer, for [`ASKED`], and returns the vat's question.
    pub(super) fn called_back(&mut self) -> u32 {
        self.call(ASKED, Method::CallBack, &[Cap::SenderHosted(OWN)]);
        self.called(OWN)
    }

    /// Makes the vat pass a call on to the peer whose results stay with the vat, and returns
    /// the vat's question.
    pub(super) fn passed_back(&mut self, question: u32) -> u32 {
        let object = self.object;
        self.send(|message| {
            let mut call = message.init_call();
            call.set_question_id(question);
            call.set_interface_id(1);
            call.set_method_id(Method::Pass as u16);
            raw::write_target(call.reborrow().init_target(), &Target::Import(object));
            call.reborrow().get_send_results_to().set_yourself(());
            raw::write_payload(call.init_params(), &[Cap::SenderHosted(OWN)]);
        });
        self.called(OWN)
    }

    /// Makes the vat pass [`ASKED`] on to the peer, with these capabilities behind the peer's
    /// own one. Its results are to stay with the peer. Returns the vat's question.
    pub(super) fn tail_called(&mut self, more: &[Cap]) -> u32 {
        let caps = [&[Cap::SenderHosted(OWN)], more].concat();
        self.call(ASKED, Method::Pass, &caps);
        self.called(OWN)
    }

    // ---- Hearing

    /// The next message; `None` at the end.
    fn hear(&mut self) -> Option<Heard> {
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(None);
        let message = serialize::try_read_message(&mut self.stream, options).ok().flatten()?;
        let said = raw::said(&message);
        let echoed =
            match message.get_root::<message::Reader<'_>>().and_then(|root| match root.which() {
                Ok(message::Unimplemented(echoed)) => echoed.map(Some),
                _ => Ok(None),
            }) {
                Ok(echoed) => echoed.map(says::tag),
                Err(error) => panic!("an echo that cannot be read: {error}"),
            };
        Some(Heard { said, echoed })
    }

    /// Waits for a message for which `wanted` returns something.
    pub(super) fn until<R>(&mut self, what: &str, mut wanted: impl FnMut(&Said) -> Option<R>) -> R {
        let found =
            self.left.iter().enumerate().find_map(|(at, heard)| Some((at, wanted(&heard.said)?)));
        if let Some((at, found)) = found {
            self.left.remove(at);
            return found;
        }
        while let Some(heard) = self.hear() {
            match wanted(&heard.said) {
                Some(found) => return found,
                None => self.left.push(heard),
            }
        }
        panic!("the vat ended the connection instead of {what}");
    }

    /// Waits for the answer to a question.
    pub(super) fn outcome(&mut self, question: u32) -> Outcome {
        self.until(&format!("an answer to question {question}"), |said| match said {
            Said::Return { answer, outcome } if *answer == question => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Waits for results, and returns the vat's capabilities in them.
    pub(super) fn results(&mut self, question: u32) -> Vec<u32> {
        let Outcome::Results(caps) = self.outcome(question) else {
            panic!("question {question} has no results")
        };
        let own = caps.iter().map(|cap| match cap {
            Cap::SenderHosted(id) | Cap::SenderPromise(id) => *id,
            other => panic!("{other:?} in the results of question {question}"),
        });
        own.collect()
    }

    /// Waits for an exception.
    pub(super) fn fails(&mut self, question: u32, reason: &str) {
        match self.outcome(question) {
            Outcome::Exception(told) if told.contains(reason) => {}
            other => panic!("{other:?} instead of an exception: {reason}"),
        }
    }

    /// Waits for a call of a capability of the peer's, and returns the vat's question.
    pub(super) fn called(&mut self, own: u32) -> u32 {
        self.until(&format!("a call of {own}"), |said| match said {
            Said::Call { question, target: Target::Import(id), .. } if *id == own => {
                Some(*question)
            }
            _ => None,
        })
    }

    /// Waits for an `unimplemented`, and returns the kind of what it sends back.
    pub(super) fn echo(&mut self) -> u16 {
        while let Some(heard) = self.hear() {
            match heard.echoed {
                Some(kind) => return kind,
                None => self.left.push(heard),
            }
        }
        panic!("the vat ended the connection instead of an echo");
    }

    /// Waits for a Release.
    pub(super) fn released(&mut self, own: u32) {
        self.until(&format!("a release of {own}"), |said| {
            matches!(said, Said::Release { id, .. } if *id == own).then_some(())
        });
    }

    // ---- The end

    /// Whether what had to happen has happened, and nothing else.
    pub(super) fn verdict(&mut self, must: &Must) -> Result<(), String> {
        let asked_for_a_sign = !self.has_ended;
        let said = std::mem::take(&mut self.last);
        if asked_for_a_sign {
            self.stream.put(&[says::bootstrap(MARK), raw::finish(MARK, true)].concat());
        }
        let (mut goes_on, mut over) = (false, false);
        loop {
            let loud = self.loud();
            if goes_on && (must.is_met(&loud, &said) || loud.len() >= must.count()) {
                break;
            }
            match self.hear() {
                None => {
                    over = true;
                    break;
                }
                Some(Heard { said: Said::Return { answer: MARK, .. }, .. }) => {
                    if must.is_an_end() {
                        return Err("the connection goes on".to_owned());
                    }
                    goes_on = true;
                }
                Some(heard) => self.left.push(heard),
            }
        }
        let loud = self.loud();
        if over != must.is_an_end() || !must.is_met(&loud, &said) || loud.len() > must.count() {
            let end = if over { "ended" } else { "goes on" };
            return Err(format!("instead of {must}: the connection {end}"));
        }
        self.left.clear();
        Ok(())
    }

    /// What the vat has said and nobody has asked for.
    pub(super) fn heard(&self) -> &[Heard] {
        &self.left
    }

    fn loud(&self) -> Vec<Heard> {
        self.left.iter().filter(|heard| !heard.is_quiet()).cloned().collect()
    }

    /// Ends the connection, and waits for the vat's end of it.
    pub(super) fn leave(mut self) -> Result<(), String> {
        if !self.has_ended {
            self.end();
        }
        while let Some(heard) = self.hear() {
            if matches!(heard.said, Said::Abort(_)) {
                return Err(format!("as the peer leaves, the vat says {heard:?}"));
            }
        }
        Ok(())
    }
}

impl Must {
    /// Whether the vat has said what it must, possibly among other things. `said` are the last
    /// bytes of the peer.
    fn is_met(&self, heard: &[Heard], said: &[u8]) -> bool {
        let answered = |wanted: &dyn Fn(&Outcome) -> bool| {
            heard.iter().any(|heard| match &heard.said {
                Said::Return { answer: ASKED, outcome } => wanted(outcome),
                _ => false,
            })
        };
        match self {
            Must::Aborts(reason) => heard.iter().any(|heard| match &heard.said {
                Said::Abort(told) => told.contains(reason),
                _ => false,
            }),
            Must::Fails(reason) => answered(&|outcome| match outcome {
                Outcome::Exception(told) => told.contains(reason),
                _ => false,
            }),
            Must::Answers => answered(&|outcome| matches!(outcome, Outcome::Results(_))),
            Must::Cancels => answered(&|outcome| *outcome == Outcome::Canceled),
            Must::Keeps => answered(&|outcome| *outcome == Outcome::SentElsewhere),
            Must::Echoes => {
                let sent = says::tag_of(said);
                heard.iter().any(|heard| heard.echoed.is_some() && heard.echoed == sent)
            }
            Must::Ignores | Must::Shows(_) | Must::Ends => true,
        }
    }

    /// How many messages of the vat's this is.
    fn count(&self) -> usize {
        match self {
            Must::Ignores | Must::Shows(_) | Must::Ends => 0,
            _ => 1,
        }
    }

    fn is_an_end(&self) -> bool {
        matches!(self, Must::Aborts(_) | Must::Ends)
    }
}
