//! Where application threads wait before they add to what a connection holds.
//!
//! Waiting happens before any lock is taken, and only on threads that act for the
//! application. A thread that acts for a peer (the coordinator, or a thread that
//! forwards what a peer sent) goes ahead; otherwise two vats could wait for each other
//! for ever.
//!
//! A worker is in between: its method may have to call back before it can answer the
//! peer, and a worker of the peer may be in the same position, while the threads of
//! both sides have used up all their places. So each worker may have one call beyond
//! the limit, and waits only while that call is under way.
//!
//! Places are given in the order in which threads came to wait. The thread that frees a
//! place gives it to the thread that has waited longest, and wakes only that one.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

use super::home::Home;
use super::origin::Origin;
use super::progress::{Means, Progress};
use super::waiting::{self, Called, Waiters};
use super::waking;
use crate::deadline::Deadline;
use crate::error::{Error, Timeout};
use crate::log::tell;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Mutex, Unparker};

pub(crate) struct Room {
    home: Home,
    /// The connection, by the name that the log gives it.
    origin: Origin,
    max_questions: usize,
    max_bytes: usize,
    /// The number of places that are taken, or given to a thread that was called.
    questions: AtomicUsize,
    bytes: AtomicUsize,
    /// The number of threads that wait. Raised under the lock.
    waiting: AtomicUsize,
    state: Mutex<State>,
    /// Whether the log tells already that calls wait here.
    told: AtomicBool,
    /// What brings the connection forward.
    progress: OnceLock<Weak<dyn Progress>>,
}

#[derive(Default)]
struct State {
    closed: Option<Error>,
    /// The workers that have a call beyond the limit under way.
    extras: HashSet<ThreadId>,
    waiters: Waiters,
    /// The number of places given to called threads that have not looked yet.
    given: usize,
}

/// A place among a connection's outstanding questions. Dropping it frees the
/// place.
pub(crate) struct Permit {
    room: Arc<Room>,
    /// The worker to which this place beyond the limit belongs.
    extra: Option<Worker>,
}

struct Worker {
    id: ThreadId,
    /// Wakes the worker, which may wait for this very place.
    thread: Unparker,
}

/// The kind of thread that asks for a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Application,
    Worker,
}

