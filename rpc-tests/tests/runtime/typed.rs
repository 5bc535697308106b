//! The typed surface: requests, promises, and the ways in which a server can
//! answer.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use capnp_threads_core::typed::{DeferredResults, new_client};
use capnp_threads_core::{
    Client, Error, ErrorKind, FromClient, Params, Promise, Request, Response, Results,
};
use rpc_schema::calculator_capnp::calculator::{self, Operator, expression, function, value};
use rpc_schema::echo_capnp::echo;

// ---- a calculator

struct Calculator;

/// A number as an object.
struct Number(f64);

/// A function of its parameters, on the server.
struct Formula(fn(&[f64]) -> f64);

impl value::Server for Number {
    fn read(&self, _: value::ReadParams, mut results: value::ReadResults) -> Result<(), Error> {
        results.get().set_value(self.0);
        Ok(())
    }
}

impl function::Server for Formula {
    fn call(
        &self,
        params: function::CallParams,
        mut results: function::CallResults,
    ) -> Result<(), Error> {
        let arguments: Vec<f64> = params.get()?.get_params()?.iter().collect();
        results.get().set_value((self.0)(&arguments));
        Ok(())
    }
}

fn evaluate(expression: expression::Reader<'_>) -> Result<f64, Error> {
    match expression.which()? {
        expression::Literal(number) => Ok(number),
        expression::PreviousResult(value) => Ok(value?.read_request().call()?.get()?.get_value()),
        expression::Parameter(_) => Err(Error::failed("no parameters here")),
        expression::Call(call) => {
            let arguments = call.get_params()?;
            let mut request = call.get_function()?.call_request();
            let mut params = request.get().init_params(arguments.len());
            for (index, argument) in (0..).zip(arguments) {
                params.set(index, evaluate(argument)?);
            }
            Ok(request.call()?.get()?.get_value())
        }
    }
}

impl calculator::Server for Calculator {
    fn evaluate(
        &self,
        params: calculator::EvaluateParams,
        mut results: calculator::EvaluateResults,
    ) -> Result<(), Error> {
        let number = evaluate(params.get()?.get_expression()?)?;
        results.get().set_value(value::Client::from_server(Number(number)));
        Ok(())
    }

    fn get_operator(
        &self,
        params: calculator::GetOperatorParams,
        mut results: calculator::GetOperatorResults,
    ) -> Result<(), Error> {
        let operator = match params.get()?.get_op()? {
            Operator::Add => |of: &[f64]| of[0] + of[1],
            Operator::Subtract => |of: &[f64]| of[0] - of[1],
            Operator::Multiply => |of: &[f64]| of[0] * of[1],
            Operator::Divide => |of: &[f64]| of[0] / of[1],
        };
        results.get().set_func(new_client(Formula(operator)));
        Ok(())
    }
}

fn is(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-9
}

#[test]
fn a_calculation_takes_no_round_trip_in_between() {
    let calculator = calculator::Client::from_server(Calculator);

    let mut request = calculator.evaluate_request();
    request.get().init_expression().set_literal(2.0);
    let two = request.send().pipeline().get_value();

    let mut request = calculator.get_operator_request();
    request.get().set_op(Operator::Subtract);
    let subtract = request.send().pipeline().get_func();

    let mut request = calculator.evaluate_request();
    let mut call = request.get().init_expression().init_call();
    call.set_function(subtract);
    let mut params = call.init_params(2);
    params.reborrow().get(0).set_literal(44.0);
    params.get(1).set_previous_result(two);
    let value = request.send().pipeline().get_value();
    let answer = value.read_request().send().wait().unwrap().get().unwrap().get_value();
    assert!(is(answer, 42.0));

    // A function of ours is called back.
    let largest = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let mut request = calculator.evaluate_request();
    let mut call = request.get().init_expression().init_call();
    call.set_function(new_client(Formula(largest)));
    let mut params = call.init_params(3);
    for (index, number) in [3.0, 9.0, 5.0].into_iter().enumerate() {
        params.reborrow().get(index.try_into().unwrap()).set_literal(number);
    }
    let value = request.send().pipeline().get_value();
    assert!(is(value.read_request().call().unwrap().get().unwrap().get_value(), 9.0));
}

// ---- ways to answer

type Totals = DeferredResults<echo::total_results::Owned>;
type Step = Box<dyn FnOnce(echo::TotalParams, echo::TotalResults) -> Result<(), Error> + Send>;

/// Serves one call of `total` in a way that a test chooses.
struct Once(Mutex<Option<Step>>);

