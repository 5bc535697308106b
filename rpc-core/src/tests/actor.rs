//! Objects that do as a test tells them, and the executor that runs them when
//! the test says so.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::content;
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::cap::payload::Payload;
use crate::error::Result;
use crate::fd::SharedFd;
use crate::sync::Mutex;
use crate::work::executor::{Executor, Job, Refused};

/// Jobs that wait until the test runs them.
#[derive(Default)]
pub(super) struct Jobs {
    queue: Mutex<VecDeque<Job>>,
}

impl Jobs {
    /// Runs the oldest job. Returns whether there was one.
    pub(super) fn run_one(&self) -> bool {
        let job = self.queue.lock().pop_front();
        job.map(Job::run).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Takes them all, none of which is run then.
    pub(super) fn take(&self) -> VecDeque<Job> {
        std::mem::take(&mut *self.queue.lock())
    }
}

impl Executor for Jobs {
    fn spawn(&self, job: Job) -> Result<(), Refused> {
        self.queue.lock().push_back(job);
        Ok(())
    }
}

type Script = Arc<dyn Fn(IncomingCall) + Send + Sync>;

/// A test's hold on an object. It does not keep the object alive.
#[derive(Clone)]
pub(super) struct Actor(Arc<Shared>);

struct Shared {
    name: &'static str,
    seen: Mutex<Vec<u64>>,
    held: Mutex<VecDeque<IncomingCall>>,
    kept: Mutex<Vec<Client>>,
    script: Mutex<Script>,
    drops: AtomicUsize,
}

impl Actor {
    /// Makes an object that answers every call at once, with the label that came
    /// in.
    pub(super) fn new(name: &'static str) -> Self {
        Actor(Arc::new(Shared {
            name,
            seen: Mutex::default(),
            held: Mutex::default(),
            kept: Mutex::default(),
            script: Mutex::new(Arc::new(acknowledge)),
            drops: AtomicUsize::new(0),
        }))
    }

    /// The capability. To be asked for once: it is a new object each time.
    pub(super) fn client(&self, jobs: &Arc<Jobs>, concurrency: Concurrency) -> Client {
        self.make(jobs, concurrency, None)
    }

    /// As [`client`](Self::client), with a file descriptor.
    pub(super) fn client_with_fd(&self, jobs: &Arc<Jobs>, fd: SharedFd) -> Client {
        self.make(jobs, Concurrency::Serial, Some(fd))
    }

    fn make(&self, jobs: &Arc<Jobs>, concurrency: Concurrency, fd: Option<SharedFd>) -> Client {
        let server = Arc::new(Server { shared: Arc::clone(&self.0), fd });
        let executor = Arc::clone(jobs) as Arc<dyn Executor>;
        Client::of(LocalObject::new(server, concurrency, executor))
    }

    /// Gives up whatever a test has made it hold.
    pub(super) fn let_go(&self) {
        self.acknowledge();
        drop(self.kept());
        let held = std::mem::take(&mut *self.0.held.lock());
        drop(held);
    }

    /// From now on does this with every call.
    pub(super) fn on_call(&self, script: impl Fn(IncomingCall) + Send + Sync + 'static) {
        *self.0.script.lock() = Arc::new(script);
    }

    /// From now on keeps calls until the test takes them with
    /// [`take`](Self::take).
    pub(super) fn hold(&self) {
        let weak = Arc::downgrade(&self.0);
        self.on_call(move |call| {
            if let Some(shared) = weak.upgrade() {
                shared.held.lock().push_back(call);
            }
        });
    }

    /// From now on answers with these capabilities.
    pub(super) fn give(&self, caps: Vec<Client>) {
        self.on_call(move |call| {
            let label = content::label(call.params());
            call.respond(Ok(content::results(label, &caps)));
        });
    }

    /// From now on answers with the capabilities that came in.
    pub(super) fn echo(&self) {
        self.on_call(move |call| {
            let (label, caps) = (content::label(call.params()), call.params().caps().to_vec());
            call.respond(Ok(content::results(label, &caps)));
        });
    }

    /// From now on only answers.
    pub(super) fn acknowledge(&self) {
        self.on_call(acknowledge);
    }

    /// From now on passes every call on.
    pub(super) fn forward(&self, target: Client) {
        self.on_call(move |call| call.forward(&target));
    }

    /// From now on keeps the capabilities in the parameters, for
    /// [`kept`](Self::kept), and answers.
    pub(super) fn keep(&self) {
        let weak = Arc::downgrade(&self.0);
        self.on_call(move |call| {
            if let Some(shared) = weak.upgrade() {
                shared.kept.lock().extend_from_slice(call.params().caps());
            }
            acknowledge(call);
        });
    }

    /// Takes out what was kept.
    pub(super) fn kept(&self) -> Vec<Client> {
        std::mem::take(&mut *self.0.kept.lock())
    }

    /// Takes out the one capability that was kept.
    pub(super) fn kept_one(&self) -> Client {
        let [client] = self.kept().try_into().unwrap();
        client
    }

    /// The oldest call that is held.
    pub(super) fn take(&self) -> IncomingCall {
        let call = self.0.held.lock().pop_front();
        call.unwrap_or_else(|| panic!("{} holds no call", self.0.name))
    }

    /// Answers the oldest call that is held.
    pub(super) fn answer(&self, outcome: Result<Payload>) {
        self.take().respond(outcome);
    }

    /// Answers the oldest call that is held with these capabilities.
    pub(super) fn answer_with(&self, caps: &[Client]) {
        self.answer(Ok(content::results(0, caps)));
    }

    /// The labels of the calls that arrived, in order.
    pub(super) fn seen(&self) -> Vec<u64> {
        self.0.seen.lock().clone()
    }

    /// How often it was dropped.
    pub(super) fn drops(&self) -> usize {
        self.0.drops.load(Ordering::SeqCst)
    }

    pub(super) fn name(&self) -> &'static str {
        self.0.name
    }
}

/// Answers with the label that came in.
pub(super) fn acknowledge(call: IncomingCall) {
    let label = content::label(call.params());
    call.respond(Ok(content::results(label, &[])));
}

struct Server {
    shared: Arc<Shared>,
    fd: Option<SharedFd>,
}

impl Dispatch for Server {
    fn dispatch(&self, call: IncomingCall) {
        let label = content::label(call.params());
        self.shared.seen.lock().push(label);
        let script = Arc::clone(&self.shared.script.lock());
        script(call);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn fd(&self) -> Option<SharedFd> {
        self.fd.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.drops.fetch_add(1, Ordering::SeqCst);
    }
}
