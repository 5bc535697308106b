//! What each thread does with its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use capnp_threads_core::{
    Client, ConnConfig, Connection, Error, FromClient, Promise, Result, RpcSystem, Vat,
    promise_client,
};
use capnp_threads_transport::tls::{TlsNetwork, VatKey};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use super::account::{Account, Books, Made};
use crate::support::{LONG, Random, Wire, until};

/// What all threads share.
pub(super) struct Shared {
    /// Stands on the other side of every connection.
    pub(super) hub: Vat,
    pub(super) callers: Vec<Vat>,
    pub(super) handoffs: Handoffs,
    pub(super) counts: Counts,
    pub(super) over: AtomicBool,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) call_backs: AtomicU64,
    pub(super) returns: AtomicU64,
    pub(super) cancels: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) kills: AtomicU64,
    pub(super) handoffs: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

/// A connection of which both ends are here.
struct Link {
    here: Connection,
    there: Connection,
    desk: test_more_stuff::Client,
    account: Account,
    /// What the next calls go through.
    reference: Reference,
}

/// What calls go through, with how many have gone.
struct Reference {
    number: u64,
    client: echo::Client,
    made: Made,
}

/// One thread with its connections.
pub(super) struct Load {
    shared: Arc<Shared>,
    random: Random,
    caller: usize,
    links: Vec<Link>,
    references: u64,
    pub(super) wrong: Vec<String>,
}

type Call = Promise<echo::echo_results::Owned>;

impl Load {
    pub(super) fn new(shared: &Arc<Shared>, seed: u64, connections: usize) -> Self {
        let caller = usize::try_from(seed).unwrap_or(0) % shared.callers.len();
        let mut load = Load {
            shared: Arc::clone(shared),
            random: Random::new(seed),
            caller,
            links: Vec::new(),
            references: 0,
            wrong: Vec::new(),
        };
        for _ in 0..connections {
            let link = load.connect();
            load.links.push(link);
        }
        load
    }

    pub(super) fn run(mut self) -> Vec<String> {
        while !self.shared.over.load(Ordering::Relaxed) && self.wrong.len() < 10 {
            self.step();
        }
        for link in std::mem::take(&mut self.links) {
            self.end(link, None);
        }
        self.wrong
    }

    fn connect(&mut self) -> Link {
        let wire = match self.random.below(16) {
            0 => Wire::Tls,
            1..=4 => Wire::Tcp,
            5..=6 => Wire::Bytes,
            7..=9 => Wire::Memory,
            _ => Wire::Unix,
        };
        let (here, there) = wire.pair();
        let account = Account::default();
        let config = ConnConfig::new().bootstrap(account.desk(&self.shared.hub));
        let there = self.shared.hub.connect(there, config).unwrap();
        let here = self.shared.callers[self.caller].connect(here, ConnConfig::new()).unwrap();
        let desk: test_more_stuff::Client = here.bootstrap();
        self.references += 1;
        let client = desk.clone().cast_to();
        let reference = Reference { number: self.references, client, made: Made::default() };
        Link { here, there, desk, account, reference }
    }

    /// Ends a connection, in one way or the other, and compares the books.
    fn end(&mut self, link: Link, kill: Option<bool>) {
        let Link { here, there, desk, account, reference } = link;
        let Reference { number, client, made } = reference;
        drop((desk, client));
        let killed = || Error::disconnected("killed");
        match kill {
            None => here.close(),
            Some(true) => here.abort(killed()),
            Some(false) => there.abort(killed()),
        }
        for end in [&here, &there] {
            if !end.join_timeout(LONG).unwrap() {
                self.wrong.push(format!("a connection does not end: {:?}", end.snapshot()));
                return;
            }
        }
        drop((here, there));
        until("the objects of a connection to be dropped", || account.alive() == 0);
        account.settle(number, &made);
        account.close();
        self.wrong.extend(account.wrong());
        add(&self.shared.counts.answered, made.answered);
    }

