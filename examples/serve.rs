//! A server as it runs in production: it is told to end by signals and then answers the
//! calls that it has, says whether it wants calls, and can be run by systemd.
//!
//! ```text
//! cargo run --example serve -- 127.0.0.1:7000
//! kill -TERM ...; or press Ctrl-C
//! ```
//!
//! With systemd, this is all that a unit needs:
//!
//! ```text
//! [Service]
//! Type=notify
//! WatchdogSec=30
//! ExecStart=/usr/bin/serve *:7000
//! ```

use std::time::Duration;

use capnp_threads::health::Health;
use capnp_threads::serving::Server;
use capnp_threads::{Error, Result, Vat};
use rpc_schema::greeter_capnp::greeter;

struct Greeter;

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Hello, {name}!"));
        Ok(())
    }

    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        let answer = params.get()?.get_guest()?.name_request().call()?;
        results.get().set_greeting(format!("Hello, {}!", answer.get()?.get_name()?.to_str()?));
        Ok(())
    }
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let greeter: greeter::Client = Vat::global().export(Greeter);
    let server = Server::new(greeter)
        .listen_inherited_or(&address)?
        .health(&Health::new())
        .drain_for(Duration::from_secs(60))
        .start()?;
    for address in server.addresses() {
        println!("ready {address}");
    }
    if !server.join()? {
        return Err(Error::failed("not every call was answered"));
    }
    eprintln!("every call was answered");
    Ok(())
}
