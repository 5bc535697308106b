//! Random scripts over real sockets, checked against the trace model.
//!
//! `ENDPOINT_SCRIPT_SEEDS=from..to` replays or extends what is run by default. The
//! script of a seed is always the same; when its consequences happen is not.

use std::collections::HashMap;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::keys::{key, keyed};
use super::*;
use crate::pace::Pace;
use crate::trace::{Dice, Trace};

/// The message with which a test tells itself that everything before it came.
const MARKER: u64 = u64::MAX;

struct World {
    dice: Dice,
    trace: Trace<u64>,
    networks: Vec<Network>,
    ends: Vec<Endpoint>,
    is_closed: Vec<bool>,
    open: Vec<(u64, Connection)>,
    /// Per endpoint: the key of an incoming connection once its first message has
    /// told it, and who it is from.
    incoming: Vec<HashMap<ConnectionId, (Option<u64>, EndpointAddress)>>,
    next_key: u64,
    next_value: u64,
    is_disturbed: bool,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let has_keys = seed % 3 == 2;
        let new = |dialect| if has_keys { keyed(dialect, &key()) } else { network(dialect) };
        let networks: Vec<_> = (0..2).map(|_| new(DIALECTS[dice.below(3)])).collect();
        let mut world = World {
            dice,
            trace: Trace::new(),
            networks,
            ends: Vec::new(),
            is_closed: Vec::new(),
            open: Vec::new(),
            incoming: Vec::new(),
            next_key: 0,
            next_value: 0,
            is_disturbed: false,
            log: Vec::new(),
        };
        for n in 0..3 {
            world.new_end(n % 2);
        }
        world
    }

    fn new_end(&mut self, network: usize) {
        self.ends.push(endpoint(&self.networks[network]));
        self.is_closed.push(false);
        self.incoming.push(HashMap::new());
    }

    fn connect(&mut self, from: usize, to: usize) {
        if self.is_closed[from] {
            return;
        }
        let outcome = self.ends[from].connect(self.ends[to].address(), ConnectHints::new());
        self.log.push(format!("{from} connects to {to}: {outcome:?}"));
        let Ok(connection) = outcome else {
            assert!(self.is_disturbed, "{outcome:?}");
            return;
        };
        let key = self.next_key;
        self.next_key += 1;
        self.trace.connected(key, from, to);
        self.open.push((key, connection));
        // Its first message says which connection it is.
        self.send_value(self.open.len() - 1, key);
    }

    fn send(&mut self, which: usize) {
        self.next_value += 1;
        self.send_value(which, self.next_value);
    }

    fn send_value(&mut self, which: usize, value: u64) {
        let padding = if self.dice.one_in(10) { self.dice.below(200 << 10) } else { 0 };
        let (key, connection) = &self.open[which];
        let pace = if value.is_multiple_of(2) { Pace::Last } else { Pace::Unknown };
        let mut message = value.to_be_bytes().to_vec();
        message.resize(message.len() + padding, 7);
        match connection.send_at(message, pace) {
            Ok(()) => self.trace.sent(key, value),
            Err(error) => assert!(self.is_disturbed, "{error}"),
        }
    }

    fn close(&mut self, which: usize) {
        let (key, connection) = self.open.swap_remove(which);
        self.log.push(format!("{key} is closed"));
        self.trace.closed(&key);
        drop(connection);
    }

    fn cut(&mut self, end: usize) {
        let links = self.ends[end].local().links();
        if links.is_empty() {
            return;
        }
        let link = &links[self.dice.below(links.len())];
        let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][self.dice.below(3)];
        self.log.push(format!("{end} loses {} by {how:?}", link.address));
        if let Some(socket) = link.socket() {
            self.is_disturbed = true;
            // It may be shut already.
            let _ = socket.shutdown(how);
        }
    }

    fn close_end(&mut self, end: usize) {
        if std::mem::replace(&mut self.is_closed[end], true) {
            return;
        }
        self.is_disturbed = true;
        self.log.push(format!("{end} is closed"));
        self.ends[end].close();
        let network = self.dice.below(2);
        self.new_end(network);
    }

    fn take(&mut self, end: usize, event: Event) {
        match event {
            Event::ConnectionOpened { connection, from, .. } => {
                assert!(self.incoming[end].insert(connection, (None, from)).is_none());
            }
            Event::Received { connection, message } => {
                let value = u64::from_be_bytes(message[..8].try_into().unwrap());
                let (key, _) = self.incoming[end].get_mut(&connection).unwrap();
                let key = *key.get_or_insert_with(|| {
                    self.trace.opened(end, &value);
                    value
                });
                self.trace.received(end, &key, value);
            }
            Event::ConnectionClosed { connection } => {
                let (key, _) = self.incoming[end].remove(&connection).unwrap();
                // Without a first message, the sender failed at once.
                match key {
                    Some(key) => self.trace.ended(end, &key),
                    None => assert!(self.is_disturbed),
                }
            }
            Event::ConnectionLost { peer, reason } => {
                self.log.push(format!("{end} lost {peer}: {reason}"));
                assert!(self.is_disturbed, "{reason}");
                let lost = self.incoming[end].extract_if(|_, (_, from)| *from == peer);
                let keys: Vec<u64> = lost.filter_map(|(_, (key, _))| key).collect();
                self.trace.lost(end, &keys);
            }
            Event::EndpointClosed => self.trace.endpoint_closed(end),
            Event::NetworkFailed { reason } => panic!("{reason}"),
        }
    }

    /// Receives until a message that is sent now has come.
    fn settle(&mut self, end: usize) {
        if self.is_closed[end] {
            while let Ok(event) = self.ends[end].receive() {
                self.take(end, event);
            }
            return;
        }
        let marker = connect(&self.ends[end], &self.ends[end]);
        marker.send(&[&MARKER.to_be_bytes()]).unwrap();
        loop {
            match next(&self.ends[end]) {
                Event::ConnectionOpened { from, .. } if from == *self.ends[end].address() => {}
                Event::Received { message, .. } if message == MARKER.to_be_bytes() => break,
                event => self.take(end, event),
            }
        }
        drop(marker);
        loop {
            match next(&self.ends[end]) {
                Event::ConnectionClosed { connection } if connection.heavyweight() == 0 => return,
                event => self.take(end, event),
            }
        }
    }

    /// Receives until everything that was sent to an endpoint has come.
    fn receive_all(&mut self, end: usize) {
        while !self.trace.is_complete(end) {
            let event = next(&self.ends[end]);
            self.take(end, event);
        }
    }
}

