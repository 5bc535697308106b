//! What a behaviour works with: a connection of its own, a deadline, and checks
//! that hold for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capnp_threads_core::fd::OwnedFd;
use capnp_threads_core::transport::TransportControl;
use capnp_threads_core::typed::FromServer;
use capnp_threads_core::{
    ConnConfig, Connection, Error, ErrorKind, FromClient, Limits, Promise, Response, Vat,
};
use capnp_threads_transport::Address;
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};
use rpc_schema::test_control_capnp::{test_control, test_objects};

use super::ours::{Gate, OurFile, Ours};
use crate::conformance::tapped;
use crate::support::objects::{FooPromise, foo_request, require_x};

/// How long a behaviour may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// How many calls may be outstanding: behaviours have up to 1000.
const QUESTIONS: u32 = 4096;

/// Why a behaviour did not come out well.
#[derive(Debug)]
pub(super) enum Failure {
    Failed(String),
    /// This client cannot show it.
    Skipped(String),
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Failure::Failed(reason.into())
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Failed(error.to_string())
            }
        })*
    };
}
failure_from!(
    Error,
    capnp_threads_core::capnp::Error,
    capnp_threads_core::capnp::NotInSchema,
    std::str::Utf8Error,
    std::io::Error
);

/// Fails the behaviour, saying where, unless the condition holds.
macro_rules! check {
    ($condition:expr) => {
        check!($condition, "{}", stringify!($condition))
    };
    ($condition:expr, $($text:tt)*) => {
        // Not `!$condition`: a comparison of floats must not be turned around.
        if $condition {
        } else {
            let reason = format!($($text)*);
            return Err($crate::conformance::client::context::Failure::new(format!(
                "{}:{}: {reason}",
                file!(),
                line!()
            )));
        }
    };
}
pub(super) use check;

/// What a server says about itself.
#[derive(Clone, Debug)]
pub(super) struct ServerFacts {
    name: String,
    limits: BTreeMap<String, String>,
    control: Control,
}

/// Whether the server can be asked for evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Absent,
    Present { tables: Tables },
}

/// Whether it tells the sizes of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    Hidden,
    Told,
}

impl ServerFacts {
    pub(super) fn ask(address: &Address) -> Result<Self, String> {
        let absent = ServerFacts {
            name: "the server".to_owned(),
            limits: BTreeMap::new(),
            control: Control::Absent,
        };
        let ask = || -> Result<Self, Failure> {
            let context = Context::connect(address, &absent)?;
            let control: test_control::Client = context.theirs();
            let response = match context.wait(&control.implementation_request().send()) {
                Ok(response) => response,
                Err(Waited::Failed(error)) if error.kind() == ErrorKind::Unimplemented => {
                    return Ok(absent.clone());
                }
                Err(error) => return Err(error.into()),
            };
            let response = response.get()?;
            let mut limits = BTreeMap::new();
            for limit in response.get_limits()? {
                limits.insert(limit.get_behaviour()?.to_string()?, limit.get_why()?.to_string()?);
            }
            let hidden = limits.contains_key("tables-at-rest");
            let tables = if hidden { Tables::Hidden } else { Tables::Told };
            let name = response.get_name()?.to_string()?;
            Ok(ServerFacts { name, limits, control: Control::Present { tables } })
        };
        ask().map_err(|failure| match failure {
            Failure::Failed(reason) | Failure::Skipped(reason) => reason,
        })
    }

    /// Whether a call that was finished before it returned gets its Return
    /// nevertheless, as it must.
    fn returns_cancelled_calls(&self) -> bool {
        !self.is_capnp_rpc()
    }

    /// Whether what the server has said of a promise binds it, as it must: calls
    /// that were on their way through the promise keep going the way that was
    /// described, and later ones wait for them.
    fn keeps_described_paths(&self) -> bool {
        !self.is_capnp_rpc()
    }

    /// Whether calls on a pipelined result stay in order where that result is
    /// what the call was given, and is still to be returned by another call.
    fn orders_nested_pipelines(&self) -> bool {
        !self.name.starts_with("pycapnp")
    }

    fn is_capnp_rpc(&self) -> bool {
        self.name.starts_with("capnp-rpc")
    }

