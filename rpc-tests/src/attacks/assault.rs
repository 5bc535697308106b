//! A peer in the middle of an attack.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use capnp_threads_core::{Concurrency, ConnConfig, Connection};
use parking_lot::{Condvar, Mutex};

use super::seen::Seen;
use super::siege::{Own, Siege};
use super::target::{Method, target};
use super::words::{self, Content};
use crate::support::raw::{RawPeer, Said};
use crate::support::{LONG, watchdog};

/// The question with which an attacker asks for its target, and the first of those with
/// which it finds out how far the vat has come.
const TARGET: u32 = 0;
const MARKS: u32 = 1 << 31;

/// How many pieces of an attack may be on their way to the vat, for an attacker that
/// wants to be answered.
const AHEAD: u32 = 4;

/// One connection of an attacker that reads what it is told.
#[derive(Debug)]
pub(super) struct Assault<'a> {
    siege: &'a Siege,
    /// What the vat offers it.
    pub(super) object: u32,
    /// The vat's side.
    pub(super) connection: Connection,
    writer: UnixStream,
    heard: Arc<Heard>,
    reading: JoinHandle<()>,
    marks: u32,
    _own: Own,
}

#[derive(Debug, Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    marks: u32,
    called: u64,
    over: bool,
}

/// What an attacker does with a message of the vat's; what it returns is written.
pub(super) type React = Box<dyn FnMut(&Said) -> Option<Vec<u8>> + Send>;

impl<'a> Assault<'a> {
    pub(super) fn begin(siege: &'a Siege, concurrency: Concurrency) -> Self {
        Self::reacting(siege, concurrency, Box::new(|_| None))
    }

    /// As [`begin`](Self::begin), with something to say about what the vat says.
    pub(super) fn reacting(siege: &'a Siege, concurrency: Concurrency, mut react: React) -> Self {
        let (mut peer, connection, own) = connect(siege, concurrency);
        let object = peer.bootstrapped(TARGET);
        let (writer, mut back) = (peer.writer(), peer.writer());
        let heard = Arc::new(Heard::default());
        let told = Arc::clone(&heard);
        let reading = thread::spawn(move || {
            while let Some(said) = peer.receive() {
                let mut state = told.state.lock();
                match &said {
                    Said::Return { answer, .. } if *answer >= MARKS => state.marks += 1,
                    Said::Call { .. } => state.called += 1,
                    _ => state.seen.note(&said),
                }
                drop(state);
                told.changed.notify_all();
                if let Some(bytes) = react(&said) {
                    // A vat that has ended the connection is told nothing.
                    let _ = back.write_all(&bytes);
                }
            }
            told.state.lock().over = true;
            told.changed.notify_all();
        });
        Assault { siege, object, connection, writer, heard, reading, marks: 0, _own: own }
    }

    /// Writes, and tells whether the vat still takes anything.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        let written = self.writer.write_all(bytes).is_ok();
        self.siege.look();
        written && !self.heard.state.lock().over
    }

    /// The same, but does not get far ahead of the vat. So whatever is queued, the
    /// attacker has left it there.
    pub(super) fn paced(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).is_ok() && self.mark(AHEAD)
    }

    /// Waits until the vat has looked at everything that was written.
    pub(super) fn sync(&mut self) -> bool {
        self.mark(0)
    }

    fn mark(&mut self, ahead: u32) -> bool {
        let question = MARKS + self.marks;
        self.marks += 1;
        let mark = [words::bootstrap(question), words::finish(question)].concat();
        if self.writer.write_all(&mark).is_err() {
            return false;
        }
        let wanted = self.marks.saturating_sub(ahead);
        let alive = self.until("the vat to come so far", |_, marks, _| marks >= wanted);
        self.siege.look();
        alive
    }

    /// Waits until the vat has answered so many calls, in whatever way.
    pub(super) fn answered(&self, count: u64) -> bool {
        self.until("answers", |seen, _, _| {
            seen.answers + seen.exceptions.values().sum::<u64>() >= count
        })
    }

    /// Waits until the vat has made so many calls.
    pub(super) fn called(&self, count: u64) -> bool {
        self.until("calls", |_, _, called| called >= count)
    }

    /// Waits for something to have been heard, or returns `false` at the end.
    fn until(&self, what: &str, mut is_true: impl FnMut(&Seen, u32, u64) -> bool) -> bool {
        let _doing = watchdog::doing(what);
        let mut state = self.heard.state.lock();
        loop {
            if is_true(&state.seen, state.marks, state.called) {
                return true;
            }
            if state.over {
                return false;
            }
            let late = self.heard.changed.wait_for(&mut state, LONG).timed_out();
            assert!(!late, "waited too long for {what}: {state:?}");
        }
    }

    /// Leaves, and tells what was heard.
    pub(super) fn leave(self) -> Seen {
        self.siege.look();
        // A connection that the vat has ended is shut down already.
        let _ = self.writer.shutdown(Shutdown::Write);
        self.reading.join().expect("the attacker reads whatever it is told");
        ended(&self.connection);
        std::mem::take(&mut self.heard.state.lock().seen)
    }
}

/// A connection to an object of its own.
pub(super) fn connect(siege: &Siege, concurrency: Concurrency) -> (RawPeer, Connection, Own) {
    // The peer's socket, and two more handles to write with.
    let own = siege.own(3);
    let object = target(&siege.vat, concurrency);
    let config = ConnConfig::new().bootstrap(object).limits(siege.limits.clone());
    // However slowly the attacker reads, it is told why.
    let (peer, connection) = RawPeer::connect(&siege.vat, config.close_timeout(LONG));
    (peer, connection, own)
}

/// Waits for the end of a connection, which must leave nothing in its tables.
pub(super) fn ended(connection: &Connection) {
    let _doing = watchdog::doing("an attacked connection to end");
    assert!(connection.join_timeout(LONG).unwrap(), "the connection does not end");
    assert!(connection.snapshot().is_empty(), "left behind: {:?}", connection.snapshot());
    connection.check().unwrap();
}

/// A call of the target with some capabilities.
pub(super) fn call(question: u32, object: u32, method: Method, table: &[u64]) -> Vec<u8> {
    words::call(question, object, method, Content::Nothing, table)
}

/// The answer to a question of the vat's: an exception.
pub(super) fn refuse(said: &Said) -> Option<Vec<u8>> {
    let Said::Call { question, .. } = said else { return None };
    Some(crate::support::raw::frame(|message| {
        let mut ret = message.init_return();
        ret.set_answer_id(*question);
        ret.set_release_param_caps(false);
        ret.init_exception().set_reason("on purpose");
    }))
}

/// What a peer heard that only listens now, up to the end.
pub(super) fn last_words(mut peer: RawPeer) -> Seen {
    let mut seen = Seen::default();
    while let Some(said) = peer.receive() {
        seen.note(&said);
    }
    peer.end();
    seen
}
