//! Objects of this process and the mailboxes in front of them.
//!
//! A call is put into the object's mailbox (`mailbox.rs`) under the mailbox's lock, which
//! is a leaf. If no job is going to take the call out, one is handed to the workers. The
//! worker that gets the job takes calls out and runs them without the lock. So calls start
//! in the order in which they arrived, and a thread that delivers a call never waits for an
//! object.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::call::{Begun, CallCell, Keeps, Queue};
use super::capability::Capability;
use super::client::Client;
use super::delivery::{CallRequest, Delivery, cancelled};
use super::effects::{self, Effect, Inline};
use super::incoming_call::{IncomingCall, PanicScope};
use super::mailbox::{Mailbox, Taken};
use super::sameness::number::Number;
use super::stream::{Stream, StreamSlot};
use crate::brand::Brand;
use crate::error::{Error, Result};
use crate::fd::SharedFd;
use crate::flow::FixedWindow;
use crate::log::tell;
use crate::panics::{self, Panicked};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::work::executor::{Calls, Executor, Job};
use crate::work::hands;
use crate::work::interrupt::Detached;
use crate::work::origin::{self, Origin};
use crate::work::own_call;
use crate::work::progress::Ends;
use crate::work::role::{self, Pace};

/// The object behind a capability of this process. Generated code implements this trait
/// for every server. Implement it by hand for an object whose methods are not known
/// beforehand, such as a proxy.
pub trait Dispatch: Send + Sync + 'static {
    /// Runs one call, on a thread where it may block (unless the object is
    /// [`Inline`](Concurrency::Inline)).
    fn dispatch(&self, call: IncomingCall);

    /// The server itself, so that it can be recovered from a client.
    fn as_any(&self) -> &(dyn Any + Send + Sync);

    /// The mark that the object was given, by which its owner recognises it.
    fn brand(&self) -> Option<&Brand> {
        None
    }

    /// The object's name for people; see
    /// [`ObjectConfig::name`](crate::typed::ObjectConfig::name).
    fn name(&self) -> Option<&str> {
        None
    }

    /// A method's name for people, such as `file.capnp:Interface.method`. `None` if it is
    /// not known.
    fn method_name(&self, _interface_id: u64, _method_id: u16) -> Option<String> {
        None
    }

    /// Whether a method does nothing more once it has answered its call: so of the objects
    /// of generated interfaces. A proxy may go on behind what it calls.
    #[doc(hidden)]
    fn ends_with_answer(&self) -> bool {
        false
    }

    /// The file descriptor that travels with a capability of this object over
    /// connections that carry file descriptors. Called once, when the object is made
    /// callable.
    fn fd(&self) -> Option<SharedFd> {
        None
    }
}

/// How many calls of an object run at once.
///
/// ```
/// use capnp_threads_core::{Concurrency, Vat};
/// use rpc_schema::echo_capnp::echo;
///
/// struct Echo;
///
/// impl echo::Server for Echo {
///     // …
/// }
///
/// let vat = Vat::new();
/// let one_at_a_time: echo::Client = vat.export(Echo);
/// let all_at_once: echo::Client = vat.export_with(Echo, Concurrency::Concurrent);
/// # drop((one_at_a_time, all_at_once));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// One at a time, in the order of arrival. The next call starts when the
    /// method has returned, even if it answers later.
    #[default]
    Serial,
    /// Each call on a worker of its own. Calls start in the order of arrival.
    Concurrent,
    /// One at a time, on the thread that delivers the call, which is often one that
    /// serves a connection: a method that blocks stops the whole connection. Waiting
    /// for a promise there is an error.
    Inline,
}

/// An object of this process, to which capabilities refer. Dropping the last of them
/// drops the server.
pub(crate) struct LocalObject {
    /// Present until drop.
    server: Option<Arc<dyn Dispatch>>,
    fd: Option<SharedFd>,
    concurrency: Concurrency,
    /// What the server says of itself.
    ends_with_answer: bool,
    executor: Arc<dyn Executor>,
    mailbox: Mutex<Mailbox>,
    /// The next place in the mailbox.
    next_place: AtomicU64,
    stream: StreamSlot,
    /// What stands in front of the object for others.
    front: OnceLock<Box<dyn Front>>,
    /// The error of a streaming call: every later call fails with it, too.
    broken: OnceLock<Error>,
    number: Number,
}

/// What stands in front of an object for all who call it.
pub(crate) trait Front: Send + Sync + 'static {
    /// The capability that stands in front of the object: the same one while it exists.
    fn of(&self, object: Client) -> Client;
}

impl LocalObject {
    pub(crate) fn new(
        server: Arc<dyn Dispatch>,
        concurrency: Concurrency,
        executor: Arc<dyn Executor>,
    ) -> Arc<Self> {
        Arc::new(LocalObject {
            // The capability is useful even without its descriptor.
            fd: panics::caught("Dispatch::fd", || server.fd()).ok().flatten(),
            ends_with_answer: server.ends_with_answer(),
            server: Some(server),
            concurrency,
            executor,
            mailbox: Mutex::new(match concurrency {
                Concurrency::Serial | Concurrency::Inline => Mailbox::one_by_one(),
                Concurrency::Concurrent => Mailbox::concurrent(),
            }),
            next_place: AtomicU64::new(0),
            stream: StreamSlot::default(),
            front: OnceLock::new(),
            broken: OnceLock::new(),
            number: Number::default(),
        })
    }