impl Room {
    pub(crate) fn new(origin: Origin, max_questions: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Room {
            home: Home::here(),
            origin,
            max_questions,
            max_bytes,
            questions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
            told: AtomicBool::new(false),
            progress: OnceLock::new(),
        })
    }

    /// The number of places that are taken.
    #[cfg(test)]
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// Takes a place for one more question, without waiting and if need be beyond the
    /// limit.
    pub(crate) fn take(self: &Arc<Self>) -> Permit {
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.permit()
    }

    /// Takes a place for one more question; `None` if the limits do not allow it now,
    /// or if other threads wait for one.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        if self.waiting.load(Ordering::SeqCst) > 0 || !self.home.is_here() {
            return None;
        }
        self.count_one().then(|| self.permit())
    }

    /// Waits for a place, on behalf of the application. Whoever gives up because of the
    /// deadline leaves the line, and no place is lost with it.
    ///
    /// # Errors
    /// The connection has ended, the deadline has passed, this process was forked from that
    /// of the connection, or see [`waiting::wait`].
    pub(crate) fn wait(
        self: &Arc<Self>,
        asker: Asker,
        deadline: Deadline,
    ) -> Result<Permit, Error> {
        self.home.check()?;
        self.tell_once();
        let mut counted = false;
        let found = waiting::wait_by(
            |_| self.means(),
            &self.state,
            |state| &mut state.waiters,
            deadline,
            |state, look| {
                if !counted {
                    // From here on, a thread that frees a place takes the lock and
                    // finds this thread, and no thread overtakes this one.
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    counted = true;
                }
                if let Some(error) = &state.closed {
                    return Some(Err(error.clone()));
                }
                if look.called && state.given > 0 {
                    state.given -= 1;
                    return Some(Ok(self.permit()));
                }
                if state.waiters.is_empty() && self.count_one() {
                    return Some(Ok(self.permit()));
                }
                let extra = asker == Asker::Worker && self.has_bytes();
                extra.then(|| self.try_take_extra(state)).flatten().map(Ok)
            },
        );
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        // Whatever ended the wait, nothing was sent.
        let found = found.and_then(|found| found.unwrap_or_else(|| Err(self.too_late())));
        found.map_err(Error::not_begun)
    }

    fn too_late(&self) -> Error {
        let why = if self.has_bytes() {
            format!(
                "{} calls are under way on its connection, which is the limit \
                 (Limits::questions)",
                self.max_questions
            )
        } else {
            format!(
                "its connection has {} bytes or more to send, which is the limit \
                 (Limits::queued_bytes)",
                self.max_bytes
            )
        };
        Error::timed_out(Timeout::NeverSent, format!("the call was not sent in time: {why}"))
    }

    /// Tells the log that calls wait, once.
    fn tell_once(&self) {
        if self.told.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.has_bytes() {
            tell!(
                WARN,
                limit = self.max_questions,
                "as many calls are under way on {} as Limits::questions allows: \
                 further calls wait until others have returned",
                self.origin,
            );
        } else {
            tell!(
                WARN,
                limit = self.max_bytes,
                "as many bytes wait to be sent on {} as Limits::queued_bytes allows: \
                 further calls wait until the peer has read",
                self.origin,
            );
        }
    }

    /// Takes this worker's place beyond the limit, if it is free. Too many queued bytes
    /// are no reason to use it: they leave the queue whatever becomes of the calls.
    fn try_take_extra(self: &Arc<Self>, state: &mut State) -> Option<Permit> {
        let id = thread::current().id();
        state.extras.insert(id).then(|| {
            let mut permit = self.take();
            permit.extra = Some(Worker { id, thread: waiting::this_thread() });
            permit
        })
    }

    fn has_bytes(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) < self.max_bytes
    }

    /// Counts one more place as taken, if the limits allow it.
    fn count_one(&self) -> bool {
        let one_more = |taken| (taken < self.max_questions).then_some(taken + 1);
        self.has_bytes()
            && self.questions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    /// The permit for a place that is counted already.
    fn permit(self: &Arc<Self>) -> Permit {
        Permit { room: Arc::clone(self), extra: None }
    }

    /// The number of threads in the list.
    #[cfg(all(test, rpc_model))]
    pub(crate) fn in_line(&self) -> usize {
        self.state.lock().waiters.len()
    }

    /// Bytes were queued to be sent.
    pub(crate) fn queued(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Bytes have left the queue.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.give();
    }

    /// Sets what brings the connection forward, once.
    pub(crate) fn set_progress(&self, progress: Weak<dyn Progress>) {
        // It is set where the connection is made.
        let _ = self.progress.set(progress);
    }

    /// What ends waits for this connection: Note [progress].
    pub(crate) fn means(&self) -> Means {
        self.progress.get()?.upgrade()
    }

    /// The process that has the connection's threads.
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// The number of bytes that are queued.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Fails every thread that waits now or later.
    pub(crate) fn close(&self, error: Error) {
        let called = {
            let mut state = self.state.lock();
            state.closed = Some(error);
            self.questions.fetch_sub(std::mem::take(&mut state.given), Ordering::SeqCst);
            state.waiters.call_all()
        };
        called.wake();
    }

    /// Why the connection has ended; `None` while it has not.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state.lock().closed.clone()
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Gives the free places to the threads that wait.
    fn give(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        // A thread that has counted itself enters itself in the list before it releases
        // the lock. So taking the lock makes sure that it is found.
        let mut called = Called::default();
        let mut state = self.state.lock();
        while state.closed.is_none() && !state.waiters.is_empty() && self.count_one() {
            state.given += 1;
            called = called.and(state.waiters.call_first());
        }
        drop(state);
        called.wake();
    }
}

impl Permit {
    pub(crate) fn is_for(&self, room: &Arc<Room>) -> bool {
        Arc::ptr_eq(&self.room, room)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.questions.fetch_sub(1, Ordering::SeqCst);
        if let Some(Worker { id, thread }) = self.extra.take() {
            self.room.state.lock().extras.remove(&id);
            waking::wake(thread);
        }
        self.room.give();
    }
}

#[cfg(all(test, not(rpc_model)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::log::tests::told;
    use crate::transport::PeerDescription;
    use crate::work::origin::Introduction;

    #[test]
    fn the_log_tells_once_of_each_connection_that_calls_wait() {
        let introductions = ["10.0.0.1:1", "10.0.0.2:2"]
            .map(|peer| Introduction::of(&PeerDescription::from_address(peer)));
        let told = told(|| {
            for introduction in &introductions {
                let room = Room::new(introduction.origin(), 1, 10);
                let _taken = room.try_take().unwrap();
                for _ in 0..3 {
                    let late = room.wait(Asker::Application, Deadline::after(Duration::ZERO));
                    assert_eq!(late.err().unwrap().timeout(), Some(Timeout::NeverSent));
                }
            }
        });
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|line| line.starts_with("WARN") && line.contains("questions")));
        assert!(told[0].contains("the connection to 10.0.0.1:1"), "{told:?}");
        assert!(told[1].contains("the connection to 10.0.0.2:2"), "{told:?}");
    }

    #[test]
    fn an_error_says_what_there_was_no_room_for() {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let wait = || room.wait(Asker::Application, Deadline::after(Duration::ZERO)).err().unwrap();
        let taken = room.try_take().unwrap();
        assert!(wait().reason().contains("questions"), "{}", wait());
        drop(taken);
        room.queued(10);
        assert!(wait().reason().contains("queued_bytes"), "{}", wait());
        room.sent(10);
        drop(room.wait(Asker::Application, Deadline::after(Duration::ZERO)).unwrap());
    }
}
