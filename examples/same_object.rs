//! Is it the same? A shop sells to whoever holds a ticket of the theatre. The customer has
//! the ticket from a friend, and the shop has the list of tickets from the theatre itself. Each
//! of them is a process of its own, and nobody tells anybody a number: the shop compares the
//! capability that it was given with those that it knows.
//!
//! ```text
//! cargo run --example same_object
//! ```

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use capnp_threads::offer::NamedExports;
use capnp_threads::transport::tcp;
use capnp_threads::{Client, ConnConfig, Connection, FromClient, Result, Vat};
use rpc_schema::greeter_capnp::greeter;

type Failure = Box<dyn Error>;

/// A ticket: what it does is of no importance here.
struct Ticket;

impl greeter::Server for Ticket {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Welcome, {name}!"));
        Ok(())
    }
}

/// Prints where this process listens, and offers what it has to everybody until it is killed.
fn serve(vat: &Vat, offered: &NamedExports) -> std::result::Result<(), Failure> {
    let listener = tcp::Listener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let mut connections = Vec::new();
    loop {
        let config = ConnConfig::new().restorer(offered.clone());
        connections.push(vat.connect(listener.accept()?, config)?);
    }
}

fn theatre() -> std::result::Result<(), Failure> {
    let vat = Vat::new();
    let tickets = NamedExports::new();
    for seat in ["seat 1", "seat 2"] {
        tickets.export(seat, vat.export::<greeter::Client, _>(Ticket));
    }
    serve(&vat, &tickets)
}

/// Has the ticket for seat 2, and gives it away.
fn friend(theatre: &str) -> std::result::Result<(), Failure> {
    let vat = Vat::new();
    let connection = reach(&vat, theatre)?;
    let gifts = NamedExports::new();
    gifts.export("a gift", connection.restore_client("seat 2").resolve()?);
    serve(&vat, &gifts)
}

fn reach(vat: &Vat, address: &str) -> std::result::Result<Connection, Failure> {
    Ok(vat.connect(tcp::connect(address)?, ConnConfig::new())?)
}

/// Starts this program once more in a role, and reads the address at which it listens.
fn start(role: &[&str]) -> std::result::Result<(Child, String), Failure> {
    let mut child = Command::new(env::current_exe()?).args(role).stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    let output = child.stdout.take().ok_or("the process has no output")?;
    BufReader::new(output).read_line(&mut address)?;
    Ok((child, address.trim().to_owned()))
}

/// The shop: it asks of each seat whether this is the ticket for it.
fn check(ticket: &Client, theatre: &Connection) -> std::result::Result<(), Failure> {
    for seat in ["seat 1", "seat 2"] {
        let known = theatre.restore_client(seat);
        let answer = if ticket.same_object(&known)? { "yes" } else { "no" };
        println!("Is the gift the ticket for {seat}? {answer}");
    }
    Ok(())
}

fn main() -> std::result::Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["theatre"] => return theatre(),
        ["friend", address] => return friend(address),
        _ => {}
    }
    let (mut theatre, theatre_address) = start(&["theatre"])?;
    let (mut friend, friend_address) = start(&["friend", &theatre_address])?;

    let vat = Vat::new();
    let (to_theatre, to_friend) = (reach(&vat, &theatre_address)?, reach(&vat, &friend_address)?);
    // The ticket comes from the friend, so to this vat it looks like one of the friend's.
    let ticket = to_friend.restore_client("a gift");
    check(&ticket, &to_theatre)?;
    let mut request = greeter::Client::from_client(ticket).greet_request();
    request.get().set_name("Ada");
    println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);

    for process in [&mut friend, &mut theatre] {
        process.kill()?;
        process.wait()?;
    }
    Ok(())
}
