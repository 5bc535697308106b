//! The smallest server and the smallest client, over a TCP port of this machine.
//!
//! ```text
//! cargo run --example hello
//! ```

use capnp_threads::serving::Server;
use capnp_threads::{Result, Vat};
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
}

fn main() -> Result<()> {
    let greeter: greeter::Client = Vat::global().export(Greeter);
    let server = Server::new(greeter).listen("127.0.0.1:0")?.start()?;

    let greeter: greeter::Client = capnp_threads::connect(&server.addresses()[0].to_string())?;
    let mut request = greeter.greet_request();
    request.get().set_name("threads");
    let response = request.call()?;
    println!("{}", response.get()?.get_greeting()?.to_str()?);

    server.stop();
    server.join().map(drop)
}
