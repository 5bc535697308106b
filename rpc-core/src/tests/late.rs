//! Calls that are made by the destructors of a thread that unwinds or ends.

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::content;
use super::net::{INTERFACE, METHOD};
use crate::cap::calling::{Call, Time};
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch};
use crate::error::Error;
use crate::wire::Hint;
use crate::work::role;

/// Only there to fail.
const LONG: Duration = Duration::from_secs(60);

/// Drops every call without an answer.
struct Unwilling;

impl Dispatch for Unwilling {
    fn dispatch(&self, call: IncomingCall) {
        drop(call);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Calls an object when it is dropped, and tells what came of that.
struct CallsAtDrop(Client, mpsc::Sender<Error>);

impl Drop for CallsAtDrop {
    fn drop(&mut self) {
        let (interface_id, method_id) = (INTERFACE, METHOD);
        let params = content::params(1, &[]);
        let call = Call { interface_id, method_id, params, hint: Hint::None };
        let error = self.0.finish(call, Time::Default).map(drop).unwrap_err();
        self.1.send(error).unwrap();
    }
}

/// The object's thread is panicking, but its method is not.
#[test]
fn an_object_that_drops_the_call_of_a_thread_that_unwinds_has_answered_it() {
    for concurrency in [Concurrency::Serial, Concurrency::Inline] {
        let (tell, told) = mpsc::channel();
        let client = Client::from_dispatch_with(Arc::new(Unwilling), concurrency);
        let unwinds = thread::spawn(move || {
            let _calls = CallsAtDrop(client, tell);
            panic!("on purpose");
        });
        let error = told.recv_timeout(LONG).unwrap();
        assert!(error.reason().contains("dropped the call"), "{error}");
        unwinds.join().unwrap_err();
    }
}

/// What this library keeps of the thread has gone by then.
#[test]
fn the_last_destructor_of_a_thread_may_call() {
    thread_local! {
        static LAST: RefCell<Option<CallsAtDrop>> = const { RefCell::new(None) };
    }
    let (tell, told) = mpsc::channel();
    let client = Client::from_dispatch_with(Arc::new(Unwilling), Concurrency::Serial);
    let ends = thread::spawn(move || {
        LAST.set(Some(CallsAtDrop(client, tell)));
        // What comes later goes first.
        assert!(role::may_wait());
    });
    told.recv_timeout(LONG).unwrap();
    ends.join().unwrap();
}