    fn step(&mut self) {
        let index = self.random.below(self.links.len());
        let kind = self.random.below(400);
        let outcome = match kind {
            0 => return self.hand_off(),
            1..=4 => return self.reconnect(index),
            5..=8 => return self.kill(index),
            9..=60 => self.call_back(index),
            61..=110 => self.come_back(index),
            111..=150 => {
                self.cancel(index);
                Ok(())
            }
            151..=170 => self.promise(index),
            171..=190 => self.new_object(index),
            _ => self.calls(index),
        };
        if let Err(error) = outcome {
            self.wrong.push(format!("a step of kind {kind} failed: {error}"));
        }
    }

    /// Makes a few calls and does not wait for them.
    fn send(&mut self, index: usize, count: usize) -> Vec<Call> {
        let Reference { number, client, made } = &mut self.links[index].reference;
        let calls = (0..count).map(|_| {
            let length = if self.random.one_in(50) { 20_000 } else { 16 + self.random.below(100) };
            let mut data = vec![0; length];
            data[..8].copy_from_slice(&number.to_le_bytes());
            data[8..16].copy_from_slice(&made.next.to_le_bytes());
            made.next += 1;
            let mut request = client.echo_request();
            request.get().set_data(&data);
            request.send()
        });
        let calls: Vec<_> = calls.collect();
        add(&self.shared.counts.calls, calls.len() as u64);
        calls
    }

    fn wait(&mut self, index: usize, calls: Vec<Call>) -> Result<()> {
        let Reference { made, .. } = &mut self.links[index].reference;
        let mut all = Ok(());
        for call in calls {
            let outcome = call.wait().map(drop);
            made.end(outcome.as_ref());
            all = all.and(outcome);
        }
        all
    }

    fn calls(&mut self, index: usize) -> Result<()> {
        let count = 1 + self.random.below(8);
        let calls = self.send(index, count);
        self.wait(index, calls)
    }

    fn own(&self, index: usize) -> Client {
        self.links[index].account.desk(&self.shared.callers[self.caller])
    }

    fn call_back(&mut self, index: usize) -> Result<()> {
        let mut request = self.links[index].desk.call_foo_request();
        request.get().set_cap(test_interface::Client::from_client(self.own(index)));
        assert_eq!(request.call()?.get()?.get_s()?, "bar");
        add(&self.shared.counts.call_backs, 1);
        Ok(())
    }

    /// Calls an object of this side through the peer, and then directly.
    fn come_back(&mut self, index: usize) -> Result<()> {
        let own = test_call_order::Client::from_client(self.own(index));
        let mut request = self.links[index].desk.echo_request();
        request.get().set_cap(own);
        let echoed = request.send();
        let pipelined = echoed.pipeline().get_cap();
        self.through(index, pipelined.cast_to(), |load| {
            let first = load.send(index, 3);
            drop(echoed.wait()?);
            let then = load.send(index, 3);
            load.wait(index, first)?;
            load.wait(index, then)
        })?;
        add(&self.shared.counts.returns, 1);
        Ok(())
    }

    /// Does something with another reference.
    fn through(
        &mut self,
        index: usize,
        client: echo::Client,
        calls: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.references += 1;
        let other = Reference { number: self.references, client, made: Made::default() };
        let before = std::mem::replace(&mut self.links[index].reference, other);
        let outcome = calls(self);
        let other = std::mem::replace(&mut self.links[index].reference, before);
        // All of its calls were waited for.
        self.links[index].account.settle(other.number, &other.made);
        add(&self.shared.counts.answered, other.made.answered);
        outcome
    }

    fn promise(&mut self, index: usize) -> Result<()> {
        let (promise, fulfiller) = promise_client::<test_interface::Client>();
        let mut request = self.links[index].desk.call_foo_when_resolved_request();
        request.get().set_cap(promise);
        let call = request.send();
        fulfiller.fulfill(test_interface::Client::from_client(self.own(index)));
        drop(call.wait()?);
        Ok(())
    }

