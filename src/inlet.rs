//! Objects that are given things, one call after the other, and hand them to one reader of
//! this process: what [`bytes`](crate::bytes) and [`items`](crate::items) are received with.
//!
//! The interface has two methods: a streaming one that brings something, and one that says
//! that it was all.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capnp_threads_core::untyped::{self, Dispatch, IncomingCall, Payload};

use crate::{Client, Error, Result, Vat};

/// The method that brings something.
const BRING: u16 = 0;

/// The method that says that it was all.
const END: u16 = 1;

/// What an object is, and takes.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) interface: u64,
    pub(crate) name: &'static str,
    pub(crate) takes: &'static str,
}

/// An object, made callable in this vat, and what is read from.
pub(crate) fn inlet(vat: &Vat, kind: Kind) -> (Client, Outlet) {
    let shared = Arc::new(Shared::default());
    let client = vat.export_dispatch(Arc::new(Inlet { kind, shared: Arc::clone(&shared) }));
    (client, Outlet { shared, partly_read: None })
}

/// What stands between the object and its reader.
///
/// ```text
/// Open ──end──► Ended        Open ──the last client is gone──► CutOff
/// Open, Ended, CutOff ──the reader is dropped──► Unread
/// ```
///
/// What was brought stays in its calls, which are answered when it was read. So the
/// sender's window bounds what waits here.
#[derive(Default)]
struct Shared {
    /// The lock is a leaf: calls are answered without it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    brought: VecDeque<IncomingCall>,
    /// Wakes the reader while it waits.
    reader: Option<untyped::Fulfiller>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Open,
    /// The call that said that it was all, until it is answered.
    Ended(Option<IncomingCall>),
    CutOff,
    Unread,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the reader.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let reader = {
            let mut state = self.lock();
            change(&mut state);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.fulfill(Client::null());
        }
    }
}

/// The object that is called.
struct Inlet {
    kind: Kind,
    shared: Arc<Shared>,
}

impl Dispatch for Inlet {
    fn dispatch(&self, call: IncomingCall) {
        let is_ours = call.interface_id() == self.kind.interface;
        match call.method_id() {
            BRING if is_ours => self.bring(call),
            END if is_ours => self.end(call),
            _ => {
                let takes = self.kind.takes;
                let reason = format!("this object takes {takes}, and nothing else");
                call.respond(Err(Error::unimplemented(reason)));
            }
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn name(&self) -> Option<&str> {
        Some(self.kind.name)
    }
}

impl Inlet {
    fn bring(&self, call: IncomingCall) {
        let mut call = Some(call);
        self.shared.change(|state| {
            if let Phase::Open = state.phase {
                state.brought.extend(call.take());
            }
        });
        if let Some(refused) = call {
            refused.respond_streaming(Err(closed()));
        }
    }

    fn end(&self, call: IncomingCall) {
        let mut call = Some(call);
        self.shared.change(|state| {
            if let Phase::Open = state.phase {
                state.phase = Phase::Ended(call.take());
            }
        });
        if let Some(refused) = call {
            refused.respond(Err(closed()));
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.shared.change(|state| {
            if let Phase::Open = state.phase {
                state.phase = Phase::CutOff;
            }
        });
    }
}

fn closed() -> Error {
    Error::failed("nobody reads the rest of this stream, or it was ended before")
}

/// What an object was given, in the order in which it came. When it is dropped before the
/// end, whoever sends is told.
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    partly_read: Option<Part>,
}

/// What one call has brought.
pub(crate) struct Part {
    call: IncomingCall,
    /// How much of it was read before, in whatever unit the reader counts.
    pub(crate) read: usize,
}

impl Part {
    /// The parameters of the call.
    pub(crate) fn params(&self) -> &Payload {
        self.call.params()
    }

    /// Says that it was read, or why it cannot be, which ends the stream.
    pub(crate) fn answer(self, outcome: Result<()>) {
        self.call.respond_streaming(outcome);
    }
}

/// What comes next.
pub(crate) enum Next {
    /// To be answered once it was read, or put back.
    Part(Part),
    /// It was all.
    End,
    /// Whoever sent it is gone before the end.
    CutOff,
}

/// What a look at the state finds.
enum Found {
    Next(Next),
    /// The call that said that it was all, unless it was answered before.
    End(Option<IncomingCall>),
    /// Nothing yet: this is resolved when there is more.
    Wait(Client),
}

impl Outlet {
    /// Waits for what comes next, as calls wait: a worker's place is given away, and a
    /// cancellation ends the wait if the method allows that.
    pub(crate) fn next(&mut self) -> Result<Next> {
        if let Some(part) = self.partly_read.take() {
            return Ok(Next::Part(part));
        }
        loop {
            match self.look() {
                Found::Next(next) => return Ok(next),
                Found::End(call) => {
                    if let Some(call) = call {
                        call.respond(Ok(Payload::empty().clone()));
                    }
                    return Ok(Next::End);
                }
                Found::Wait(more) => {
                    if let Err(error) = more.resolve() {
                        drop(self.shared.lock().reader.take());
                        return Err(error);
                    }
                }
            }
        }
    }

    fn look(&self) -> Found {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if let Some(call) = state.brought.pop_front() {
            return Found::Next(Next::Part(Part { call, read: 0 }));
        }
        match &mut state.phase {
            Phase::Ended(call) => Found::End(call.take()),
            Phase::CutOff | Phase::Unread => Found::Next(Next::CutOff),
            Phase::Open => {
                let (more, fulfiller) = untyped::promise();
                let before = state.reader.replace(fulfiller);
                debug_assert!(before.is_none(), "there is one reader");
                Found::Wait(more)
            }
        }
    }

    /// Gives back what was not read to its end, as what comes next.
    pub(crate) fn put_back(&mut self, part: Part) {
        self.partly_read = Some(part);
    }

    /// How many calls wait to be read.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().brought.len()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let (phase, brought) = {
            let mut state = self.shared.lock();
            (std::mem::replace(&mut state.phase, Phase::Unread), std::mem::take(&mut state.brought))
        };
        let partly_read = self.partly_read.take();
        for call in partly_read.map(|part| part.call).into_iter().chain(brought) {
            call.respond_streaming(Err(closed()));
        }
        if let Phase::Ended(Some(end)) = phase {
            end.respond(Err(closed()));
        }
    }
}