impl echo::Server for Once {
    fn total(&self, params: echo::TotalParams, results: echo::TotalResults) -> Result<(), Error> {
        let step = self.0.lock().unwrap().take().expect("called once");
        step(params, results)
    }
}

fn once(
    step: impl FnOnce(echo::TotalParams, echo::TotalResults) -> Result<(), Error> + Send + 'static,
) -> echo::Client {
    new_client(Once(Mutex::new(Some(Box::new(step)))))
}

fn total(client: &echo::Client) -> Result<u64, Error> {
    Ok(client.total_request().call()?.get()?.get_bytes())
}

/// A server that defers, and the deferred results.
fn deferring() -> (Promise<echo::total_results::Owned>, Totals) {
    let (sender, receiver) = channel();
    let client = once(move |_, mut results| {
        results.get().set_bytes(11);
        sender.send(results.defer()).unwrap();
        Ok(())
    });
    let promise = client.total_request().send();
    (promise, receiver.recv().unwrap())
}

#[test]
fn returning_sends_what_was_filled_in() {
    let filled = once(|_, mut results| {
        results.get().set_bytes(1);
        assert_eq!(results.get().reborrow_as_reader().get_bytes(), 1);
        drop(results);
        Ok(())
    });
    assert_eq!(total(&filled).unwrap(), 1);

    // Nothing filled in is the default value.
    assert_eq!(total(&once(|_, _| Ok(()))).unwrap(), 0);
}

#[test]
fn an_error_wins_over_what_was_filled_in() {
    let client = once(|_, mut results| {
        results.get().set_bytes(1);
        Err(Error::overloaded("not today"))
    });
    assert_eq!(total(&client).unwrap_err(), Error::overloaded("not today"));
}

#[test]
fn errors_of_readers_pass_through_a_server() {
    let client = once(|_, _| {
        let broken: capnp::Result<()> = Err(capnp::Error::disconnected("far away".into()));
        broken?;
        Ok(())
    });
    assert_eq!(total(&client).unwrap_err(), Error::disconnected("far away"));
}

#[test]
fn deferred_results_are_answered_by_another_thread() {
    let (promise, deferred) = deferring();
    assert!(promise.try_response().is_none());
    assert!(!deferred.is_cancelled());
    thread::spawn(move || {
        deferred.answer(|mut results| {
            // What the method filled in is still there.
            let bytes = results.get().reborrow_as_reader().get_bytes();
            results.get().set_bytes(bytes + 1);
            Ok(())
        });
    })
    .join()
    .unwrap();
    assert_eq!(promise.wait().unwrap().get().unwrap().get_bytes(), 12);
}

#[test]
fn deferred_results_can_fail() {
    let (promise, deferred) = deferring();
    deferred.fail(Error::failed("no luck"));
    assert_eq!(promise.wait().unwrap_err(), Error::failed("no luck"));

    let (promise, deferred) = deferring();
    deferred.answer(|_| Err(Error::failed("no luck either")));
    assert_eq!(promise.wait().unwrap_err(), Error::failed("no luck either"));
}

#[test]
fn deferred_results_can_be_deferred_again() {
    let (promise, deferred) = deferring();
    let (sender, receiver) = channel();
    deferred.answer(move |results| {
        sender.send(results.defer()).unwrap();
        Ok(())
    });
    assert!(promise.try_response().is_none());
    receiver.recv().unwrap().answer(|_| Ok(()));
    assert_eq!(promise.wait().unwrap().get().unwrap().get_bytes(), 11);
}

#[test]
fn dropping_deferred_results_fails_the_call() {
    let (promise, deferred) = deferring();
    drop(deferred);
    let error = promise.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.reason().contains("deferred"), "{error}");
}

#[test]
fn an_error_after_deferring_answers_the_call() {
    let (sender, receiver) = channel();
    let client = once(move |_, results| {
        sender.send(results.defer()).unwrap();
        Err(Error::failed("changed my mind"))
    });
    assert_eq!(total(&client).unwrap_err(), Error::failed("changed my mind"));
    // The call has its answer; another one is not an event.
    let deferred: Totals = receiver.recv().unwrap();
    deferred.answer(|_| panic!("there is nothing to answer"));
}

thread_local! {
    static KEPT: std::cell::RefCell<Option<echo::TotalResults>> =
        const { std::cell::RefCell::new(None) };
}

#[test]
fn keeping_results_without_deferring_fails_the_call() {
    let client = once(|_, results| {
        KEPT.set(Some(results));
        Ok(())
    });
    let error = total(&client).unwrap_err();
    assert!(error.reason().contains("defer"), "{error}");
}

