//! Two vats in one process, over in-memory and socket transports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capnp_threads_core::{ConnConfig, Error, Vat};
use capnp_threads_transport::memory;
use rpc_schema::echo_capnp::echo;

#[derive(Default)]
struct Echo {
    bytes: AtomicU64,
}

impl echo::Server for Echo {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<(), Error> {
        Ok(())
    }
    fn echo(&self, params: echo::EchoParams, mut results: echo::EchoResults) -> Result<(), Error> {
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }
    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<(), Error> {
        results.get().set_echo(echo::Client::from_server(Echo::default()));
        Ok(())
    }
    fn push(&self, params: echo::PushParams) -> Result<(), Error> {
        self.bytes.fetch_add(params.get()?.get_data()?.len() as u64, Ordering::SeqCst);
        Ok(())
    }
    fn total(&self, _: echo::TotalParams, mut results: echo::TotalResults) -> Result<(), Error> {
        results.get().set_bytes(self.bytes.load(Ordering::SeqCst));
        Ok(())
    }
}

#[test]
fn calls_return_and_the_tables_end_up_empty() {
    let (here, there) = memory::pair();
    let (client_vat, server_vat) = (Vat::new(), Vat::new());
    let bootstrap: echo::Client = server_vat.export(Echo::default());
    let server = server_vat.connect(there, ConnConfig::new().bootstrap(bootstrap)).unwrap();
    let client = client_vat.connect(here, ConnConfig::new()).unwrap();

    let echo: echo::Client = client.bootstrap();
    let mut request = echo.echo_request();
    request.get().set_data(b"hello");
    assert_eq!(request.call().unwrap().get().unwrap().get_data().unwrap(), b"hello");

    let mut deep = echo.clone();
    for _ in 0..10 {
        deep = deep.next_request().send().pipeline().get_echo();
    }
    deep.ping_request().call().unwrap();
    drop(deep);
    drop(echo);
    client.close();
    assert!(client.join_timeout(Duration::from_secs(10)).unwrap());
    assert!(server.join_timeout(Duration::from_secs(10)).unwrap());
    assert!(client.snapshot().is_empty());
    assert!(server.snapshot().is_empty());
}

#[test]
fn a_stream_arrives_whole_and_in_order_before_what_follows_it() {
    let (here, there) = memory::pair();
    let vat = Vat::new();
    let bootstrap: echo::Client = vat.export(Echo::default());
    let server = vat.connect(there, ConnConfig::new().bootstrap(bootstrap)).unwrap();
    let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
    let echo: echo::Client = client.bootstrap();
    for _ in 0..100 {
        let mut request = echo.push_request();
        request.get().set_data(&[7; 10_000]);
        request.send().unwrap();
    }
    assert_eq!(echo.total_request().call().unwrap().get().unwrap().get_bytes(), 1_000_000);
    drop(echo);
    client.close();
    assert!(server.join_timeout(Duration::from_secs(10)).unwrap());
}
