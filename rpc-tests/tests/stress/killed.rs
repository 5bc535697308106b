//! A connection that ends at any moment, in any way, while threads use it. Whoever
//! waits gets an answer or learns that it has ended; whoever uses other connections
//! of the same vats notices nothing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use capnp_threads_core::{ConnConfig, Connection, Error, Limits, Vat};
use capnp_threads_transport::pipe::{self, PipeControl, PipeWriter};
use capnp_threads_transport::{PeerDescription, Transport, TransportControl, halves};
use rpc_schema::test_capnp::test_more_stuff;

use crate::desk::Desk;
use crate::ledger::Ledger;
use crate::settings::{for_seeds, steps, threads};
use crate::worker::{Accepts, Worker, clear_exchange};
use rpc_tests::support::{LONG, Random, Watchdog, Wire, settle, threads_named, until, vat};

/// Ends a connection when so many bytes have gone through it, in the middle of a
/// message if it happens so, as when the peer's process is killed.
struct Fuse {
    left: AtomicUsize,
    pipes: [PipeControl; 2],
}

impl Fuse {
    fn burn(&self) {
        for pipe in &self.pipes {
            pipe.close();
        }
    }
}

struct FusedWriter {
    pipe: PipeWriter,
    fuse: Arc<Fuse>,
}

impl Write for FusedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.fuse.left.load(Ordering::SeqCst);
        if left == 0 {
            self.fuse.burn();
        }
        let written = self.pipe.write(&bytes[..bytes.len().min(left.max(1))])?;
        let taken = |left: usize| Some(left.saturating_sub(written));
        self.fuse.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).unwrap();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// Two transports that break after so many bytes.
fn fused_pair(bytes: usize) -> (Transport, Transport) {
    let (left_reader, right_writer) = pipe::pipe(4096);
    let (right_reader, left_writer) = pipe::pipe(4096);
    let pipes = [left_writer.control(), right_writer.control()];
    let fuse = Arc::new(Fuse { left: AtomicUsize::new(bytes), pipes });
    let side = |reader, pipe| {
        let writer = FusedWriter { pipe, fuse: Arc::clone(&fuse) };
        let fuse = Arc::clone(&fuse);
        halves::join(reader, writer, PeerDescription::from_address("fused"), move || fuse.burn())
    };
    (side(left_reader, left_writer), side(right_reader, right_writer))
}

/// How the connection ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    ClosedHere,
    ClosedThere,
    AbortedHere,
    AbortedThere,
    /// The transport is gone, without a word to either side.
    CutHere,
    CutThere,
    /// The vat of this side, or of the other one, ends.
    VatDown,
    /// After so many bytes.
    Bytes(usize),
}

impl Death {
    fn random(random: &mut Random) -> Self {
        match random.below(12) {
            0 => Death::ClosedHere,
            1 => Death::ClosedThere,
            2 => Death::AbortedHere,
            3 => Death::AbortedThere,
            4 => Death::CutHere,
            5 => Death::CutThere,
            6 => Death::VatDown,
            _ => {
                let most = 1 << (4 + random.below(16));
                Death::Bytes(1 + random.below(most))
            }
        }
    }
}

/// A leaf and its connection to the hub.
struct Spoke {
    vat: Vat,
    here: Connection,
    there: Connection,
    controls: [Arc<dyn TransportControl>; 2],
}

impl Spoke {
    fn new(hub: &Vat, name: &str, pair: (Transport, Transport), of_hub: ConnConfig) -> Self {
        let vat = vat(name);
        let controls = [Arc::clone(&pair.0.control), Arc::clone(&pair.1.control)];
        let there = hub.connect(pair.1, of_hub).unwrap();
        let here = vat.connect(pair.0, config()).unwrap();
        Spoke { vat, here, there, controls }
    }

