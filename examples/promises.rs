//! A capability that is passed on and called before anybody knows what it is.
//!
//! ```text
//! cargo run --example promises
//! ```

use std::thread;

use capnp_threads::transport::memory;
use capnp_threads::{ConnConfig, Result, Vat, promise_client};
use rpc_schema::greeter_capnp::{greeter, guest};

struct Greeter;

impl greeter::Server for Greeter {
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        // The call waits, back at the client, until the promise is kept.
        let answer = params.get()?.get_guest()?.name_request().call()?;
        let name = answer.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("At last, {name}!"));
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

fn main() -> Result<()> {
    let (near, far) = memory::pair();
    let server_vat = Vat::new();
    let greeter: greeter::Client = server_vat.export(Greeter);
    let server = server_vat.connect(far, ConnConfig::new().bootstrap(greeter))?;
    let client_vat = Vat::new();
    let connection = client_vat.connect(near, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();

    let (guest, fulfiller) = promise_client::<guest::Client>();
    let mut request = greeter.greet_guest_request();
    request.get().set_guest(guest);
    let greeting = request.send();
    println!("the guest is announced; answered so far: {}", greeting.try_response().is_some());

    // Any thread may keep a promise.
    let vat = client_vat.clone();
    let arrival = thread::spawn(move || fulfiller.fulfill(vat.export(Guest("Godot"))));
    println!("{}", greeting.wait()?.get()?.get_greeting()?.to_str()?);

    arrival.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    connection.close();
    server.join()
}
