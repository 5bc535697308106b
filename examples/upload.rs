//! A client that uploads something large, and shows how far it has got.
//!
//! The parts are pushed along a stream: each is sent as soon as the window has room,
//! and nobody waits for answers one by one.
//!
//! ```text
//! cargo run --release --example upload
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use capnp_threads::transport::unix;
use capnp_threads::{ConnConfig, FromClient, Result, Vat};
use rpc_schema::echo_capnp::echo;

const PART: usize = 64 << 10;
const PARTS: u64 = 1024;

/// Takes what it is given, and only counts it.
#[derive(Default)]
struct Store {
    bytes: AtomicU64,
}

impl echo::Server for Store {
    fn push(&self, params: echo::PushParams) -> Result<()> {
        let part = params.get()?.get_data()?;
        self.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, mut results: echo::TotalResults) -> Result<()> {
        results.get().set_bytes(self.bytes.load(Ordering::Relaxed));
        Ok(())
    }
}

/// Draws a bar again whenever it has grown.
fn show(done: u64) {
    const WIDTH: u64 = 40;
    let (length, before) = (done * WIDTH / PARTS, (done - 1) * WIDTH / PARTS);
    if length > before {
        let bar: String = (0..WIDTH).map(|at| if at < length { '#' } else { '.' }).collect();
        eprint!("\r[{bar}] {:3} %", done * 100 / PARTS);
    }
}

fn main() -> Result<()> {
    let (near, far) = unix::pair()?;
    let store: echo::Client = Vat::new().export(Store::default());
    let server = Vat::new().connect(far, ConnConfig::new().bootstrap(store))?;

    let connection = Vat::new().connect(near, ConnConfig::new())?;
    let store: echo::Client = connection.bootstrap();
    let part = vec![7_u8; PART];
    for done in 1..=PARTS {
        let mut request = store.push_request();
        request.get().set_data(&part);
        // Waits while the window is full, and fails if an earlier part did.
        request.send()?;
        show(done);
    }
    // All of it was sent; now it has arrived.
    store.as_client().finish_stream()?;
    eprintln!();
    let bytes = store.total_request().call()?.get()?.get_bytes();
    println!("{} MiB arrived", bytes >> 20);

    connection.close();
    server.join()
}
