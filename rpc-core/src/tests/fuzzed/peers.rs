//! One vat between two peers that say anything, beside one that behaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::choices::Choices;
use super::said;
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::Concurrency;
use crate::cap::promise::{Fulfiller, promise};
use crate::error::Error;
use crate::limits::Limits;
use crate::sync::Mutex;
use crate::tests::actor::acknowledge;
use crate::tests::content;
use crate::tests::neighbours::Neighbourhood;
use crate::tests::net::{Call, End, INTERFACE, METHOD, Net, limits};

/// How many steps the bytes may choose; how long something takes is not what is looked for.
const STEPS: usize = 300;

/// How often calls are passed on: some go round in circles of objects that pass them on for
/// ever, as they were told to.
const PASSED_ON: usize = 100;

/// The most that a peer may make the vat hold, in bytes.
const BUDGET: u64 = 64 << 10;

/// The numbers of the vats in their network.
const OWN: u8 = 0;
const PEERS: [u8; 2] = [1, 2];
const BYSTANDER: u8 = 3;

/// Whatever two peers say to a vat, and whatever that does meanwhile: its tables stay sound,
/// what a peer may make it hold is bounded, a third peer is served, and when the two are gone
/// nothing is left.
pub fn protocol(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut stage = Stage::new(choices.flag());
    for _ in 0..STEPS {
        if choices.is_over() {
            break;
        }
        stage.step(&mut choices);
    }
    stage.end();
}

struct Stage {
    net: Net,
    network: Arc<Neighbourhood>,
    peers: [End; 2],
    /// The end of the vat that behaves, and what that has of the vat in the middle.
    bystander: Client,
    calls: Vec<Call>,
    stash: Arc<Stash>,
}

/// What the vat's object was given, and what it owes.
#[derive(Default)]
struct Stash {
    caps: Mutex<Vec<Client>>,
    calls: Mutex<VecDeque<IncomingCall>>,
    fulfillers: Mutex<Vec<Fulfiller>>,
    passed_on: AtomicUsize,
}

impl Stage {
    /// With `introduced`, the vats are in a network that introduces them to each other.
    fn new(introduced: bool) -> Self {
        let mut net = Net::new();
        net.keep_no_journal();
        let network = Neighbourhood::new();
        let stash = Arc::new(Stash::default());
        let (chaos, offered) = net.object_with("chaos", Concurrency::Concurrent);
        let script = Arc::clone(&stash);
        chaos.on_call(move |call| script.take(call));
        let (_, served) = net.object("served");
        let limits = || Limits { budget_bytes: BUDGET, answers: 32, ..limits() };
        let peers = PEERS.map(|peer| {
            if introduced {
                let offered = Some(offered.clone());
                net.raw_side_in_with(limits(), &network, (OWN, peer), offered)
            } else {
                net.raw_side(limits(), Some(offered.clone()))
            }
        });
        let (_, there) = if introduced {
            let (here, there) = net.link_in(&network, [OWN, BYSTANDER], Some(served), None);
            (here, there)
        } else {
            net.link(Some(served), None)
        };
        let bystander = net.bootstrapped(there);
        drop(offered);
        Stage { net, network, peers, bystander, calls: Vec::new(), stash }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() {
            // What a peer says is what matters most.
            0..=129 => {
                let end = self.peers[choices.below(2)];
                let message = said::message(choices);
                self.net.inject(end, crate::tests::net::transmit(message));
            }
            130..=159 => {
                self.net.jobs.run_one();
                self.net.check();
            }
            160..=174 => self.net.run(),
            175..=184 => {
                let end = self.peers[choices.below(2)];
                // A connection that has ended gives what is broken.
                let client = self.net.bootstrap(end);
                self.stash.keep(client);
            }
            185..=209 => {
                let Some(target) = self.stash.some(choices) else { return };
                let caps: Vec<Client> = (0..choices.below(3))
                    .map(|_| self.stash.some(choices).unwrap_or_default())
                    .collect();
                let label = u64::from(choices.byte());
                let call = self.net.call(&target, label, &caps);
                if choices.flag() {
                    self.stash.keep(call.pipelined(0));
                }
                self.calls.push(call);
            }
            210..=217 => {
                let call = self.stash.calls.lock().pop_front();
                if let Some(call) = call {
                    let caps: Vec<Client> = self.stash.some(choices).into_iter().collect();
                    call.respond(Ok(content::results(0, &caps)));
                }
                self.net.check();
            }
            218..=225 => {
                let fulfiller = self.stash.fulfillers.lock().pop();
                if let Some(fulfiller) = fulfiller {
                    match self.stash.some(choices) {
                        Some(target) if choices.below(4) > 0 => fulfiller.fulfill(target),
                        _ => fulfiller.reject(Error::failed("by choice")),
                    }
                }
                self.net.check();
            }
            226..=231 => {
                let (client, fulfiller) = promise();
                self.stash.fulfillers.lock().push(fulfiller);
                self.stash.keep(client);
            }
            232..=237 => {
                let choice = usize::from(choices.byte());
                let dropped = {
                    let mut caps = self.stash.caps.lock();
                    let index = choice.checked_rem(caps.len());
                    index.map(|index| caps.swap_remove(index))
                };
                drop(dropped);
                self.net.check();
            }
            238..=243 => {
                let choice = usize::from(choices.byte());
                if let Some(index) = choice.checked_rem(self.calls.len()) {
                    // Before its return this cancels it.
                    drop(self.calls.swap_remove(index));
                }
                self.net.check();
            }
            244..=247 => {
                // The peer reads.
                self.net.take_sent(self.peers[choices.below(2)]);
            }
            248 | 249 => {
                let end = self.peers[choices.below(2)];
                let words = [0, 8, 64, u64::MAX][choices.below(4)];
                self.net.set_flow_limit(end, words);
            }
            250 | 251 => {
                let slow = !self.network.slow.load(Ordering::SeqCst);
                self.network.slow.store(slow, Ordering::SeqCst);
            }
            252 => {
                self.network.find_one();
                self.net.check();
            }
            253 => self.serve_the_bystander(),
            _ => {
                let end = self.peers[choices.below(2)];
                self.net.cut(end);
            }
        }
        for end in self.peers {
            let held = self.net.snapshot(end).budget_bytes;
            assert!(held <= BUDGET, "a peer makes the vat hold {held} bytes");
        }
    }