    pub(super) fn executor(&self) -> &Arc<dyn Executor> {
        &self.executor
    }

    /// Puts something in front of the object, once, before others have a client of it.
    pub(crate) fn stand_behind(&self, front: impl Front) {
        let _ = self.front.set(Box::new(front));
    }

    /// The object as others call it.
    pub(crate) fn as_called(self: &Arc<Self>) -> Client {
        let object = Client::of(Arc::clone(self));
        match self.front.get() {
            Some(front) => front.of(object),
            None => object,
        }
    }

    /// Makes every later call fail with the error of a streaming call. Only the first
    /// error counts.
    pub(super) fn break_stream(&self, error: &Error) {
        let _ = self.broken.set(error.clone());
    }

    pub(crate) fn server(&self) -> Option<&Arc<dyn Dispatch>> {
        self.server.as_ref()
    }

    /// The object's name for people.
    ///
    /// Must not be called under a lock: the name may come from the application.
    pub(super) fn known_as(&self) -> Option<String> {
        let server = self.server()?;
        panics::caught("Dispatch::name", || server.name().map(str::to_owned)).ok().flatten()
    }

    /// Puts a call into the mailbox. Never waits.
    fn enqueue(self: Arc<Self>, call: CallRequest) {
        let place = self.next_place.fetch_add(1, Ordering::SeqCst);
        let (origin, address) = (call.cell.origin(), Arc::as_ptr(&call.cell) as usize);
        let question = call.cell.answer_id().map(|id| id.0);
        // The cell is told first: see `LocalPromise::accept`.
        call.cell.queued_in(Queue::Mailbox(Arc::downgrade(&self) as _), place);
        let mut mailbox = self.mailbox.lock();
        if call.cell.was_cancelled() {
            // The thread that cancelled the call may have looked into the mailbox already.
            drop(mailbox);
            if call.cell.is_unwanted() {
                return Delivery::Call(call).fail(&cancelled());
            }
            mailbox = self.mailbox.lock();
        }
        let start = mailbox.insert(origin, place, call);
        drop(mailbox);
        if !start {
            return;
        }
        if self.concurrency == Concurrency::Inline {
            return effects::defer(Effect::RunInline(self));
        }
        let _own = own_call::comes(address, origin, question);
        self.call_worker(origin);
    }

    /// Lets a worker run what waits in the mailbox for a job of this origin.
    fn call_worker(self: Arc<Self>, origin: Origin) {
        let executor = Arc::clone(&self.executor);
        if let Err(refused) = executor.spawn(Job::calls(self, origin)) {
            refused.tell();
        }
    }

    /// Runs the calls in the mailbox that a job of this origin is for.
    fn run_calls(self: &Arc<Self>, origin: Origin) {
        let mut taken = self.mailbox.lock().first(origin);
        while let Some(Taken { call, last }) = taken {
            let for_whom = call.cell.origin();
            match self.concurrency {
                Concurrency::Inline => {
                    let _on_behalf = origin::OnBehalf::begin(for_whom);
                    self.begin(call);
                }
                Concurrency::Serial | Concurrency::Concurrent => {
                    role::set_pace(if last { Pace::Calm } else { Pace::Busy });
                    role::work_for(for_whom);
                    let _runs = self
                        .ends_with_answer
                        .then(|| hands::Runs::begin(Arc::as_ptr(&call.cell) as usize));
                    // Answers to several calls are brought together.
                    let _ends = if last { self.ends(&call) } else { None };
                    self.begin(call);
                }
            }
            taken = self.mailbox.lock().next();
            if taken.is_some() {
                hands::let_go();
            }
        }
    }

    /// Lets this thread bring the answer of a call that it is going to run.
    fn ends(&self, call: &CallRequest) -> Option<Ends> {
        self.ends_with_answer.then(|| Ends::begin(Arc::as_ptr(&call.cell) as usize))
    }

    /// Runs a call that has left the mailbox, unless it was cancelled before that.
    fn begin(self: &Arc<Self>, call: CallRequest) {
        match call.cell.begin() {
            Begun::Wanted => self.run_one(call),
            Begun::Cancelled => Delivery::Call(call).fail(&cancelled()),
        }
    }

    fn run_one(self: &Arc<Self>, call: CallRequest) {
        let cell = Arc::clone(&call.cell);
        let call = IncomingCall::new(call, Arc::clone(self));
        if let Some(error) = self.broken.get() {
            return call.refuse(error.clone());
        }
        let Some(server) = self.server() else { return };
        let (interface, method) = (call.interface_id(), call.method_id());
        let guard = (PanicScope::enter(&cell), Detached::begin());
        let entered = cell.enter_span(&**server, interface, method);
        let outcome = panics::catch(|| server.dispatch(call));
        drop(guard);
        if let Err(panicked) = outcome {
            let name = self.known_as();
            let method = panics::catch(|| server.method_name(interface, method)).ok().flatten();
            let error = panic_error(panicked, name.as_deref(), method.as_deref());
            let peer = cell.came_over().map(|connection| origin::named(connection.peer()));
            tell!(ERROR, %error, object = name, method, peer, "a method panicked");
            cell.complete(Err(error));
        }
        drop(entered);
    }
}