#[test]
fn a_server_learns_that_its_caller_left() {
    let (sender, receiver) = channel();
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let (started, start) = channel();
    let client = once(move |params, results| {
        started.send(()).unwrap();
        wait.recv().unwrap();
        sender.send((params.is_cancelled(), results.is_cancelled())).unwrap();
        let deferred = results.defer();
        sender.send((params.is_cancelled(), deferred.is_cancelled())).unwrap();
        Ok(())
    });
    let promise = client.total_request().send();
    start.recv().unwrap();
    drop(promise);
    go.send(()).unwrap();
    assert_eq!(receiver.recv().unwrap(), (true, true));
    assert_eq!(receiver.recv().unwrap(), (true, true));
}

// ---- content

/// Gives back what it gets, from another thread.
struct Relay;

impl calculator::Server for Relay {
    fn evaluate(
        &self,
        params: calculator::EvaluateParams,
        results: calculator::EvaluateResults,
    ) -> Result<(), Error> {
        let (params, results) = (params.detach(), results.defer());
        thread::spawn(move || {
            results.answer(|mut results| {
                let params = params.attach();
                match params.get()?.get_expression()?.which()? {
                    expression::PreviousResult(value) => results.get().set_value(value?),
                    _ => return Err(Error::failed("another member")),
                }
                Ok(())
            });
        });
        Ok(())
    }
}

#[test]
fn parameters_can_be_read_on_another_thread() {
    let relay = calculator::Client::from_server(Relay);
    let mut request = relay.evaluate_request();
    request.get().init_expression().set_previous_result(new_client(Number(8.0)));
    let value = request.send().pipeline().get_value();
    assert!(is(value.read_request().call().unwrap().get().unwrap().get_value(), 8.0));
}

/// Tells when it is dropped.
struct Watched(Sender<()>);

impl value::Server for Watched {}

impl Drop for Watched {
    fn drop(&mut self) {
        // A test that is over listens no more.
        let _ = self.0.send(());
    }
}

/// Releases its parameters before it returns.
struct Releasing(Mutex<Receiver<()>>);

impl calculator::Server for Releasing {
    fn evaluate(
        &self,
        mut params: calculator::EvaluateParams,
        _: calculator::EvaluateResults,
    ) -> Result<(), Error> {
        params.release_capabilities();
        self.0.lock().unwrap().recv().expect("the object is gone");
        match params.get()?.get_expression()?.which()? {
            expression::PreviousResult(value) => assert!(value.is_err()),
            _ => return Err(Error::failed("another member")),
        }
        Ok(())
    }
}

#[test]
fn capabilities_can_be_released_before_the_method_returns() {
    let (dropped, gone) = channel();
    let client = calculator::Client::from_server(Releasing(Mutex::new(gone)));
    let mut request = client.evaluate_request();
    request.get().init_expression().set_previous_result(new_client(Watched(dropped)));
    request.call().unwrap();
}

#[test]
fn drafts_that_hold_capabilities_can_be_replaced() {
    fn filled(request: &mut Request<calculator::evaluate_params::Owned, impl Sized>, of: f64) {
        request.get().init_expression().set_previous_result(new_client(Number(of)));
    }
    let relay = calculator::Client::from_server(Relay);
    let mut source = relay.evaluate_request();
    filled(&mut source, 1.0);
    let mut target = relay.evaluate_request();
    filled(&mut target, 2.0);
    // The old content is dropped whole, with its capability.
    target.set(source.get().into_reader()).unwrap();
    let value = target.send().pipeline().get_value();
    assert!(is(value.read_request().call().unwrap().get().unwrap().get_value(), 1.0));
}

#[test]
fn a_capability_can_be_overwritten() {
    let relay = calculator::Client::from_server(Relay);
    let mut request = relay.evaluate_request();
    let mut expression = request.get().init_expression();
    expression.set_previous_result(new_client(Number(1.0)));
    expression.set_previous_result(new_client(Number(2.0)));
    let value = request.send().pipeline().get_value();
    assert!(is(value.read_request().call().unwrap().get().unwrap().get_value(), 2.0));
}

#[test]
fn a_response_can_be_read_many_times() {
    let client = once(|_, mut results| {
        results.get().set_bytes(3);
        Ok(())
    });
    let response = client.total_request().call().unwrap();
    for _ in 0..100 {
        assert_eq!(response.get().unwrap().get_bytes(), 3);
    }
    let copies: Vec<_> = vec![response.detach(); 2];
    for copy in copies {
        assert_eq!(thread::spawn(move || read(&copy.attach())).join().unwrap(), 3);
    }
}

fn read(response: &Response<echo::total_results::Owned>) -> u64 {
    response.get().unwrap().get_bytes()
}

