//! The smallest server and the smallest client, over a TCP port of this machine.
//!
//! ```text
//! cargo run --example hello
//! ```

use std::thread;

use capnp_threads::transport::tcp;
use capnp_threads::{ConnConfig, Result, ServeConfig, Vat};
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

/// Serves everybody who comes, until the listener is closed.
fn serve(listener: &tcp::Listener) -> Result<()> {
    let vat = Vat::new();
    let greeter: greeter::Client = vat.export(Greeter);
    vat.serve(listener, ServeConfig::bootstrap(greeter))
}

fn main() -> Result<()> {
    let listener = tcp::Listener::bind("127.0.0.1:0")?;
    let (address, closer) = (listener.local_addr()?, listener.closer());
    let server = thread::spawn(move || serve(&listener));

    let vat = Vat::new();
    let connection = vat.connect(tcp::connect(address)?, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    let mut request = greeter.greet_request();
    request.get().set_name("threads");
    let response = request.call()?;
    println!("{}", response.get()?.get_greeting()?.to_str()?);

    // The connection ends with its last handle.
    drop(connection);
    closer.close();
    server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