    /// Why the server cannot show a behaviour, if it says so.
    pub(super) fn limit(&self, behaviour: &str) -> Option<String> {
        self.limits.get(behaviour).map(|why| format!("{}: {why}", self.name))
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Waited {
    Failed(Error),
    /// The deadline came first.
    TooLong,
}

impl From<Waited> for Failure {
    fn from(waited: Waited) -> Self {
        match waited {
            Waited::Failed(error) => error.into(),
            Waited::TooLong => {
                Failure::new(format!("no answer within {} seconds", DEADLINE.as_secs()))
            }
        }
    }
}

/// Questions, answers, exports, imports and embargoes, as a server counts them.
type TableSizes = [u32; 5];

/// A second connection of a behaviour.
pub(super) struct SecondConnection {
    pub(super) connection: Connection,
    /// The socket.
    pub(super) control: Arc<dyn TransportControl>,
}

pub(super) struct Context {
    address: Address,
    server: ServerFacts,
    deadline: Instant,
    vat: Vat,
    connection: Connection,
}

impl Context {
    fn connect(address: &Address, server: &ServerFacts) -> Result<Self, Failure> {
        let vat = Vat::new();
        let connection = connect(address, &vat)?.connection;
        Ok(Context {
            address: address.clone(),
            server: server.clone(),
            deadline: Instant::now() + DEADLINE,
            vat,
            connection,
        })
    }

    /// Runs a behaviour, and checks what must be true after each of them: the
    /// connection still answers, nothing is left in the tables of either side,
    /// no handle lives, and everything ends in time.
    pub(super) fn run(
        address: &Address,
        server: &ServerFacts,
        behaviour: impl FnOnce(&Context) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let context = Context::connect(address, server)?;
        let control: test_control::Client = context.theirs();
        // The first call settles what the bootstrap itself takes.
        context.table_sizes(&control)?;
        let before = context.table_sizes(&control)?;

        behaviour(&context)?;

        context.ping()?;
        context.until("the server's tables are as before", || {
            let now = context.table_sizes(&control)?;
            Ok(if now == before { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) })
        })?;
        if context.has_control() {
            context.until("no handle lives", || {
                let here = context.handles_here()?;
                Ok(if here == 0 { Ok(()) } else { Err(format!("{here} do")) })
            })?;
        }
        drop(control);
        context.until("this side's tables are empty", || {
            context.ping()?;
            let mut now = context.connection.snapshot();
            if !context.server.returns_cancelled_calls() {
                now.questions = 0;
            }
            Ok(if now.is_empty() { Ok(()) } else { Err(format!("{now:?}")) })
        })?;
        context.end()
    }

    fn end(self) -> Result<(), Failure> {
        let Context { connection, vat, .. } = self;
        connection.check().map_err(Failure::Failed)?;
        connection.close();
        check!(connection.join_timeout(DEADLINE)?, "the connection does not end");
        check!(connection.snapshot().is_empty(), "the end left {:?}", connection.snapshot());
        connection.check().map_err(Failure::Failed)?;
        drop(connection);
        check!(vat.shutdown(DEADLINE) == Ok(true), "the vat does not shut down");
        Ok(())
    }

    /// The server's bootstrap object.
    pub(super) fn theirs<C: FromClient>(&self) -> C {
        self.connection.bootstrap()
    }

    /// Where objects of this side run.
    pub(super) fn vat(&self) -> &Vat {
        &self.vat
    }

    /// What makes new objects of the server.
    pub(super) fn objects(&self) -> test_objects::Client {
        self.theirs()
    }

    /// An object of this side's.
    pub(super) fn export<C, S>(&self, server: S) -> C
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        self.vat.export(server)
    }

    /// A `TestInterface` of this side's, and what becomes known of it.
    pub(super) fn ours(&self) -> Ours {
        Ours::new(&self.vat, self.deadline, None)
    }

    /// Whether capabilities can have file descriptors with them.
    pub(super) fn passes_fds(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// A `TestInterface` that is good for nothing but its file descriptor.
    pub(super) fn file(&self, fd: impl Into<OwnedFd>) -> test_interface::Client {
        self.vat.export_with_fd(OurFile, fd)
    }

    /// One whose calls wait until the gate is opened.
    pub(super) fn gated(&self, gate: &Arc<Gate>) -> Ours {
        Ours::new(&self.vat, self.deadline, Some(Arc::clone(gate)))
    }

    /// What waits for it fails when this comes.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn wait<R>(&self, promise: &Promise<R>) -> Result<Response<R>, Waited> {
        match promise.wait_deadline(self.deadline) {
            Ok(response) => Ok(response),
            // The outcome itself may be of the same kind.
            Err(error) => Err(match promise.try_response() {
                None if Instant::now() >= self.deadline => Waited::TooLong,
                _ => Waited::Failed(error),
            }),
        }
    }

    /// Waits for a failure.
    pub(super) fn failure<R>(&self, promise: &Promise<R>) -> Result<Error, Failure> {
        match self.wait(promise) {
            Ok(_) => Err(Failure::new("a call that must fail succeeded")),
            Err(Waited::Failed(error)) => Ok(error),
            Err(too_long @ Waited::TooLong) => Err(too_long.into()),
        }
    }

