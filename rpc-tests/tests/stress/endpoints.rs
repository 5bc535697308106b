//! Twenty vats whose threads all call each other over endpoints, one of which is
//! killed in the middle. `STRESS_SECONDS` makes it run longer, `STRESS_SEED` makes
//! it choose otherwise.
//!
//! In a process of its own, because it counts threads.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnp_threads_core::vat::AcceptLimits;
use capnp_threads_core::{Concurrency, Error, ErrorKind, RpcSystem, Vat};
use capnp_threads_endpoint::{EndpointNetwork, EndpointVat, Parameters};
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::objects::Echo;
use rpc_tests::support::{LONG, Random, Watchdog, alone, stress_time, until};

/// With the one in a process of its own.
const VATS: usize = 20;
const THREADS: usize = 8;
/// What each thread does at least, however slow everything is.
const LEAST: u64 = 20;
/// Which others a vat calls, counted from itself; and the victim, sometimes.
const NEIGHBOURS: [usize; 4] = [1, 2, 7, VATS - 2];
const VICTIM: usize = VATS - 1;

/// What the victim's process is told by its environment.
const ROLE: &str = "ENDPOINT_STRESS_VICTIM";

/// How the test is called.
const NAME: &str = "endpoints::twenty_vats_and_one_of_them_killed";

struct Party {
    vat: Vat,
    system: RpcSystem<EndpointNetwork>,
    name: EndpointVat,
}

impl Party {
    fn new(number: usize) -> Self {
        let id = format!("vat-{number}");
        let mut parameters = Parameters::default();
        parameters.connect_timeout = LONG;
        // However busy the machine is, nobody is taken for lost: the victim's socket is closed.
        parameters.patience = LONG;
        let network = EndpointNetwork::listening(&id, "127.0.0.1", 0, parameters).unwrap();
        let name = network.this_vat();
        let vat = Vat::new();
        // However busy the machine is, nobody is sent away.
        let mut accept = AcceptLimits::default();
        accept.first_message = LONG;
        let system = RpcSystem::builder(&vat, network)
            .accept_limits(accept)
            .bootstrap(Echo::client(&vat, Concurrency::Concurrent))
            // Connections come and go all the time.
            .idle_timeout(Duration::from_millis(20))
            .close_timeout(LONG)
            .start()
            .unwrap();
        Party { vat, system, name }
    }
}

/// One thing that a thread does with another vat.
fn call(
    system: &RpcSystem<EndpointNetwork>,
    to: &EndpointVat,
    random: &mut Random,
) -> Result<(), Error> {
    let echo: echo::Client = system.bootstrap(to);
    match random.below(4) {
        0 => drop(echo.ping_request().call()?),
        1 => {
            let bytes = random.below(200_000);
            let data = vec![u8::try_from(bytes % 251).unwrap(); bytes];
            let mut request = echo.echo_request();
            request.get().set_data(&data);
            assert_eq!(request.call()?.get()?.get_data()?, data);
        }
        2 => {
            // Down a chain without waiting.
            let mut end = echo;
            for _ in 0..random.below(5) {
                end = end.next_request().send().pipeline().get_echo();
            }
            end.ping_request().call()?;
        }
        _ => {
            let response = echo.next_request().call()?;
            let held = response.get()?.get_echo()?;
            let calls: Vec<_> = (0..random.below(20)).map(|_| held.ping_request().send()).collect();
            for call in calls {
                call.wait()?;
            }
        }
    }
    Ok(())
}

/// The threads of a vat.
fn call_everybody(
    number: usize,
    system: &RpcSystem<EndpointNetwork>,
    names: &Arc<Vec<EndpointVat>>,
    until: Instant,
    done: &Arc<AtomicU64>,
) -> Vec<JoinHandle<()>> {
    let seed: u64 = std::env::var("STRESS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let work = |thread: usize| {
        let (system, names, done) = (system.clone(), names.clone(), done.clone());
        let thread = u64::try_from(number * THREADS + thread + 1).unwrap();
        let mut random = Random::new(seed << 32 | thread);
        move || {
            let mut made = 0;
            while made < LEAST || Instant::now() < until {
                let to = match random.below(NEIGHBOURS.len() + 1) {
                    choice if choice < NEIGHBOURS.len() => {
                        (number + NEIGHBOURS[choice]) % (VATS - 1)
                    }
                    _ => VICTIM,
                };
                match call(&system, &names[to], &mut random) {
                    Ok(()) => {}
                    Err(error) if to == VICTIM => {
                        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                    }
                    Err(error) => panic!("vat {number} calls vat {to}: {error}"),
                }
                made += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    (0..THREADS).map(|thread| thread::spawn(work(thread))).collect()
}

/// The vat in a process of its own. It calls as the others do, until it is killed.
struct Victim {
    process: Child,
    name: EndpointVat,
}

impl Victim {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let name = lines
            .map(|line| line.expect("the victim's output"))
            .find_map(|line| Some(line.split_once("victim ")?.1.parse().unwrap()));
        Victim { process, name: name.expect("the victim ended") }
    }

    fn tell(&mut self, names: &[EndpointVat]) {
        let mut input = self.process.stdin.take().unwrap();
        for name in names {
            writeln!(input, "{name}").unwrap();
        }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        assert!(!status.success(), "it ended by itself: {status}");
    }

    /// What its process does.
    fn be() {
        let party = Party::new(VICTIM);
        println!("victim {}", party.name);
        let names = std::io::stdin().lines().map(|line| line.unwrap().parse().unwrap());
        let names = Arc::new(names.collect::<Vec<EndpointVat>>());
        let never = Instant::now() + Duration::from_secs(1 << 30);
        for thread in call_everybody(VICTIM, &party.system, &names, never, &Arc::default()) {
            thread.join().unwrap();
        }
    }
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn twenty_vats_and_one_of_them_killed() {
    if std::env::var_os(ROLE).is_some() {
        return Victim::be();
    }
    if !alone(NAME) {
        return;
    }
    let _watchdog = Watchdog::start();
    let threads_before = thread_count();
    let mut victim = Victim::start();
    let parties: Vec<Party> = (0..VATS - 1).map(Party::new).collect();
    let mut names: Vec<EndpointVat> = parties.iter().map(|party| party.name.clone()).collect();
    names.push(victim.name.clone());
    victim.tell(&names);
    let names = Arc::new(names);

    let now = Instant::now();
    let end = now + stress_time();
    let done = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = parties
        .iter()
        .enumerate()
        .flat_map(|(number, party)| call_everybody(number, &party.system, &names, end, &done))
        .collect();
    let least = u64::try_from((VATS - 1) * THREADS).unwrap() * LEAST;
    until("half of the calls are made", || done.load(Ordering::Relaxed) > least / 2);
    victim.kill();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(done.load(Ordering::Relaxed) >= least);

    // Connections are only closed as idle when the tables of both ends are empty.
    for party in &parties {
        until("all connections are idle", || party.system.connection_count() == 0);
        until("all halves are closed", || party.system.network().peer_count() == 0);
    }
    for Party { vat, system, .. } in parties {
        assert!(system.drain(LONG).unwrap());
        drop(system);
        assert!(vat.shutdown(LONG).unwrap());
    }
    until("all threads are gone", || thread_count() == threads_before);
}