impl Keeps for LocalObject {
    fn withdraw(&self, origin: Origin, place: u64) {
        let gone = self.mailbox.lock().withdraw(origin, place);
        if let Some(call) = gone {
            Delivery::Call(call).fail(&cancelled());
        }
    }

    fn waits(&self, origin: Origin, place: u64) -> bool {
        self.mailbox.lock().waits_at(origin, place)
    }

    fn runs(&self, call: *const CallCell) -> bool {
        self.mailbox.lock().runs(call as usize)
    }
}

impl Inline for LocalObject {
    fn run(self: Arc<Self>) {
        self.run_calls(Origin::LOCAL);
    }
}

impl Calls for LocalObject {
    fn run(self: Arc<Self>, origin: Origin) {
        self.run_calls(origin);
    }

    fn run_own(self: Arc<Self>, origin: Origin, call: usize) -> bool {
        let taken = self.mailbox.lock().first_if(origin, call);
        let Some(Taken { call, .. }) = taken else { return false };
        role::set_pace(Pace::Calm);
        {
            let _ends = self.ends(&call);
            self.begin(call);
        }
        let origins = self.mailbox.lock().pass_on();
        origins.into_iter().for_each(|origin| Arc::clone(&self).call_worker(origin));
        true
    }

    fn refuse(self: Arc<Self>, origin: Origin, error: &Error) {
        let calls = self.mailbox.lock().refuse(origin);
        for call in calls {
            call.cell.complete(Err(call.tail.failed(error.clone())));
        }
    }

    fn name(&self) -> String {
        self.known_as()
            .unwrap_or_else(|| format!("an object without a name ({:p})", std::ptr::from_ref(self)))
    }

    fn begun(&self) -> u64 {
        self.mailbox.lock().begun()
    }

    fn waiting(&self) -> usize {
        self.mailbox.lock().waiting()
    }
}

impl Capability for LocalObject {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        if let Some(call) = delivery.call_or_answer(&self.number) {
            self.enqueue(call);
        }
        Ok(())
    }

    fn stream(&self) -> Arc<Stream> {
        self.stream.get_or_make(|| Box::new(FixedWindow::DEFAULT))
    }

    fn adopt_stream(&self, stream: Arc<Stream>) {
        self.stream.adopt(stream);
    }

    fn fd(&self) -> Option<SharedFd> {
        self.fd.clone()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address: *const LocalObject = self;
        match self.known_as() {
            Some(name) => write!(f, "local object {name:?} {address:p}"),
            None => write!(f, "local object {address:p}"),
        }
    }
}

impl Client {
    /// Makes an object of this process callable, one call at a time. The object runs in
    /// the vat of the worker that calls this or, on other threads, in the process-wide
    /// default vat.
    pub fn from_dispatch(server: Arc<dyn Dispatch>) -> Self {
        Self::from_dispatch_with(server, Concurrency::default())
    }

    /// As [`from_dispatch`](Self::from_dispatch), with a choice of how many
    /// calls run at once.
    pub fn from_dispatch_with(server: Arc<dyn Dispatch>, concurrency: Concurrency) -> Self {
        let executor = role::current_executor();
        Client::of(LocalObject::new(server, concurrency, executor))
    }

    /// The object behind this client, if it is in this process and known by now.
    pub fn local_dispatch(&self) -> Option<Arc<dyn Dispatch>> {
        let client = self.shortened();
        let object = client.object().unwrap_or(client);
        object.kind_as::<LocalObject>()?.server().cloned()
    }

    /// The mark of the object behind this client, if the object is in this process, has
    /// a mark, and is known by now.
    pub fn brand(&self) -> Option<Brand> {
        self.local_dispatch()?.brand().cloned()
    }
}

impl Drop for LocalObject {
    fn drop(&mut self) {
        // Dropping the server runs application code: see Note [effects].
        if let Some(server) = self.server.take() {
            effects::defer(Effect::drop_foreign((server, self.fd.take(), self.front.take())));
        }
    }
}

fn panic_error(panicked: Panicked, object: Option<&str>, method: Option<&str>) -> Error {
    // An object without a name of its own is known by its interface's, with which the
    // names of its methods begin.
    let is_of = |object: &str, method: &str| {
        method.strip_prefix(object).is_some_and(|method| method.starts_with('.'))
    };
    let object = object.filter(|object| !method.is_some_and(|method| is_of(object, method)));
    let detail: Vec<&str> = object.into_iter().chain(method).chain([&*panicked.message]).collect();
    Error::failed("the method panicked").with_internal(detail.join(": "))
}
