//! What arrived in which order, and what was shared by all threads of a round.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use capnp_threads_core::Client;

use crate::worker::Reference;
use rpc_tests::support::Census;

/// Bits of a call's number; the others are its reference's.
const CALL_BITS: u32 = 12;

/// What all threads of a round share, on whichever connection they are.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Every object that is made.
    census: Census,
    references: AtomicU32,
    arrivals: Mutex<HashMap<u32, Arrivals>>,
    wrong: Mutex<Vec<String>>,
    /// References that one thread leaves for another.
    exchange: Mutex<Vec<Reference>>,
    /// Closures that were asked for and have not run yet.
    closures: AtomicU64,
    steps: AtomicU64,
}

#[derive(Default)]
struct Arrivals {
    next: u32,
    /// Whether calls may be missing, because they were cancelled or lost.
    gaps: bool,
}

/// The number of a call: which reference it was made through, and its place
/// among the calls of that.
pub fn number(reference: u32, call: u32) -> u32 {
    assert!(reference < 1 << (32 - CALL_BITS) && call < 1 << CALL_BITS, "fewer steps, please");
    reference << CALL_BITS | call
}

impl Ledger {
    pub fn census(&self) -> &Census {
        &self.0.census
    }

    /// The number of a new reference.
    pub fn reference(&self) -> u32 {
        self.0.references.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on calls of this reference may be missing.
    pub fn allow_gaps(&self, reference: u32) {
        self.0.arrivals.lock().unwrap().entry(reference).or_default().gaps = true;
    }

    /// Notes the arrival of a call, and whether it was overtaken.
    pub fn arrive(&self, number: u32) {
        let (reference, call) = (number >> CALL_BITS, number & ((1 << CALL_BITS) - 1));
        let mut arrivals = self.0.arrivals.lock().unwrap();
        let arrivals = arrivals.entry(reference).or_default();
        let right = if arrivals.gaps { call >= arrivals.next } else { call == arrivals.next };
        if !right {
            let expected = arrivals.next;
            self.complain(format!("reference {reference}: {call} arrived instead of {expected}"));
        }
        arrivals.next = call + 1;
    }

    /// Notes that something went wrong where no test can fail.
    pub fn complain(&self, what: String) {
        self.0.wrong.lock().unwrap().push(what);
    }

    /// Fails if anything went wrong.
    pub fn assert_right(&self) {
        let wrong = self.0.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} things went wrong: {wrong:#?}", wrong.len());
    }

    /// How many calls arrived that show their order.
    pub fn arrived(&self) -> u64 {
        let arrivals = self.0.arrivals.lock().unwrap();
        arrivals.values().map(|arrivals| u64::from(arrivals.next)).sum()
    }

    /// Leaves a reference for another thread.
    pub fn give(&self, reference: Reference) {
        self.0.exchange.lock().unwrap().push(reference);
    }

    /// Takes a reference that another thread has left.
    pub fn take(&self) -> Option<Reference> {
        self.0.exchange.lock().unwrap().pop()
    }

    pub fn closure_begins(&self) {
        self.0.closures.fetch_add(1, Ordering::SeqCst);
    }

    pub fn closure_ran(&self) {
        self.0.closures.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn closures(&self) -> u64 {
        self.0.closures.load(Ordering::SeqCst)
    }

    /// Counts the steps of all threads, from 1.
    pub fn step(&self) -> u64 {
        self.0.steps.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Whether two capabilities are the same object, once both are known.
pub fn same(left: &Client, right: &Client) -> capnp_threads_core::Result<bool> {
    Ok(left.resolve()? == right.resolve()?)
}