    fn kill(&self, death: Death) {
        match death {
            Death::ClosedHere => self.here.close(),
            Death::ClosedThere => self.there.close(),
            Death::AbortedHere => self.here.abort(Error::failed("on purpose")),
            Death::AbortedThere => self.there.abort(Error::failed("on purpose")),
            Death::CutHere => self.controls[0].shutdown(),
            Death::CutThere => self.controls[1].shutdown(),
            Death::VatDown => assert!(self.vat.shutdown(LONG).unwrap()),
            Death::Bytes(_) => {}
        }
    }

    /// Both ends of it are over, and hold nothing.
    fn assert_ended(&self) {
        for connection in [&self.here, &self.there] {
            assert!(connection.join_timeout(LONG).unwrap());
            assert!(connection.failure().is_some());
            assert!(connection.snapshot().is_empty(), "{connection:?}");
            connection.check().unwrap();
        }
    }
}

fn config() -> ConnConfig {
    let mut limits = Limits::default();
    limits.questions = 1 << 20;
    ConnConfig::new().limits(limits)
}

fn round(seed: u64, threads: usize, steps: usize) {
    let mut random = Random::new(seed);
    let death = Death::random(&mut random);
    println!("STRESS_SEED={seed}: {death:?}");
    let hub = vat("skh");
    let (touched, untouched) = (Ledger::default(), Ledger::default());
    let wire = |random: &mut Random| Wire::ALL[random.below(Wire::ALL.len())].pair();

    // Two leaves share what the hub holds; one of them dies. The third has nothing
    // to do with them, but for the vat that it is connected to.
    let shared = Desk::concurrent(&hub, &touched);
    let pair = match death {
        Death::Bytes(bytes) => fused_pair(bytes),
        _ => wire(&mut random),
    };
    let dying = Spoke::new(&hub, "skd", pair, config().bootstrap(shared.clone()));
    let neighbour = Spoke::new(&hub, "skn", wire(&mut random), config().bootstrap(shared));
    let own = Desk::concurrent(&hub, &untouched);
    let bystander = Spoke::new(&hub, "skb", wire(&mut random), config().bootstrap(own));

    let at = 1 + random.below(2 * threads * steps) as u64;
    let desks = [&dying, &neighbour, &bystander].map(|spoke| {
        let desk: test_more_stuff::Client = spoke.here.bootstrap();
        desk
    });
    thread::scope(|scope| {
        let dying = &dying;
        let vats = [&dying.vat, &neighbour.vat, &bystander.vat];
        for (number, (vat, desk)) in vats.into_iter().zip(&desks).enumerate() {
            let (ledger, accepts) = match number {
                0 | 1 => (&touched, Accepts::Ends),
                _ => (&untouched, Accepts::Nothing),
            };
            for _ in 0..threads {
                let worker = Worker::new(ledger, random.draw(), vat, desk.clone(), accepts);
                let look = move |step| {
                    if accepts == Accepts::Ends && step == at {
                        dying.kill(death);
                    }
                };
                scope.spawn(move || worker.run(steps, look));
            }
        }
    });
    clear_exchange(&touched, &neighbour.vat, Accepts::Ends);
    clear_exchange(&untouched, &bystander.vat, Accepts::Nothing);
    until("closures to run", || touched.closures() + untouched.closures() == 0);
    // The fuse may have been too long.
    dying.here.close();
    dying.assert_ended();
    for desk in &desks[1..] {
        desk.hold_request().call().unwrap();
    }
    drop(desks);
    for spoke in [&neighbour, &bystander] {
        settle(&spoke.here, &spoke.there);
        spoke.here.close();
        spoke.assert_ended();
    }
    for vat in [&dying.vat, &neighbour.vat, &bystander.vat, &hub] {
        assert_eq!(vat.connection_count(), 0);
        assert!(vat.shutdown(LONG).unwrap());
    }
    until("threads to go", || ["skh", "skd", "skn", "skb"].map(threads_named) == [0; 4]);
    for ledger in [&touched, &untouched] {
        ledger.assert_right();
        until("every object to be dropped", || ledger.census().alive() == 0);
    }
}

#[test]
fn a_connection_that_ends_at_any_moment_hurts_nobody_else() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(seed, threads(4), steps(30)));
}