    fn serve_the_bystander(&mut self) {
        let call = self.net.call(&self.bystander, 1, &[]);
        self.net.settle();
        assert_eq!(content::label(&call.ok()), 1, "the bystander was disturbed");
    }

    fn end(mut self) {
        self.serve_the_bystander();
        for end in self.peers {
            self.net.set_flow_limit(end, u64::MAX);
            self.net.cut(end);
            self.net.take_sent(end);
        }
        self.network.slow.store(false, Ordering::SeqCst);
        while self.network.find_one() {}
        self.serve_the_bystander();
        self.calls.clear();
        // What is dropped may lead to calls that are stashed.
        loop {
            self.net.settle();
            if !self.stash.clear() {
                break;
            }
        }
        let Stage { mut net, bystander, .. } = self;
        drop(bystander);
        net.settle();
        for end in self.peers {
            net.take_sent(end);
        }
        net.finish();
    }
}

impl Stash {
    fn keep(&self, client: Client) {
        /// More would be all alike.
        const MANY: usize = 24;
        let dropped = {
            let mut caps = self.caps.lock();
            let dropped = (caps.len() >= MANY).then(|| caps.remove(0));
            caps.push(client);
            dropped
        };
        drop(dropped);
    }

    fn some(&self, choices: &mut Choices<'_>) -> Option<Client> {
        choices.one(&self.caps.lock()).cloned()
    }

    fn last(&self) -> Client {
        self.caps.lock().last().cloned().unwrap_or_default()
    }

    /// Drops everything. Returns whether there was anything.
    fn clear(&self) -> bool {
        let caps = std::mem::take(&mut *self.caps.lock());
        let calls = std::mem::take(&mut *self.calls.lock());
        let fulfillers = std::mem::take(&mut *self.fulfillers.lock());
        !(caps.is_empty() && calls.is_empty() && fulfillers.is_empty())
    }

    /// Does with a call what its label says.
    fn take(&self, call: IncomingCall) {
        let label = content::label(call.params());
        let caps = call.params().caps().to_vec();
        let first = caps.first().cloned().unwrap_or_default();
        let results = |caps: &[Client]| Ok(content::results(label, caps));
        match label % 16 {
            0 => call.respond(results(&caps)),
            1 => {
                caps.into_iter().for_each(|cap| self.keep(cap));
                call.respond(results(&[]));
            }
            2 => call.respond(results(&[self.last()])),
            3..=5 if self.passed_on.fetch_add(1, Ordering::SeqCst) >= PASSED_ON => {
                acknowledge(call);
            }
            3 => call.forward(&first),
            4 => call.forward(&self.last()),
            5 => {
                let params = content::params(label / 16, &caps);
                call.tail_call(&first, INTERFACE, METHOD, params);
            }
            6 => {
                call.set_pipeline(content::results(label, &caps));
                self.calls.lock().push_back(call);
            }
            7 => self.calls.lock().push_back(call),
            8 => {
                let (client, fulfiller) = promise();
                self.fulfillers.lock().push(fulfiller);
                self.keep(client.clone());
                call.respond(results(&[client]));
            }
            9 => {
                let fulfiller = self.fulfillers.lock().pop();
                if let Some(fulfiller) = fulfiller {
                    fulfiller.fulfill(first);
                }
                call.respond(results(&[]));
            }
            10 => {
                let taken = std::mem::take(&mut *self.caps.lock());
                call.respond(results(&taken[..taken.len().min(4)]));
            }
            11 => {
                let broken = Client::broken(Error::failed("on purpose"));
                call.respond(results(&[broken]));
            }
            12 => {
                // What is pipelined on may never return.
                let pending = first.call(INTERFACE, METHOD, content::params(0, &[]));
                let field = pending.pipelined(&[0]);
                self.keep(field.clone());
                call.respond(results(&[field]));
            }
            13 => call.respond(Err(Error::failed("on purpose"))),
            14 => {
                self.keep(call.this());
                call.respond(results(&[call_of(&first)]));
            }
            _ => {
                call.allow_cancellation();
                self.calls.lock().push_back(call);
            }
        }
    }
}

/// A field of what a call returns that nobody waits for.
fn call_of(target: &Client) -> Client {
    target.call(INTERFACE, METHOD, content::params(7, &[])).pipelined(&[0])
}
