//! A chat room that calls its guests back, from many threads at once.
//!
//! Every guest has a connection of its own and gives the room a listener. Whatever one
//! guest says, the room tells all of them at once, and waits until they have heard it.
//!
//! ```text
//! cargo run --example chat
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use capnp_threads::transport::{Transport, memory};
use capnp_threads::{ConnConfig, Connection, Error, Result, Vat};
use rpc_schema::chat_capnp::{listener, room, seat};

const GUESTS: u64 = 8;
const WORDS: [&str; 3] = ["hello", "how are you?", "good night"];

#[derive(Default)]
struct Room {
    listeners: Arc<Mutex<HashMap<u64, listener::Client>>>,
    next: AtomicU64,
}

/// One guest's place. Dropped when the guest drops it, or is disconnected.
struct Seat {
    listeners: Arc<Mutex<HashMap<u64, listener::Client>>>,
    number: u64,
    name: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl room::Server for Room {
    fn join(&self, params: room::JoinParams, mut results: room::JoinResults) -> Result<()> {
        let params = params.get()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listeners).insert(number, params.get_listener()?);
        results.get().set_seat(seat::Client::from_server(Seat {
            listeners: Arc::clone(&self.listeners),
            number,
            name: params.get_name()?.to_string()?,
        }));
        Ok(())
    }
}

impl seat::Server for Seat {
    fn say(&self, params: seat::SayParams, _: seat::SayResults) -> Result<()> {
        let text = params.get()?.get_text()?;
        // Nobody is called under the lock.
        let listeners: Vec<_> = lock(&self.listeners).values().cloned().collect();
        let mut told = Vec::new();
        for listener in listeners {
            let mut request = listener.said_request();
            request.get().set_who(&self.name);
            request.get().set_text(text);
            told.push(request.send());
        }
        for promise in told {
            // Somebody may have left meanwhile.
            let _ = promise.wait();
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let listener = lock(&self.listeners).remove(&self.number);
        drop(listener);
    }
}

/// A guest's ears.
struct Listener {
    heard: Arc<Mutex<Vec<String>>>,
}

impl listener::Server for Listener {
    fn said(&self, params: listener::SaidParams, _: listener::SaidResults) -> Result<()> {
        let params = params.get()?;
        let line = format!("{}: {}", params.get_who()?.to_str()?, params.get_text()?.to_str()?);
        lock(&self.heard).push(line);
        Ok(())
    }
}

/// A guest that has come, over a connection of its own.
struct Guest {
    connection: Connection,
    seat: seat::Client,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Guest {
    fn come(name: &str, transport: Transport) -> Result<Self> {
        let vat = Vat::new();
        let connection = vat.connect(transport, ConnConfig::new())?;
        let room: room::Client = connection.bootstrap();
        let heard = Arc::default();
        let mut request = room.join_request();
        request.get().set_name(name);
        request.get().set_listener(vat.export(Listener { heard: Arc::clone(&heard) }));
        let seat = request.call()?.get()?.get_seat()?;
        Ok(Guest { connection, seat, heard })
    }

    fn talk(&self) -> Result<()> {
        for text in WORDS {
            let mut request = self.seat.say_request();
            request.get().set_text(text);
            // Returns when everybody has heard it.
            request.call()?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let vat = Vat::new();
    let room: room::Client = vat.export(Room::default());
    let mut guests = Vec::new();
    let mut doors = Vec::new();
    for number in 1..=GUESTS {
        let (near, far) = memory::pair();
        doors.push(vat.connect(far, ConnConfig::new().bootstrap(room.clone()))?);
        guests.push(Guest::come(&format!("guest {number}"), near)?);
    }
    thread::scope(|scope| {
        let threads: Vec<_> =
            guests.iter().map(|guest| scope.spawn(move || guest.talk())).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| Error::failed("a guest's thread panicked"))?
        })
    })?;
    println!("{GUESTS} guests said {} things each", WORDS.len());
    for (guest, door) in guests.into_iter().zip(doors) {
        println!("one heard {} of them", lock(&guest.heard).len());
        guest.connection.close();
        door.join()?;
    }
    Ok(())
}