fn run(world: &mut World, faults: bool) {
    for _ in 0..60 {
        let ends = world.ends.len();
        let (one, other) = (world.dice.below(ends), world.dice.below(ends));
        let open = world.open.len();
        match world.dice.below(20) {
            0..5 if one != other => world.connect(one, other),
            5..11 if open > 0 => {
                let which = world.dice.below(open);
                world.send(which);
            }
            11..15 if open > 0 => {
                let which = world.dice.below(open);
                world.close(which);
            }
            15..18 => world.settle(one),
            18 if faults => world.cut(one),
            19 if faults && world.dice.one_in(3) => world.close_end(one),
            _ => {}
        }
    }
    while !world.open.is_empty() {
        world.close(0);
    }
    if !world.is_disturbed {
        for end in 0..world.ends.len() {
            world.receive_all(end);
            world.settle(end);
        }
        for key in world.trace.keys() {
            world.trace.check_complete(key);
        }
    }
    // Sockets that nobody needs go by themselves.
    for end in &world.ends {
        until(|| end.local().links().is_empty());
    }
    for end in 0..world.ends.len() {
        world.ends[end].close();
        world.is_closed[end] = true;
        world.settle(end);
        expect_nothing(&world.ends[end]);
    }
}

fn expect_nothing(end: &Endpoint) {
    assert_eq!(end.receive(), Err(ReceiveError::Closed));
}

fn run_all(faults: bool) {
    let text = std::env::var("ENDPOINT_SCRIPT_SEEDS").unwrap_or_else(|_| "0..60".to_owned());
    let (from, to) = text.split_once("..").unwrap();
    for seed in from.parse::<u64>().unwrap()..to.parse().unwrap() {
        let mut world = World::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut world, faults)));
        if let Err(panic) = outcome {
            println!("{}", world.log.join("\n"));
            println!("replay with ENDPOINT_SCRIPT_SEEDS={seed}..{}", seed + 1);
            // Not while its networks wait for each other.
            std::mem::forget(world);
            resume_unwind(panic);
        }
    }
}

#[test]
fn scripts_without_faults() {
    run_all(false);
}

#[test]
fn scripts_with_faults() {
    run_all(true);
}

/// The same in a network of their own, whose packets are late, and lost. Needs Linux,
/// root and the `ip` and `tc` programs; with `REQUIRE_NETNS=1` it fails without.
#[test]
#[cfg(target_os = "linux")]
fn scripts_over_a_network_that_delays_and_loses() {
    use std::process::Command;

    /// Deletes the namespace.
    struct Space(String);
    impl Drop for Space {
        fn drop(&mut self) {
            // It may not have come into being.
            let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
        }
    }
    let run = |command: &str| {
        let mut words = command.split_whitespace();
        let output = Command::new(words.next().unwrap()).args(words).output();
        match output {
            Ok(output) if output.status.success() => Ok(output),
            Ok(output) => Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("{command}: {error}")),
        }
    };
    let space = Space(format!("rpc-{}-scripts", std::process::id()));
    let name = &space.0;
    let prepare = || {
        run(&format!("ip netns add {name}"))?;
        // Packets as on a real link, and no others.
        run(&format!("ip -n {name} link set dev lo mtu 1500 up"))?;
        // At random, or where the system cannot do that, by a queue that is too short.
        let add = format!("tc -n {name} qdisc add dev lo root");
        run(&format!("{add} netem delay 1ms 1ms loss 2%"))
            .or_else(|_| run(&format!("{add} tbf rate 200mbit burst 8kb limit 30kb")))
    };
    if let Err(reason) = prepare() {
        assert!(std::env::var_os("REQUIRE_NETNS").is_none(), "{reason}");
        println!("skipped: {reason}");
        return;
    }
    let scripts = Command::new("ip")
        .args(["netns", "exec", name])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=1"])
        .args(["without", "with"].map(|how| format!("{}::scripts_{how}_faults", module())))
        .env("ENDPOINT_SCRIPT_SEEDS", "100..106")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&scripts.stdout);
    assert!(scripts.status.success() && text.contains("2 passed"), "{text}");
    let queue = run(&format!("tc -s -n {name} qdisc show dev lo")).unwrap();
    let queue = String::from_utf8_lossy(&queue.stdout).into_owned();
    assert!(!queue.contains("(dropped 0,"), "nothing was lost: {queue}");
}

/// The path of these tests, as the test program names them.
#[cfg(target_os = "linux")]
fn module() -> &'static str {
    module_path!().split_once("::").unwrap().1
}
