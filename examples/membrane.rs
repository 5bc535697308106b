//! A server that lends an object, watches over what is done with it, and takes it
//! back.
//!
//! A membrane stands around the object. Its policy sees every call that crosses, in
//! either direction, including calls on what was passed through it. Revoking ends all of
//! that at once.
//!
//! ```text
//! cargo run --example membrane
//! ```

use capnp_threads::capnp::traits::HasTypeId;
use capnp_threads::membrane::{Membrane, MembranePolicy, Passage};
use capnp_threads::transport::memory;
use capnp_threads::{Client, ConnConfig, Error, Result, Vat};
use rpc_schema::greeter_capnp::{greeter, guest};

struct Greeter;

impl greeter::Server for Greeter {
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        let guest = params.get()?.get_guest()?;
        let answer = guest.name_request().call()?;
        let name = answer.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Good evening, {name}."));
        Ok(())
    }
}

struct Guest(&'static str);

impl guest::Server for Guest {
    fn name(&self, _: guest::NameParams, mut results: guest::NameResults) -> Result<()> {
        results.get().set_name(self.0);
        Ok(())
    }
}

/// Lets only guests in, and says who crosses.
struct Doorkeeper;

impl MembranePolicy for Doorkeeper {
    fn inbound_call(&self, interface: u64, method: u16, _inside: &Client) -> Result<Passage> {
        const GREET_GUEST: u16 = 1;
        if interface == greeter::Client::TYPE_ID && method == GREET_GUEST {
            println!("in:  greetGuest");
            Ok(Passage::Through)
        } else {
            Err(Error::failed("bring a guest"))
        }
    }

    fn outbound_call(&self, _interface: u64, _method: u16, _outside: &Client) -> Result<Passage> {
        println!("out: the guest is asked");
        Ok(Passage::Through)
    }
}

fn main() -> Result<()> {
    let (near, far) = memory::pair();
    let server_vat = Vat::new();
    let inside: greeter::Client = server_vat.export(Greeter);
    let door = Membrane::new(Doorkeeper);
    let lent = door.wrap(&inside);
    let server = server_vat.connect(far, ConnConfig::new().bootstrap(lent))?;

    let client_vat = Vat::new();
    let connection = client_vat.connect(near, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    let mut request = greeter.greet_guest_request();
    request.get().set_guest(client_vat.export(Guest("Grace")));
    println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);

    if let Err(error) = greeter.greet_request().call() {
        println!("greet: {error}");
    }
    door.revoke(Error::failed("the party is over"));
    let mut request = greeter.greet_guest_request();
    request.get().set_guest(client_vat.export(Guest("Ada")));
    if let Err(error) = request.call() {
        println!("greetGuest: {error}");
    }

    connection.close();
    server.join()
}
