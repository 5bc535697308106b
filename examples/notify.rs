//! A server that tells its listeners of prices, as fast as they change.
//!
//! Each listener has an outbox of its own. One of them never answers: it is told less, and
//! nobody else is told later for that.
//!
//! ```text
//! cargo run --release --example notify
//! ```

use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use capnp_threads::outbox::{Outbox, OutboxConfig, WhenFull};
use capnp_threads::prelude::*;
use capnp_threads::transport::memory;
use rpc_schema::chat_capnp::listener;

const LISTENERS: usize = 20;
const PRICES: usize = 1000;

/// Passes on what it hears, and does not return from a call that it is told not to.
struct Listener {
    heard: Mutex<Sender<String>>,
    answers: bool,
}

impl listener::Server for Listener {
    fn said(&self, params: listener::SaidParams, results: listener::SaidResults) -> Result<()> {
        let price = params.get()?.get_text()?.to_string()?;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.send(price).or_error()?;
        if !self.answers {
            // Nobody will ever answer this.
            std::mem::forget(results.defer());
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let (server, mut connections) = (Vat::new(), Vec::new());
    let mut outboxes = Vec::new();
    let mut ears = Vec::new();
    for number in 0..LISTENERS {
        // The first one is stuck.
        let (heard, ear) = mpsc::channel();
        let listener = Listener { heard: Mutex::new(heard), answers: number > 0 };
        let listener: listener::Client = Vat::global().export(listener);
        let (near, far) = memory::pair();
        connections.push(Vat::global().connect(far, ConnConfig::new().bootstrap(listener))?);
        let connection = server.connect(near, ConnConfig::new())?;
        let listener: listener::Client = connection.bootstrap();
        let mut config = OutboxConfig::new(WhenFull::DropOldest);
        (config.waiting, config.under_way) = (10, 1);
        outboxes.push((Outbox::new(&listener, config), listener));
        connections.push(connection);
        ears.push(ear);
    }
    for price in 1..=PRICES {
        for (outbox, listener) in &outboxes {
            let mut request = listener.said_request();
            request.get().set_who("the exchange");
            request.get().set_text(price.to_string());
            // This does not wait for anybody.
            request.post(outbox)?;
        }
    }
    let last = PRICES.to_string();
    let know = ears.iter().skip(1).filter(|ear| ear.iter().any(|price| price == last)).count();
    println!("{know} listeners know the last price");
    if let Some((stuck, _)) = outboxes.first() {
        let (waiting, dropped) = (stuck.waiting(), stuck.dropped());
        println!("one has not answered: {waiting} prices wait for it, {dropped} were dropped");
    }
    connections.iter().for_each(capnp_threads::Connection::close);
    connections.iter().try_for_each(capnp_threads::Connection::join)
}
