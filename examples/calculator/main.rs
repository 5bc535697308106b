//! A calculator whose numbers and functions are objects.
//!
//! ```text
//! cargo run --release --example calculator
//! cargo run --release --example calculator -- serve ADDR
//! cargo run --release --example calculator -- call ADDR
//! ```
//!
//! Without arguments both halves run here, in threads of their own, and speak
//! over a socket. ADDR is `host:port` (port 0 picks one) or `unix:/path`. Either
//! half works with calculators that other implementations of Cap'n Proto RPC
//! serve or call.

mod client;
mod formula;
mod server;

use std::thread;
use std::time::Duration;

use capnp_threads::transport::Address;
use capnp_threads::{ConnConfig, Vat};
use rpc_schema::calculator_capnp::calculator;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => both(),
        ["serve", address] => serve(&address.parse()?),
        ["call", address] => call(&address.parse()?),
        _ => Err("usage: calculator [serve ADDR | call ADDR]".into()),
    }
}

fn both() -> Result {
    let listener = "127.0.0.1:0".parse::<Address>()?.listen()?;
    let address = listener.local_address()?;
    let closer = listener.closer();
    println!("A calculator is served at {address} and called from the same process.");
    thread::scope(|scope| {
        let server = scope.spawn(|| server::serve(&listener));
        let outcome = call(&address);
        // Ends the loop that accepts clients.
        closer.close();
        match server.join() {
            Ok(served) => outcome.and(Ok(served?)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn serve(address: &Address) -> Result {
    let listener = address.listen()?;
    println!("ready {}", listener.local_address()?);
    Ok(server::serve(&listener)?)
}

fn call(address: &Address) -> Result {
    let vat = Vat::new();
    let connection = vat.connect(address.connect()?, ConnConfig::new())?;
    let calculator: calculator::Client = connection.bootstrap();
    client::run(&vat, &calculator)?;
    drop(calculator);
    if !vat.shutdown(Duration::from_secs(10))? {
        return Err("the connection did not end in time".into());
    }
    Ok(())
}