    fn new_object(&mut self, index: usize) -> Result<()> {
        let handle = self.links[index].desk.get_handle_request().send();
        let handle = handle.pipeline().get_handle();
        self.through(index, handle.cast_to(), |load| load.calls(index))
    }

    fn cancel(&mut self, index: usize) {
        let calls = self.send(index, 3);
        self.links[index].reference.made.unknown += calls.len() as u64;
        add(&self.shared.counts.cancels, calls.len() as u64);
        drop(calls);
    }

    fn reconnect(&mut self, index: usize) {
        let next = self.connect();
        let before = std::mem::replace(&mut self.links[index], next);
        add(&self.shared.counts.reconnects, 1);
        self.end(before, None);
    }

    /// Ends a connection while calls are under way.
    fn kill(&mut self, index: usize) {
        let calls = self.send(index, 8);
        let side = self.random.one_in(2);
        let Link { here, there, .. } = &self.links[index];
        let killed = if side { here } else { there };
        killed.abort(Error::disconnected("killed"));
        // Some of them may have been answered before.
        let _ = self.wait(index, calls);
        let next = self.connect();
        let before = std::mem::replace(&mut self.links[index], next);
        add(&self.shared.counts.kills, 1);
        self.end(before, Some(side));
    }

    fn hand_off(&mut self) {
        match self.shared.handoffs.once() {
            Ok(()) => add(&self.shared.counts.handoffs, 1),
            Err(error) => self.wrong.push(format!("a handoff: {error}")),
        }
    }
}

type System = RpcSystem<TlsNetwork>;

/// A vat that gives away what another one hosts.
pub(super) struct Handoffs {
    _host: System,
    giver: System,
    /// The books of the host.
    account: Account,
    references: AtomicU64,
}

impl Handoffs {
    pub(super) fn new() -> Self {
        let listening = || {
            let key = VatKey::generate().unwrap();
            TlsNetwork::listening(&key, &"127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let account = Account::default();
        let books = account.clone();
        let hosted = move || echo::Client::from_server(Books(books.clone()));
        let host = RpcSystem::builder(&Vat::new(), listening())
            .bootstrap_factory(move |_| Some(hosted().into_client()))
            .start()
            .unwrap();
        let address = host.network().this_vat();
        let giver = RpcSystem::builder(&Vat::new(), listening());
        let given: Arc<std::sync::OnceLock<echo::Client>> = Arc::default();
        let gives = Arc::clone(&given);
        let giver = giver
            .bootstrap_factory(move |_| gives.get().cloned().map(FromClient::into_client))
            .start()
            .unwrap();
        let _ = given.set(giver.bootstrap(&address));
        Handoffs { _host: host, giver, account, references: AtomicU64::new(0) }
    }

    /// A vat that nobody has seen before gets the capability, and calls it until it reaches
    /// the host itself.
    fn once(&self) -> Result<()> {
        let network = TlsNetwork::client(&VatKey::generate().map_err(Error::from)?)?;
        let recipient = RpcSystem::builder(&Vat::new(), network).start()?;
        let given: echo::Client = recipient.bootstrap(&self.giver.network().this_vat());
        let reference = self.references.fetch_add(1, Ordering::Relaxed);
        let mut made = Made::default();
        let mut outcome = Ok(());
        // Some of them go by way of the giver, and must not be overtaken by the others.
        while outcome.is_ok() && (made.next == 0 || given.as_client().is_unresolved()) {
            let calls: Vec<Call> = (0..4)
                .map(|_| {
                    let mut data = [0; 16];
                    data[..8].copy_from_slice(&reference.to_le_bytes());
                    data[8..].copy_from_slice(&made.next.to_le_bytes());
                    made.next += 1;
                    let mut request = given.echo_request();
                    request.get().set_data(&data);
                    request.send()
                })
                .collect();
            for call in calls {
                let ended = call.wait().map(drop);
                made.end(ended.as_ref());
                outcome = outcome.and(ended);
            }
        }
        self.account.settle(reference, &made);
        outcome
    }

    /// What the host has to complain of.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.account.close();
        self.account.wrong()
    }
}