    /// Looks again and again until it is so. Each look asks the server.
    pub(super) fn until(
        &self,
        what: &str,
        mut look: impl FnMut() -> Result<Result<(), String>, Failure>,
    ) -> Result<(), Failure> {
        loop {
            match look()? {
                Ok(()) => return Ok(()),
                Err(instead) if Instant::now() >= self.deadline => {
                    let seconds = DEADLINE.as_secs();
                    return Err(Failure::new(format!(
                        "not within {seconds} seconds: {what}; {instead}"
                    )));
                }
                Err(_) => {}
            }
        }
    }

    /// A call on the bootstrap object, answered.
    pub(super) fn ping(&self) -> Result<(), Failure> {
        self.check_foo(&self.theirs())
    }

    pub(super) fn check_foo(&self, object: &test_interface::Client) -> Result<(), Failure> {
        self.expect_x(&foo_request(object).send(), "foo")
    }

    pub(super) fn check_extends_foo(&self, object: &test_interface::Client) -> Result<(), Failure> {
        self.expect_x(&send_extends_foo(object), "bar")
    }

    pub(super) fn expect_x(&self, promise: &FooPromise, x: &str) -> Result<(), Failure> {
        Ok(require_x(&self.wait(promise)?, x)?)
    }

    /// Waits for answers that must be these numbers.
    pub(super) fn expect_sequence<'a>(
        &self,
        calls: impl IntoIterator<Item = &'a SequencePromise>,
        first: u32,
    ) -> Result<(), Failure> {
        for (expected, call) in (first..).zip(calls) {
            let n = self.wait(call)?.get()?.get_n();
            check!(n == expected, "call {expected} arrived as {n}");
        }
        Ok(())
    }

    /// Has the bootstrap object hold one of its own, so that nothing is left over
    /// of what it held before.
    pub(super) fn hold_nothing_of_ours(&self) -> Result<(), Failure> {
        let theirs = self.wait(&self.objects().test_interface_request().send())?;
        let mut request = self.theirs::<test_more_stuff::Client>().hold_request();
        request.get().set_cap(theirs.get()?.get_object()?);
        self.wait(&request.send())?;
        Ok(())
    }

    /// The view into the server. Skips the behaviour if there is none.
    pub(super) fn control(&self) -> Result<test_control::Client, Failure> {
        if self.has_control() {
            return Ok(self.theirs());
        }
        Err(Failure::Skipped("the server has no TestControl to ask".to_owned()))
    }

    /// See [`ServerFacts::keeps_described_paths`].
    pub(super) fn keeps_described_paths(&self) -> bool {
        self.server.keeps_described_paths()
    }

    /// See [`ServerFacts::orders_nested_pipelines`].
    pub(super) fn orders_nested_pipelines(&self) -> bool {
        self.server.orders_nested_pipelines()
    }

    pub(super) fn has_control(&self) -> bool {
        self.server.control != Control::Absent
    }

    pub(super) fn handles_here(&self) -> Result<u32, Failure> {
        let request = self.control()?.live_handles_request();
        Ok(self.wait(&request.send())?.get()?.get_here())
    }

    pub(super) fn handles_of_server(&self) -> Result<u32, Failure> {
        let request = self.control()?.live_handles_request();
        Ok(self.wait(&request.send())?.get()?.get_all())
    }

    /// The sizes of the server's tables, all 0 if it does not tell.
    pub(super) fn table_sizes(
        &self,
        control: &test_control::Client,
    ) -> Result<TableSizes, Failure> {
        if self.server.control != (Control::Present { tables: Tables::Told }) {
            return Ok(TableSizes::default());
        }
        let response = self.wait(&control.table_sizes_request().send())?;
        let sizes = response.get()?.get_sizes()?;
        Ok([
            sizes.get_questions(),
            sizes.get_answers(),
            sizes.get_exports(),
            sizes.get_imports(),
            sizes.get_embargoes(),
        ])
    }

    /// A second connection, whose socket the behaviour may shut down.
    pub(super) fn second_connection(&self) -> Result<SecondConnection, Failure> {
        connect(&self.address, &self.vat)
    }
}

fn connect(address: &Address, vat: &Vat) -> Result<SecondConnection, Failure> {
    let transport = tapped(address.connect_timeout(DEADLINE)?);
    let control = Arc::clone(&transport.control);
    let mut limits = Limits::default();
    limits.questions = QUESTIONS;
    let connection = vat.connect(transport, ConnConfig::new().limits(limits))?;
    Ok(SecondConnection { connection, control })
}

pub(super) type SequencePromise = Promise<test_call_order::get_call_sequence_results::Owned>;

/// Calls `foo` as `TestExtends` wants it.
pub(super) fn send_extends_foo(object: &test_interface::Client) -> FooPromise {
    let mut request = object.foo_request();
    let mut params = request.get();
    params.set_i(321);
    params.set_j(false);
    request.send()
}

/// Calls `getCallSequence`.
pub(super) fn sequence(object: &test_call_order::Client, expected: u32) -> SequencePromise {
    let mut request = object.get_call_sequence_request();
    request.get().set_expected(expected);
    request.send()
}
