//! Runs behaviours against a server: connections, deadlines, checks, verdicts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use std::future::{Future, Ready};
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use capnp::ErrorKind;
use capnp::capability::{Client, FromClientHook, Promise, Response};
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use futures::future::LocalBoxFuture;
use tokio::task::JoinHandle;

use crate::address;
use crate::generated::test_capnp::{test_call_order, test_interface};
use crate::generated::test_control_capnp::{test_control, test_objects};
use crate::serve::NEVER_RUNS;
use crate::{bulk, calls, lifetimes, promises};

const DEADLINE: Duration = Duration::from_secs(20);

/// Why a behaviour did not pass.
pub(crate) enum Failure {
    Failed(String),
    /// This client cannot show it.
    Skipped(String),
}

impl From<capnp::Error> for Failure {
    fn from(error: capnp::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<capnp::NotInSchema> for Failure {
    fn from(error: capnp::NotInSchema) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(crate) type Outcome = Result<(), Failure>;
/// A behaviour by its name in README.md.
pub(crate) type Named = (&'static str, fn(Rc<Context>) -> LocalBoxFuture<'static, Outcome>);

/// A failure with the place where it was found.
macro_rules! fail {
    ($($reason:tt)*) => {
        return Err($crate::harness::Failure::Failed(format!(
            "{}:{}: {}", file!(), line!(), format_args!($($reason)*)
        )))
    };
}
/// Requires a condition.
macro_rules! check {
    ($condition:expr) => {
        if !$condition { $crate::harness::fail!("not so: {}", stringify!($condition)) }
    };
    ($condition:expr, $($reason:tt)*) => {
        if !$condition {
            $crate::harness::fail!("not so: {}: {}", stringify!($condition), format_args!($($reason)*))
        }
    };
}
/// Requires that two values are equal.
macro_rules! check_eq {
    ($actual:expr, $expected:expr) => {{
        match (&$actual, &$expected) {
            (actual, expected) if actual != expected => {
                $crate::harness::fail!("{} is {actual:?}, not {expected:?}", stringify!($actual))
            }
            _ => {}
        }
    }};
}
/// A table of behaviours from their names and functions.
macro_rules! behaviours {
    ($($name:literal => $function:ident,)*) => {
        pub(crate) const BEHAVIOURS: &[$crate::harness::Named] =
            &[$(($name, |context| Box::pin($function(context)))),*];
    };
}
pub(crate) use {behaviours, check, check_eq, fail};

/// A connection to the server, which ends when it is dropped.
pub(crate) struct Connection {
    bootstrap: Client,
    handle: socket2::Socket,
    task: JoinHandle<()>,
}

impl Connection {
    async fn new(address: &str) -> io::Result<Self> {
        let address::Socket { reading, writing, handle } = address::connect(address).await?;
        let network =
            VatNetwork::new(reading, writing, Side::Client, capnp::message::ReaderOptions::new());
        let mut rpc = RpcSystem::new(Box::new(network), None);
        let bootstrap: Client = rpc.bootstrap(Side::Server);
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = rpc.await {
                eprintln!("connection: {error}");
            }
        });
        Ok(Self { bootstrap, handle, task })
    }

    /// The server's bootstrap object, as any of its interfaces.
    pub(crate) fn theirs<T: FromClientHook>(&self) -> T {
        self.bootstrap.clone().cast_to()
    }

    /// Shuts the socket down under the RPC system.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        self.handle.shutdown(std::net::Shutdown::Both)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a behaviour works with.
pub(crate) struct Context {
    address: String,
    connection: Connection,
    view: View,
}

impl Context {
    /// The server's bootstrap object over this behaviour's connection.
    pub(crate) fn theirs<T: FromClientHook>(&self) -> T {
        self.connection.theirs()
    }

    /// Where new objects of the server come from.
    pub(crate) fn objects(&self) -> test_objects::Client {
        self.theirs()
    }

    /// The view into the server. Skips the behaviour when there is none.
    pub(crate) fn control(&self) -> Result<test_control::Client, Failure> {
        if self.has_control() {
            Ok(self.theirs())
        } else {
            Err(Failure::Skipped("the server has no TestControl to ask".into()))
        }
    }

    pub(crate) fn has_control(&self) -> bool {
        self.view.has_control
    }

    /// Skips the behaviour if the server tail-calls this vat in a way that this
    /// client cannot follow.
    pub(crate) fn needs_results_of_tail_calls(&self) -> Outcome {
        match self.view.results_to_yourself {
            ResultsToYourself::Never => Ok(()),
            ResultsToYourself::TailCalls | ResultsToYourself::Always => {
                Err(Failure::Skipped(NEVER_RUNS.into()))
            }
        }
    }

    /// The same for pipelined calls that the server passes back.
    pub(crate) fn needs_results_of_pipelined_calls(&self) -> Outcome {
        match self.view.results_to_yourself {
            ResultsToYourself::Never | ResultsToYourself::TailCalls => Ok(()),
            ResultsToYourself::Always => Err(Failure::Skipped(NEVER_RUNS.into())),
        }
    }

    /// A second connection.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection::new(&self.address).await?)
    }

    /// A call on the bootstrap object, answered.
    pub(crate) async fn ping(&self) -> Outcome {
        check_foo(&self.theirs()).await
    }
}

/// The outcome of a behaviour that this client cannot show.
pub(crate) fn skipped(reason: &str) -> Ready<Outcome> {
    std::future::ready(Err(Failure::Skipped(reason.into())))
}

/// Waits for a failure and returns it.
pub(crate) async fn failure<T>(
    promise: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<capnp::Error, Failure> {
    match promise.await {
        Ok(_) => Err(Failure::Failed("a call that must fail succeeded".into())),
        Err(error) => Ok(error),
    }
}

/// The answer of a `foo` that was sent.
pub(crate) type FooAnswer = Promise<Response<test_interface::foo_results::Owned>, capnp::Error>;

/// Sends `foo(123, true)`, which a `TestInterface` answers with "foo".
pub(crate) fn send_foo(cap: &test_interface::Client) -> FooAnswer {
    let mut request = cap.foo_request();
    request.get().set_i(123);
    request.get().set_j(true);
    request.send().promise
}

/// Sends `foo(321, false)`, which a `TestExtends` answers with "bar".
pub(crate) fn send_extends_foo(cap: &test_interface::Client) -> FooAnswer {
    let mut request = cap.foo_request();
    request.get().set_i(321);
    request.get().set_j(false);
    request.send().promise
}

/// Requires an answer.
pub(crate) async fn expect_foo(answer: FooAnswer, expected: &str) -> Outcome {
    let response = answer.await?;
    check_eq!(response.get()?.get_x()?.to_str()?, expected);
    Ok(())
}

pub(crate) async fn check_foo(cap: &test_interface::Client) -> Outcome {
    expect_foo(send_foo(cap), "foo").await
}

pub(crate) async fn check_extends_foo(cap: &test_interface::Client) -> Outcome {
    expect_foo(send_extends_foo(cap), "bar").await
}

/// The number that a call will be answered with.
pub(crate) type Number = LocalBoxFuture<'static, Result<u32, capnp::Error>>;

/// Sends `getCallSequence`.
pub(crate) fn sequence(cap: &test_call_order::Client, expected: u32) -> Number {
    let mut request = cap.get_call_sequence_request();
    request.get().set_expected(expected);
    let promise = request.send().promise;
    Box::pin(async move { Ok(promise.await?.get()?.get_n()) })
}

struct Server {
    name: String,
    limits: HashMap<String, String>,
    view: View,
}

/// What the server lets be known of itself.
#[derive(Clone, Copy)]
pub(crate) struct View {
    has_control: bool,
    results_to_yourself: ResultsToYourself,
}

/// Which calls that the server passes back to this vat are to keep their results
/// here.
#[derive(Clone, Copy)]
enum ResultsToYourself {
    Never,
    TailCalls,
    /// Pipelined calls, too.
    Always,
}

async fn ask_server(address: &str) -> Result<Server, Failure> {
    let connection = Connection::new(address).await?;
    let control: test_control::Client = connection.theirs();
    let mut limits = HashMap::new();
    match control.implementation_request().send().promise.await {
        Ok(response) => {
            let results = response.get()?;
            for limit in results.get_limits()? {
                limits.insert(limit.get_behaviour()?.to_string()?, limit.get_why()?.to_string()?);
            }
            let view = View {
                has_control: true,
                results_to_yourself: match results.get_sends_results_to_yourself() {
                    false => ResultsToYourself::Never,
                    true if results.get_only_tail_calls() => ResultsToYourself::TailCalls,
                    true => ResultsToYourself::Always,
                },
            };
            Ok(Server { name: results.get_name()?.to_string()?, limits, view })
        }
        Err(error) if error.kind == ErrorKind::Unimplemented => {
            let view = View { has_control: false, results_to_yourself: ResultsToYourself::Never };
            Ok(Server { name: "the server".into(), limits, view })
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints verdicts and counts them.
#[derive(Default)]
struct Report {
    passed: Cell<u32>,
    failed: Cell<u32>,
    out: RefCell<Option<io::Error>>,
}

impl Report {
    fn line(&self, line: impl Display) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            *self.out.borrow_mut() = Some(error);
        }
    }

    fn verdict(&self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                self.passed.set(self.passed.get() + 1);
                self.line(format_args!("ok {name}"));
            }
            Err(Failure::Failed(reason)) => {
                self.failed.set(self.failed.get() + 1);
                self.line(format_args!("FAIL {name}: {}", reason.replace('\n', " ")));
            }
            Err(Failure::Skipped(reason)) => self.line(format_args!("skip {name}: {reason}")),
        }
    }

    fn end(&self) -> ExitCode {
        self.line(format_args!("{} passed, {} failed", self.passed.get(), self.failed.get()));
        if self.failed.get() == 0 && self.out.borrow().is_none() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Runs the named behaviours, all if none is named.
pub(crate) async fn call(address: &str, names: &[String]) -> ExitCode {
    let report = Report::default();
    let asked = tokio::time::timeout(DEADLINE, ask_server(address)).await;
    let server = match asked.unwrap_or_else(|_| Err(no_answer())) {
        Ok(server) => server,
        Err(failure) => {
            report.verdict("connect", Err(failure));
            return report.end();
        }
    };
    let all = [calls::BEHAVIOURS, promises::BEHAVIOURS, lifetimes::BEHAVIOURS, bulk::BEHAVIOURS];
    for &(name, behaviour) in all.into_iter().flatten() {
        if !names.is_empty() && !names.iter().any(|n| n == name) {
            continue;
        }
        let outcome = match server.limits.get(name) {
            Some(why) => Err(Failure::Skipped(format!("{}: {why}", server.name))),
            None => run(address, server.view, DEADLINE, behaviour).await,
        };
        report.verdict(name, outcome);
    }
    report.end()
}

/// Runs what is no behaviour, but needs what behaviours need: a connection of its own, and
/// a deadline.
pub(crate) async fn with_server(
    address: &str,
    deadline: Duration,
    what: impl FnOnce(Rc<Context>) -> LocalBoxFuture<'static, Outcome>,
) -> Outcome {
    let asked = tokio::time::timeout(deadline, ask_server(address)).await;
    let server = asked.unwrap_or_else(|_| Err(no_answer()))?;
    run(address, server.view, deadline, what).await
}

async fn run(
    address: &str,
    view: View,
    deadline: Duration,
    behaviour: impl FnOnce(Rc<Context>) -> LocalBoxFuture<'static, Outcome>,
) -> Outcome {
    let whole = async {
        let context = Rc::new(Context {
            address: address.to_owned(),
            connection: Connection::new(address).await?,
            view,
        });
        behaviour(context.clone()).await?;
        context.ping().await
    };
    match tokio::time::timeout(deadline, whole).await {
        Ok(Err(Failure::Skipped(reason))) => {
            Err(Failure::Skipped(format!("this client: {reason}")))
        }
        Ok(outcome) => outcome,
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> Failure {
    Failure::Failed("no answer within the deadline".into())
}
