//! Five vats in five processes, each of which knows only the next one. Capabilities
//! are passed on from vat to vat until they are home again.
//!
//! ```text
//! cargo run --example ring
//! ```
//!
//! Started without arguments it starts itself once for each vat, tells each where
//! the next one is, and has them send their guests round one after the other.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use capnp_threads::endpoint::{EndpointNetwork, EndpointVat, Parameters};
use capnp_threads::{RpcSystem, Vat};
use rpc_schema::greeter_capnp::{greeter, guest};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type System = RpcSystem<EndpointNetwork>;

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dan", "erin"];

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        None => start_all(),
        Some(name) => be_a_vat(&name),
    }
}

/// A guest that is sent round, and counts how often it is asked.
struct Guest {
    name: String,
    asked: Arc<AtomicU32>,
}

impl guest::Server for Guest {
    fn name(
        &self,
        _: guest::NameParams,
        mut results: guest::NameResults,
    ) -> capnp_threads::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        results.get().set_name(&self.name);
        Ok(())
    }
}

/// What each vat offers: asks a guest for the name, and passes those on that are
/// not from here.
struct Host {
    name: String,
    next: Next,
}

/// The next vat of the ring, as soon as it is known.
type Next = Arc<OnceLock<(System, EndpointVat)>>;

impl greeter::Server for Host {
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> capnp_threads::Result<()> {
        let guest = params.get()?.get_guest()?;
        // This goes back through every vat that the guest came through.
        let answer = guest.name_request().call()?;
        let greeting = if answer.get()?.get_name()?.to_str()? == self.name {
            self.name.clone()
        } else {
            format!("{} -> {}", self.name, send_on(&self.next, guest)?)
        };
        results.get().set_greeting(&greeting);
        Ok(())
    }
}

/// Passes a guest to the next vat. Returns the way that it went from there.
fn send_on(next: &Next, guest: guest::Client) -> capnp_threads::Result<String> {
    let Some((system, vat)) = next.get() else {
        return Err(capnp_threads::Error::failed("the ring is not closed yet"));
    };
    let greeter: greeter::Client = system.bootstrap(vat);
    let mut request = greeter.greet_guest_request();
    request.get().set_guest(guest);
    let response = request.call()?;
    let way = response.get()?.get_greeting()?.to_str()?;
    Ok(way.to_owned())
}

/// Runs one of the five vats: prints where it is, and then does what it is told, line by
/// line.
fn be_a_vat(name: &str) -> Result<()> {
    let network = EndpointNetwork::listening(name, "127.0.0.1", 0, Parameters::default())?;
    let this = network.this_vat();
    let vat = Vat::new();
    let next = Next::default();
    let host: greeter::Client = vat.export(Host { name: name.to_owned(), next: next.clone() });
    // Each vat stays in between what it passes on: they know their neighbours, and nobody else.
    let system = RpcSystem::builder(&vat, network).bootstrap(host).hand_off(false).start()?;
    println!("{this}");
    for line in std::io::stdin().lines() {
        let line = line?;
        if let Some(vat) = line.strip_prefix("next ") {
            let _ = next.set((system.clone(), vat.parse()?));
            println!("knows the next one");
        } else {
            let asked = Arc::new(AtomicU32::new(0));
            let guest = Guest { name: name.to_owned(), asked: asked.clone() };
            let way = send_on(&next, vat.export(guest))?;
            let times = asked.load(Ordering::Relaxed);
            let connections = system.connection_count();
            println!("{name} -> {way}: asked {times} times; {name} has {connections} connections");
        }
    }
    // There is nothing more to be told: the others are finished, too.
    let is_over =
        system.drain(Duration::from_secs(10))? && vat.shutdown(Duration::from_secs(10))?;
    if is_over { Ok(()) } else { Err("something did not end in time".into()) }
}

/// A process that is a vat. Dropping it ends it.
struct Member {
    process: Child,
    commands: Option<ChildStdin>,
    says: Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn start(name: &str) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = process.stdin.take();
        let says = process.stdout.take().ok_or("the output is piped")?;
        Ok(Member { process, commands, says: BufReader::new(says).lines() })
    }

    /// The next line that it prints.
    fn hear(&mut self) -> Result<String> {
        Ok(self.says.next().ok_or("a vat has ended too early")??)
    }

    fn tell(&mut self, command: &str) -> Result<String> {
        let commands = self.commands.as_mut().ok_or("it was told to end")?;
        writeln!(commands, "{command}")?;
        commands.flush()?;
        self.hear()
    }

    fn end(mut self) -> Result<()> {
        self.commands.take();
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a vat ended with {status}").into()) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_all() -> Result<()> {
    let mut members = NAMES.into_iter().map(Member::start).collect::<Result<Vec<_>>>()?;
    let vats = members.iter_mut().map(Member::hear).collect::<Result<Vec<_>>>()?;
    let next = vats.iter().cycle().skip(1);
    for (member, next) in members.iter_mut().zip(next) {
        member.tell(&format!("next {next}"))?;
    }
    for member in &mut members {
        println!("{}", member.tell("send")?);
    }
    for member in members {
        member.end()?;
    }
    Ok(())
}
