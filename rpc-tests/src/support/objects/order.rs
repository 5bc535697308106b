//! `TestCallOrder`: calls that show in which order they arrive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use capnp_threads_core::{Promise, Result};
use rpc_schema::test_capnp::test_call_order;

use crate::support::{Census, Counted};

/// Does what the schema says: numbers the calls.
#[derive(Debug, Default)]
pub struct CallOrder {
    next: AtomicU32,
}

impl CallOrder {
    /// The number of the next call.
    pub fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }
}

impl test_call_order::Server for CallOrder {
    fn get_call_sequence(
        &self,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.number());
        Ok(())
    }
}

/// Checks that the calls of each reference arrive in the order in which they
/// were made. A call carries the number of its reference and its own.
#[derive(Clone, Debug, Default)]
pub struct Order(Arc<Mutex<OrderState>>);

#[derive(Debug, Default)]
struct OrderState {
    next: HashMap<u16, u16>,
    arrived: u64,
    wrong: Vec<String>,
}

impl Order {
    /// One that has seen no call.
    pub fn new() -> Self {
        Order::default()
    }

    /// How many calls have arrived.
    pub fn arrived(&self) -> u64 {
        self.0.lock().unwrap().arrived
    }

    /// Panics if any call has been overtaken so far.
    pub fn assert_right(&self, how: &str) {
        let wrong = &self.0.lock().unwrap().wrong;
        assert!(wrong.is_empty(), "{how}: {wrong:?}");
    }

    /// Notes the arrival of a call, and returns the number that it should have had
    /// among those of its reference.
    pub fn arrive(&self, number: u32) -> u32 {
        let (reference, number) =
            (u16::try_from(number >> 16).unwrap(), u16::try_from(number & 0xffff).unwrap());
        let mut state = self.0.lock().unwrap();
        state.arrived += 1;
        let next = state.next.entry(reference).or_default();
        let expected = *next;
        *next = number.wrapping_add(1);
        if number != expected {
            state
                .wrong
                .push(format!("reference {reference}: {number} arrived instead of {expected}"));
        }
        u32::from(expected)
    }
}

/// One reference to an object that is called with consecutive numbers.
pub struct OrderedReference {
    /// What the next call is made through.
    pub client: test_call_order::Client,
    reference: u16,
    next: u16,
}

impl OrderedReference {
    /// The reference of this number, which must be its own.
    pub fn new(client: test_call_order::Client, reference: u16) -> Self {
        OrderedReference { client, reference, next: 0 }
    }

    /// Makes the next call.
    pub fn send(&mut self) -> Promise<test_call_order::get_call_sequence_results::Owned> {
        let client = self.client.clone();
        self.send_through(&client)
    }

    /// Makes the next call through another client of the same reference.
    pub fn send_through(
        &mut self,
        client: &test_call_order::Client,
    ) -> Promise<test_call_order::get_call_sequence_results::Owned> {
        let mut request = client.get_call_sequence_request();
        request.get().set_expected(u32::from(self.reference) << 16 | u32::from(self.next));
        self.next = self.next.wrapping_add(1);
        request.send()
    }
}

/// An object that checks the order of its calls and is counted.
#[derive(Debug)]
pub struct Sequence {
    order: Order,
    _counted: Counted,
}

impl Sequence {
    /// One that tells `order` of its calls.
    pub fn new(order: &Order, census: &Census) -> Self {
        Sequence { order: order.clone(), _counted: census.count() }
    }

    /// What it tells of its calls.
    pub fn order(&self) -> &Order {
        &self.order
    }
}

impl test_call_order::Server for Sequence {
    fn get_call_sequence(
        &self,
        params: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.order.arrive(params.get()?.get_expected()));
        Ok(())
    }
}
