//! Endpoints on two machines, as far as network namespaces are machines, whose
//! link is bad or is cut.
//!
//! Needs Linux, root and the `ip` and `tc` programs. What cannot be set up is
//! reported as skipped; with `REQUIRE_NETNS=1` it fails.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use capnp_threads_endpoint::{ConnectHints, Connection, Dialect, Endpoint, Event, Network};

const ROLE: &str = "ENDPOINT_NETNS_HOST";
/// How long a host waits for a sign of life, in seconds.
const PATIENCE: &str = "ENDPOINT_NETNS_PATIENCE";
const HOSTS: [&str; 2] = ["10.123.45.1", "10.123.45.2"];

/// Runs a command; says what it complained about.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command}: {error}")),
    }
}

fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("REQUIRE_NETNS").is_none(), "{test}: {reason}");
    println!("skipped {test}: {reason}");
}

/// Two namespaces with a link.
struct Link {
    spaces: [String; 2],
}

impl Link {
    fn new(test: &str) -> Result<Self, String> {
        let id = std::process::id();
        let link = Link { spaces: [0, 1].map(|n| format!("rpc-{id}-{test}-{n}")) };
        for space in &link.spaces {
            run(&format!("ip netns add {space}"))?;
        }
        let [one, other] = &link.spaces;
        run(&format!("ip -n {one} link add link0 type veth peer name link1 netns {other}"))?;
        for (n, space) in link.spaces.iter().enumerate() {
            run(&format!("ip -n {space} addr add {}/24 dev link{n}", HOSTS[n]))?;
            run(&format!("ip -n {space} link set dev link{n} up"))?;
            run(&format!("ip -n {space} link set dev lo up"))?;
        }
        Ok(link)
    }

    /// Delays and loses packets of both directions: at random, or where the system
    /// cannot do that, by a queue that is slow and short.
    fn worsen(&self) -> Result<(), String> {
        for (n, space) in self.spaces.iter().enumerate() {
            let add = format!("tc -n {space} qdisc add dev link{n} root");
            run(&format!("{add} netem delay 5ms 5ms loss 5%"))
                .or_else(|_| run(&format!("{add} tbf rate 20mbit burst 4kb limit 8kb")))?;
        }
        Ok(())
    }

    /// How many packets were lost so far.
    fn lost(&self) -> u64 {
        let lost = self.spaces.iter().enumerate().map(|(n, space)| {
            let mut tc = Command::new("tc");
            let output = tc.args(["-s", "-n", space, "qdisc", "show", "dev", &format!("link{n}")]);
            let text = String::from_utf8(output.output().unwrap().stdout).unwrap();
            let (_, dropped) = text.split_once("(dropped ").unwrap();
            dropped.split_once(',').unwrap().0.parse::<u64>().unwrap()
        });
        lost.sum()
    }

    fn set(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        run(&format!("ip -n {} link set dev link0 {state}", self.spaces[0])).unwrap();
    }

    /// Starts this program once more, in one of the namespaces.
    fn start(&self, n: usize, patience: u64) -> Host {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.spaces[n]])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "endpoints::bad_links::host", "--ignored", "--nocapture"])
            .env(ROLE, HOSTS[n])
            .env(PATIENCE, patience.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Host { stdin: child.stdin.take().unwrap(), lines, child }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for space in &self.spaces {
            // It may not have come into being.
            let _ = run(&format!("ip netns del {space}"));
        }
    }
}

struct Host {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Host {
    fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    /// What it says next; it says other things without the mark.
    fn hear(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the host has ended").unwrap();
            if let Some((_, said)) = line.split_once("@ ") {
                return said.to_owned();
            }
        }
    }

    fn hear_until(&mut self, wanted: &str) {
        while self.hear() != wanted {}
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What runs in a namespace: does what it is told, and tells what happens.
#[test]
#[ignore = "run by the other tests"]
fn host() {
    let mut parameters = capnp_threads_endpoint::Parameters::default();
    parameters.heartbeat = Duration::from_millis(200);
    let patience = std::env::var(PATIENCE).unwrap().parse().unwrap();
    parameters.patience = Duration::from_secs(patience);
    parameters.connect_timeout = Duration::from_secs(60);
    parameters.dialect = Dialect::Multiplexed;
    let network = Network::bind(&std::env::var(ROLE).unwrap(), 0, parameters).unwrap();
    let here = network.new_endpoint().unwrap();
    println!("@ {}", here.address());
    std::thread::scope(|scope| {
        scope.spawn(|| tell_events(&here));
        let mut connection: Option<Connection> = None;
        for line in std::io::stdin().lines() {
            let line = line.unwrap();
            if let Some(address) = line.strip_prefix("connect ") {
                let outcome = here.connect(&address.into(), ConnectHints::new());
                println!("@ {}", outcome.as_ref().map_or("failed", |_| "connected"));
                connection = outcome.ok();
            } else {
                let sent = connection.as_ref().unwrap().send(&[line.as_bytes()]);
                println!("@ {}", sent.map_or("failed", |()| "sent"));
            }
        }
        here.close();
    });
}

fn tell_events(here: &Endpoint) {
    while let Ok(event) = here.receive() {
        match event {
            Event::Received { message, .. } => {
                println!("@ received {}", String::from_utf8(message).unwrap());
            }
            Event::ConnectionOpened { .. } => println!("@ opened"),
            Event::ConnectionClosed { .. } => println!("@ closed"),
            Event::ConnectionLost { .. } => println!("@ lost"),
            _ => {}
        }
    }
}

#[test]
fn a_cut_link_is_a_loss_for_both_and_can_be_mended() {
    let link = match Link::new("cut") {
        Ok(link) => link,
        Err(reason) => return skip("a_cut_link_is_a_loss_for_both_and_can_be_mended", &reason),
    };
    let [mut one, mut other] = [0, 1].map(|n| link.start(n, 2));
    let (_, address) = (one.hear(), other.hear());
    for round in 0..2 {
        one.tell(&format!("connect {address}"));
        one.hear_until("connected");
        other.hear_until("opened");
        one.tell(&format!("hello {round}"));
        one.hear_until("sent");
        other.hear_until(&format!("received hello {round}"));
        link.set(false);
        one.hear_until("lost");
        other.hear_until("lost");
        link.set(true);
    }
}

#[test]
fn loss_and_delay_change_nothing_but_the_time() {
    let link = match Link::new("bad").and_then(|link| link.worsen().map(|()| link)) {
        Ok(link) => link,
        Err(reason) => return skip("loss_and_delay_change_nothing_but_the_time", &reason),
    };
    let [mut one, mut other] = [0, 1].map(|n| link.start(n, 60));
    let (_, address) = (one.hear(), other.hear());
    one.tell(&format!("connect {address}"));
    one.hear_until("connected");
    other.hear_until("opened");
    for round in 0..60 {
        let message = format!("{round} ").repeat(10_000);
        let message = message.trim_end();
        one.tell(message);
        assert_eq!(one.hear(), "sent");
        assert_eq!(other.hear(), format!("received {message}"));
    }
    assert!(link.lost() > 0);
}
