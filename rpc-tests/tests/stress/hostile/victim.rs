//! A vat that is attacked while somebody else uses it.

use std::panic;
use std::sync::{Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};

use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, FromClient, Limits, Result, Vat,
};
use rpc_schema::test_capnp::test_more_stuff;
use rpc_tests::support::objects::{Keeper, plain};
use rpc_tests::support::raw::RawPeer;
use rpc_tests::support::{Census, Event, LONG, Wire, settle, until, vat};

/// What the threads of victims start their names with.
const NAME: &str = "hostile-";

/// What those threads panicked with.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on notes the panics of victims' threads.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = thread::current().name().unwrap_or("?").to_owned();
            if thread.starts_with(NAME) {
                let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
                panics.push(format!("{thread}: {info}"));
            }
            usual(info);
        }));
    });
}

fn assert_no_panics() {
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(panics.is_empty(), "{panics:?}");
}

/// A vat that has nothing to do with any other victim.
pub(crate) fn own_vat() -> Vat {
    watch_for_panics();
    vat(NAME)
}

/// A vat with a connection that is used all the time and must not notice anything.
pub(crate) struct Victim {
    pub(crate) vat: Vat,
    /// What is offered to attackers.
    pub(crate) offered: Client,
    pub(crate) census: Census,
    bystander: Bystander,
}

struct Bystander {
    vat: Vat,
    here: Connection,
    there: Connection,
    over: Event,
    /// Tells how many calls it made. A test that fails ends the connection: that is
    /// no second failure, hence no panic.
    calling: JoinHandle<Result<u64>>,
}

impl Bystander {
    fn of(victim: &Vat) -> Self {
        let vat = own_vat();
        let (here, there) = Wire::Memory.pair();
        let config = ConnConfig::new().bootstrap(Keeper::client(victim));
        let there = victim.connect(there, config).unwrap();
        let here = vat.connect(here, ConnConfig::new()).unwrap();
        let over = Event::new();
        let keeper: test_more_stuff::Client = here.bootstrap();
        let (stop, own) = (over.clone(), vat.clone());
        let calling = thread::spawn(move || {
            let census = Census::new();
            let mut calls = 0;
            while !stop.is_set() || calls < 3 {
                let mut request = keeper.call_foo_request();
                request.get().set_cap(plain(&own, &census));
                request.call()?;
                calls += 1;
            }
            Ok(calls)
        });
        Bystander { vat, here, there, over, calling }
    }
}

impl Victim {
    pub(crate) fn new() -> Self {
        let vat = own_vat();
        let census = Census::new();
        let keeper = Keeper::with_handles(&census);
        let offered: test_more_stuff::Client = vat.export_with(keeper, Concurrency::Concurrent);
        let bystander = Bystander::of(&vat);
        Victim { vat, offered: offered.into_client(), census, bystander }
    }

    /// Connects an attacker.
    pub(crate) fn attack(&self) -> (RawPeer, Connection) {
        self.attack_with(Limits::default())
    }

    /// As [`attack`](Self::attack), with limits on the vat's side.
    pub(crate) fn attack_with(&self, limits: Limits) -> (RawPeer, Connection) {
        // However slowly the attacker reads, it is told everything.
        self.attack_configured(|config| config.limits(limits).close_timeout(LONG))
    }

    /// As [`attack`](Self::attack), with the vat's side configured.
    pub(crate) fn attack_configured(
        &self,
        configure: impl FnOnce(ConnConfig) -> ConnConfig,
    ) -> (RawPeer, Connection) {
        let config = ConnConfig::new().bootstrap(self.offered.clone());
        RawPeer::connect(&self.vat, configure(config))
    }

    /// Connects an attacker that has asked for the bootstrap object, as question
    /// 0, and tells the id of that.
    pub(crate) fn attack_bootstrapped(&self) -> (RawPeer, Connection, u32) {
        let (mut peer, connection) = self.attack();
        let keeper = peer.bootstrapped(0);
        (peer, connection, keeper)
    }

    /// Waits for a connection that was attacked to end, and checks that it has
    /// left nothing behind.
    pub(crate) fn survive(&self, connection: &Connection) {
        let _doing = rpc_tests::support::watchdog::doing("an attacked connection to end");
        assert!(connection.join_timeout(LONG).unwrap());
        assert!(connection.snapshot().is_empty());
        connection.check().unwrap();
        assert_no_panics();
    }

    /// The end of the test: nobody has noticed anything, and nothing is left.
    pub(crate) fn finish(self) {
        let Victim { vat, offered, census, bystander } = self;
        bystander.over.set();
        let calls = bystander.calling.join().unwrap().expect("the bystander was disturbed");
        assert!(calls > 0);
        settle(&bystander.here, &bystander.there);
        bystander.here.close();
        assert!(bystander.vat.shutdown(LONG).unwrap());
        assert!(vat.shutdown(LONG).unwrap());
        drop(offered);
        until("the objects to go", || census.alive() == 0);
        assert_no_panics();
    }
}
