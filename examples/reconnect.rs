//! A client that outlives its connection.
//!
//! The server hangs up after every answer. The client goes on calling the same
//! capability, which connects again.
//!
//! ```text
//! cargo run --example reconnect
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use capnp_threads::reconnect::auto_reconnect;
use capnp_threads::transport::tcp;
use capnp_threads::{ConnConfig, Error, Result, ServeConfig, Vat};
use rpc_schema::greeter_capnp::greeter;

struct Greeter {
    visit: u32,
}

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("Hello, {name}! This is connection {}.", self.visit));
        Ok(())
    }
}

fn main() -> Result<()> {
    let listener = tcp::Listener::bind("127.0.0.1:0")?;
    let (address, closer) = (listener.local_addr()?, listener.closer());
    let server = thread::spawn(move || -> Result<()> {
        let (vat, visits) = (Vat::new(), AtomicU32::new(0));
        let exporter = vat.clone();
        let config = ServeConfig::new(move |_| {
            let visit = visits.fetch_add(1, Ordering::Relaxed) + 1;
            let greeter: greeter::Client = exporter.export(Greeter { visit });
            Ok(ConnConfig::new().bootstrap(greeter))
        });
        vat.serve(&listener, config)
    });

    let vat = Vat::new();
    // Dropping the last handle on a connection would close it.
    let current = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&current);
    let (greeter, _control) = auto_reconnect(move || -> Result<greeter::Client> {
        let connection = vat.connect(tcp::connect(address)?, ConnConfig::new())?;
        let greeter = connection.bootstrap();
        *kept.lock().map_err(|_| Error::failed("another thread panicked"))? = Some(connection);
        Ok(greeter)
    });
    for name in ["Ada", "Grace", "Barbara"] {
        let mut request = greeter.greet_request();
        request.get().set_name(name);
        println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);
        // Whoever ends a connection, the next call takes another one.
        let connection =
            current.lock().map_err(|_| Error::failed("another thread panicked"))?.take();
        if let Some(connection) = connection {
            connection.close();
            connection.join()?;
        }
    }
    closer.close();
    server.join().map_err(|_| Error::failed("the server panicked"))?
}
