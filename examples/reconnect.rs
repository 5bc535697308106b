//! A client that outlives its connection.
//!
//! The server is started anew after every answer. The client is told when it is gone, and
//! goes on calling the same capability, which connects again.
//!
//! ```text
//! cargo run --example reconnect
//! ```

use std::sync::mpsc;

use capnp_threads::prelude::*;
use capnp_threads::reconnect::Retry;
use capnp_threads::serving::{Running, Server};
use rpc_schema::greeter_capnp::greeter;

struct Greeter {
    number: u32,
}

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Hello, {name}! This is server {}.", self.number));
        Ok(())
    }
}

fn start(number: u32, address: &str) -> Result<Running> {
    let greeter: greeter::Client = Vat::global().export(Greeter { number });
    Server::new(greeter).listen(address)?.start()
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let address = format!("unix:{}", folder.path().join("greeter").display());
    let mut server = start(1, &address)?;

    let greeter: greeter::Client = capnp_threads::connect(&address)?;
    // Greeting somebody twice does no harm.
    let retry = Retry::new().attempts(10).idempotent();
    for (number, name) in (2..).zip(["Ada", "Grace", "Barbara"]) {
        let greeting = retry.call(|| {
            let mut request = greeter.greet_request();
            request.get().set_name(name);
            Ok(request.call()?.get()?.get_greeting()?.to_string()?)
        })?;
        println!("{greeting}");

        let (tell, told) = mpsc::channel();
        let notice = greeter.as_client().on_disconnect(move |error| drop(tell.send(error)));
        server.stop();
        server.join()?;
        println!("{} is gone: {}", number - 1, told.recv().or_error()?.kind());
        drop(notice);
        server = start(number, &address)?;
    }
    server.stop();
    server.join().map(drop)
}
