//! 64 threads that share one client, one connection and one object.
//!
//! ```text
//! cargo run --example threads
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use capnp_threads::transport::memory;
use capnp_threads::{Concurrency, ConnConfig, Result, Vat};
use rpc_schema::greeter_capnp::greeter;

const THREADS: usize = 64;
const CALLS: usize = 100;

#[derive(Default)]
struct Greeter {
    greeted: AtomicU32,
}

impl greeter::Server for Greeter {
    fn greet(
        &self,
        params: greeter::GreetParams,
        mut results: greeter::GreetResults,
    ) -> Result<()> {
        let number = self.greeted.fetch_add(1, Ordering::Relaxed) + 1;
        let name = params.get()?.get_name()?.to_str()?;
        results.get().set_greeting(format!("{name}, you are guest number {number}"));
        Ok(())
    }
}

fn main() -> Result<()> {
    let (near, far) = memory::pair();
    let vat = Vat::new();
    // Several workers may run methods of this object at once.
    let greeter: greeter::Client = vat.export_with(Greeter::default(), Concurrency::Concurrent);
    let server = vat.connect(far, ConnConfig::new().bootstrap(greeter))?;
    let connection = Vat::new().connect(near, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();

    let answers = thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    // No clone, no lock: a client is `Sync`. Beyond the limit on
                    // outstanding calls this waits for room.
                    let mut request = greeter.greet_request();
                    request.get().set_name("You there");
                    request.call()?.get()?.get_greeting()?;
                }
                Ok(CALLS)
            })
        });
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(answered) => answered,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .sum::<Result<usize>>()
    })?;
    println!("{THREADS} threads made {answers} calls through one client");

    connection.close();
    server.join()
}