// ---- promises

#[test]
fn a_promise_can_be_waited_for_by_several() {
    let (promise, deferred) = deferring();
    let other = promise.clone();
    let waiter = thread::spawn(move || read(&other.wait().unwrap()));
    deferred.answer(|_| Ok(()));
    assert_eq!(read(&promise.wait().unwrap()), 11);
    assert_eq!(read(&promise.wait().unwrap()), 11);
    assert_eq!(waiter.join().unwrap(), 11);
    assert_eq!(read(&promise.try_response().unwrap().unwrap()), 11);
}

#[test]
fn waiting_ends_when_time_is_up() {
    let (promise, deferred) = deferring();
    assert!(promise.wait_timeout(std::time::Duration::ZERO).is_err());
    assert!(promise.wait_deadline(std::time::Instant::now()).is_err());
    deferred.answer(|_| Ok(()));
    promise.wait().unwrap();
    assert_eq!(read(&promise.wait_timeout(std::time::Duration::ZERO).unwrap()), 11);
}

#[test]
fn an_action_runs_when_the_call_returned() {
    let (promise, deferred) = deferring();
    let (sender, receiver) = channel();
    promise.on_resolve({
        let sender = sender.clone();
        move |response| sender.send(read(&response.unwrap())).unwrap()
    });
    // The action keeps the call going.
    drop(promise);
    assert!(!deferred.is_cancelled());
    deferred.answer(|_| Ok(()));
    assert_eq!(receiver.recv().unwrap(), 11);

    let client = once(|_, _| Err(Error::failed("broken")));
    client.total_request().send().on_resolve(move |response| {
        sender.send(response.map_or(99, |response| read(&response))).unwrap();
    });
    assert_eq!(receiver.recv().unwrap(), 99);
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(Mutex<u32>, std::sync::Condvar);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

#[test]
fn a_promise_is_a_future() {
    let (promise, deferred) = deferring();
    let first = Arc::new(Woken::default());
    let last = Arc::new(Woken::default());
    let mut promise = pin!(promise);
    for woken in [&first, &last] {
        let waker = Waker::from(Arc::clone(woken));
        assert!(promise.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    deferred.answer(|_| Ok(()));
    let count = last.1.wait_while(last.0.lock().unwrap(), |count| *count == 0).unwrap();
    assert_eq!(*count, 1);
    drop(count);
    // Only the task that asked last is woken.
    assert_eq!(*first.0.lock().unwrap(), 0);
    let waker = Waker::from(last);
    match promise.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(response) => assert_eq!(read(&response.unwrap()), 11),
        Poll::Pending => panic!("the call returned"),
    }
}

#[test]
fn dropping_a_promise_that_was_polled_cancels_the_call() {
    let (promise, deferred) = deferring();
    let mut promise = Box::pin(promise);
    assert!(promise.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(!deferred.is_cancelled());
    drop(promise);
    assert!(deferred.is_cancelled());
}

#[test]
fn a_pipeline_outlives_its_promise() {
    let calculator = calculator::Client::from_server(Calculator);
    let mut request = calculator.evaluate_request();
    request.get().init_expression().set_literal(6.0);
    let pipeline = request.send().pipeline();
    let value = thread::spawn(move || pipeline.get_value()).join().unwrap();
    assert!(is(value.read_request().call().unwrap().get().unwrap().get_value(), 6.0));
}

#[test]
fn what_is_not_a_capability_fails_calls() {
    let null: value::Client = FromClient::from_client(Client::null());
    assert!(null.read_request().call().is_err());
    let broken = value::Client::from_client(Client::broken(Error::disconnected("gone")));
    let error = broken.read_request().call().unwrap_err();
    assert_eq!(error, Error::disconnected("gone"));
    // The results of an echo have no such capability.
    let results = once(|_, _| Ok(())).next_request().send().pipeline().get_echo();
    assert!(results.ping_request().call().is_err());
}

#[test]
fn what_may_change_threads_does() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<calculator::Client>();
    crosses::<Promise<calculator::evaluate_results::Owned>>();
    crosses::<calculator::evaluate_results::Pipeline>();
    crosses::<DeferredResults<calculator::evaluate_results::Owned>>();
    crosses::<capnp_threads_core::Detached<calculator::evaluate_results::Owned>>();
    crosses::<Box<dyn calculator::Server>>();
    // What these are for is named by the generated aliases.
    let _: fn(calculator::EvaluateParams) = |_: Params<calculator::evaluate_params::Owned>| ();
    let _: fn(calculator::EvaluateResults) = |_: Results<calculator::evaluate_results::Owned>| ();
}
