//! Objects that wait for each other: Note [stuck workers].

use std::any::Any;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::content;
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::sync::Mutex;
use crate::work::pool::{Pool, PoolConfig};
use crate::work::watch::Watch;

/// Whom an object asks. A test takes it out in the end: objects that hold each other stay.
type Asked = Arc<Mutex<Option<Client>>>;

/// An object that waits for another one before it answers.
struct Asks {
    name: &'static str,
    other: Asked,
}

impl Dispatch for Asks {
    fn dispatch(&self, call: IncomingCall) {
        call.allow_cancellation();
        let other = self.other.lock().clone().unwrap();
        let outcome = other.call(1, 1, content::params(1, &[])).wait();
        call.respond(outcome);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn name(&self) -> Option<&str> {
        Some(self.name)
    }
}

fn pool(adjust: impl FnOnce(&mut PoolConfig)) -> Arc<Pool> {
    let mut config = PoolConfig { patience: Duration::MAX, ..PoolConfig::default() };
    adjust(&mut config);
    Pool::new("circle".to_owned(), config)
}

fn asks(pool: &Arc<Pool>, name: &'static str, how: Concurrency) -> (Client, Asked) {
    let other = Asked::default();
    let server = Arc::new(Asks { name, other: Arc::clone(&other) });
    (Client::of(LocalObject::new(server, how, Arc::clone(pool) as _)), other)
}

/// Breaks a circle in which this object is.
fn let_go(asked: &Asked) {
    let other = asked.lock().take();
    drop(other);
}

#[test]
fn a_circle_of_serial_objects_is_named_and_ends_when_its_call_is_cancelled() {
    let pool = pool(|_| ());
    let (one, one_asks) = asks(&pool, "One", Concurrency::Serial);
    let (two, two_asks) = asks(&pool, "Two", Concurrency::Serial);
    *one_asks.lock() = Some(two.clone());
    *two_asks.lock() = Some(one.clone());
    let call = one.call(1, 1, content::params(1, &[]));
    let mut watch = Watch::default();
    let warning = loop {
        let mut warnings = watch.look(&pool);
        // Looks that follow each other at once may find one of the two on its way.
        warnings.retain(|warning| warning.contains("for ever"));
        if let Some(warning) = warnings.pop() {
            break warning;
        }
        std::thread::yield_now();
    };
    assert!(
        warning.contains("One waits behind Two waits behind One")
            || warning.contains("Two waits behind One waits behind Two"),
        "{warning}"
    );
    drop(call);
    assert!(pool.close(Deadline::NEVER));
    let_go(&one_asks);
}

/// Begins, and asks another object only when it is told to.
struct Hesitates {
    asks: Asks,
    begun: mpsc::Sender<()>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Dispatch for Hesitates {
    fn dispatch(&self, call: IncomingCall) {
        self.begun.send(()).unwrap();
        if self.go.lock().recv().is_ok() {
            self.asks.dispatch(call);
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn name(&self) -> Option<&str> {
        self.asks.name()
    }
}

/// A method that was told of while it ran begins to wait, and closes the circle.
#[test]
fn a_circle_is_named_though_its_methods_were_stuck_before_it_closed() {
    const LONG: Duration = Duration::from_secs(50);
    let pool = pool(|_| ());
    let (one, one_asks) = asks(&pool, "One", Concurrency::Serial);
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let asks = Asks { name: "Two", other: Arc::new(Mutex::new(Some(one.clone()))) };
    let two = Arc::new(Hesitates { asks, begun, go: Mutex::new(may_go) });
    let two = Client::of(LocalObject::new(two, Concurrency::Serial, Arc::clone(&pool) as _));
    *one_asks.lock() = Some(two);
    let call = one.call(1, 1, content::params(1, &[]));
    has_begun.recv().unwrap();
    let mut watch = Watch::default();
    let begin = Instant::now();
    let mut look_for = |text: &str| loop {
        if watch.look(&pool).iter().any(|warning| warning.contains(text)) {
            break;
        }
        assert!(begin.elapsed() < LONG, "no warning has {text:?}");
        std::thread::yield_now();
    };
    look_for("no progress: One waits behind Two");
    go.send(()).unwrap();
    look_for("for ever");
    // One may turn to Two once more before the cancellation has come through the circle.
    drop(go);
    drop(call);
    assert!(pool.close(Deadline::NEVER));
    let_go(&one_asks);
}

#[test]
fn a_recursion_that_needs_more_workers_than_there_may_be_fails() {
    let pool = pool(|config| {
        config.max_workers = 2;
        config.max_waiting = 8;
    });
    let (object, itself) = asks(&pool, "Deep", Concurrency::Concurrent);
    *itself.lock() = Some(object.clone());
    let error = object.call(1, 1, content::params(1, &[])).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.reason().contains("wait for other calls"), "{error}");
    assert!(pool.close(Deadline::NEVER));
    let_go(&itself);
}
