//! A server that calls an object of its client before it answers.
//!
//! ```text
//! cargo run --example callbacks
//! ```

use capnp_threads::transport::memory;
use capnp_threads::{ConnConfig, Result, Vat};
use rpc_schema::greeter_capnp::{greeter, guest};

struct Greeter;

impl greeter::Server for Greeter {
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        let guest = params.get()?.get_guest()?;
        // Blocks this worker until the client has answered. Another worker takes
        // its place meanwhile.
        let answer = guest.name_request().call()?;
        let name = answer.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Good evening, {name}."));
        Ok(())
    }
}

struct Guest(&'static str);

impl guest::Server for Guest {
    fn name(&self, _: guest::NameParams, mut results: guest::NameResults) -> Result<()> {
        println!("the server asks for the name");
        results.get().set_name(self.0);
        Ok(())
    }
}

fn main() -> Result<()> {
    let (near, far) = memory::pair();
    let server_vat = Vat::new();
    let greeter: greeter::Client = server_vat.export(Greeter);
    let server = server_vat.connect(far, ConnConfig::new().bootstrap(greeter))?;

    let client_vat = Vat::new();
    let connection = client_vat.connect(near, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    let mut request = greeter.greet_guest_request();
    request.get().set_guest(client_vat.export(Guest("Grace")));
    println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);

    connection.close();
    server.join()
}
