//! A client that hands the server an open file together with a capability.
//!
//! Over a Unix socket, a file descriptor travels with the capability that it
//! belongs to. Here it is the writing end of a pipe: what the server writes there
//! reaches the client without any call.
//!
//! ```text
//! cargo run --example pass_fd
//! ```

use std::fs::File;
use std::io::{self, Read, Write};

use capnp_threads::transport::unix;
use capnp_threads::{ConnConfig, Error, FromClient, Result, Vat};
use rpc_schema::greeter_capnp::{greeter, guest};

struct Greeter;

impl greeter::Server for Greeter {
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        mut results: greeter::GreetGuestResults,
    ) -> Result<()> {
        let guest = params.get()?.get_guest()?;
        // The descriptor that came with the capability; a copy of it as a file.
        let fd = guest.as_client().fd().ok_or_else(|| Error::failed("bring something to write"))?;
        File::from(fd.try_clone()?).write_all(b"Dear guest, make yourself at home.\n")?;
        results.get().set_greeting("a letter is waiting in the pipe");
        Ok(())
    }
}

struct Guest;

impl guest::Server for Guest {}

fn main() -> Result<()> {
    // Between processes it would be `unix::Listener` and `unix::connect`.
    let (near, far) = unix::pair()?;
    let server_vat = Vat::new();
    let greeter: greeter::Client = server_vat.export(Greeter);
    let server = server_vat.connect(far, ConnConfig::new().bootstrap(greeter))?;

    let client_vat = Vat::new();
    let connection = client_vat.connect(near, ConnConfig::new())?;
    let greeter: greeter::Client = connection.bootstrap();
    let (mut letters, pipe) = io::pipe()?;
    let mut request = greeter.greet_guest_request();
    request.get().set_guest(client_vat.export_with_fd(Guest, pipe));
    println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);

    // The pipe ends when both sides have dropped the guest.
    let mut text = String::new();
    letters.read_to_string(&mut text)?;
    print!("{text}");

    connection.close();
    server.join()
}
