//! Measures calls of a capability that a third vat hosts: after it was handed off, through the
//! vat that gave it, and of one that came from its host, in turns.
//!
//! All vats are in this process, and have TLS between them. As in `compare`, what counts are
//! the ratios within a round.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use benches::Result;
use benches::cli::positive;
use benches::figures::{Line, number};
use benches::load::pings;
use benches::service::Echo;
use benches::table::Table;
use capnp_threads_core::{Concurrency, FromClient, RpcSystem, Vat};
use capnp_threads_transport::tls::{TlsNetwork, VatKey};
use rpc_schema::echo_capnp::echo;

const USAGE: &str = "handoff [--rounds N] [--calls N]
Measures N rounds (default 7) of N calls (default 2000)";

fn main() -> ExitCode {
    match parse()
        .and_then(|options| options.map_or(Ok(()), |(rounds, calls)| measure(rounds, calls)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handoff: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Option<(usize, usize)>> {
    let (mut rounds, mut calls) = (7, 2000);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || positive(&option, &arguments.next().unwrap_or_default());
        match option.as_str() {
            "--rounds" => rounds = value()?,
            "--calls" => calls = value()?,
            "--help" => {
                println!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Some((rounds, calls)))
}

type System = RpcSystem<TlsNetwork>;

fn listening() -> Result<TlsNetwork> {
    Ok(TlsNetwork::listening(&VatKey::generate()?, &"127.0.0.1:0".parse()?)?)
}

/// A vat that offers to everybody what the host offers to it.
fn giver(host: &System, hand_off: bool) -> Result<System> {
    let offered: Arc<Mutex<Option<echo::Client>>> = Arc::default();
    let offering = Arc::clone(&offered);
    let offer = move || offering.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let giver = RpcSystem::builder(&Vat::new(), listening()?)
        .hand_off(hand_off)
        .bootstrap_factory(move |_| offer().map(FromClient::into_client))
        .start()?;
    let hosts: echo::Client = giver.bootstrap(&host.network().this_vat());
    hosts.ping_request().call()?;
    *offered.lock().unwrap_or_else(PoisonError::into_inner) = Some(hosts);
    Ok(giver)
}

/// A vat that only calls, and what it calls.
fn caller(giver: &System) -> Result<(System, echo::Client)> {
    let network = TlsNetwork::client(&VatKey::generate()?)?;
    let system = RpcSystem::builder(&Vat::new(), network).start()?;
    let given: echo::Client = system.bootstrap(&giver.network().this_vat());
    let begin = Instant::now();
    while given.clone().into_client().is_unresolved() {
        given.ping_request().call()?;
        if begin.elapsed() > Duration::from_secs(60) {
            return Err("the capability does not resolve".into());
        }
    }
    Ok((system, given))
}

fn measure(rounds: usize, calls: usize) -> Result<()> {
    let vat = Vat::new();
    let echo = Echo::client(&vat, Concurrency::default());
    let host = RpcSystem::builder(&vat, listening()?).bootstrap(echo).start()?;
    let (handing, keeping) = (giver(&host, true)?, giver(&host, false)?);
    let callers = [caller(&handing)?, caller(&host)?, caller(&keeping)?];
    let names = ["handed off", "of its host", "through the giver"];
    let mut table = Table::new("calls", names.map(str::to_owned).to_vec());
    for round in 0..rounds {
        for (peer, (_, given)) in callers.iter().enumerate() {
            for (name, window) in [("ping_per_s", 1), ("window16_per_s", 16)] {
                let begin = Instant::now();
                pings(given, calls, window)?;
                let rate = number(calls) / begin.elapsed().as_secs_f64();
                table.add(peer, round, &Line::new(name.to_owned(), rate, 0));
            }
        }
    }
    println!("{table}");
    Ok(())
}
