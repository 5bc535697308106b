//! Vats in the middle, whose threads write to one vat what they have read from another
//! before they read on: a vat that does not read holds up nobody but itself.

use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Error, ErrorKind, FromClient, Limits, Result, Vat,
};
use capnp_threads_transport::memory::{self, Capacity};
use capnp_threads_transport::tcp::TcpOptions;
use capnp_threads_transport::tls::{TlsClient, TlsServer, VatKey};
use capnp_threads_transport::{Transport, unix};
use rpc_schema::echo_capnp::echo;

use rpc_tests::support::objects::Quick;
use rpc_tests::support::{LONG, Watchdog, Wire, settle, vat};

/// Together far more than a narrow wire takes from who does not wait, and each so small that a
/// thread leaves it until it reads on.
const CALLS: u64 = 300;
const BYTES: usize = 2 << 10;

/// How long a connection that ends waits for a peer that does not read.
const SOON: Duration = Duration::from_millis(20);

/// The two ends of a wire that holds as little as the system allows.
fn narrow(wire: Wire) -> (Transport, Transport) {
    // With less to receive into, a peer that did read would be sent a few bytes at a time: as
    // often as the system looks whether its window has opened.
    let options = TcpOptions::new().send_buffer(1).receive_buffer(64 << 10);
    match wire {
        Wire::Memory => memory::pair_with_capacity(Capacity { messages: 8, words: 2048 }),
        Wire::Bytes => wire.pair(),
        Wire::Unix => {
            let ends = UnixStream::pair().unwrap();
            let end = |stream: UnixStream| {
                socket2::SockRef::from(&stream).set_send_buffer_size(1).unwrap();
                unix::from_stream(stream).unwrap()
            };
            (end(ends.0), end(ends.1))
        }
        Wire::Tcp => {
            let listener = options.listen("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let there = thread::spawn(move || listener.accept().unwrap());
            (options.connect(address).unwrap(), there.join().unwrap())
        }
        Wire::Tls => {
            let [here, there] = [(); 2].map(|()| VatKey::generate().unwrap());
            let server = TlsServer::vat(&there).unwrap().tcp_options(options.clone());
            let listener = server.listen("127.0.0.1:0").unwrap();
            let port = listener.local_addr().port();
            let client = TlsClient::vat(&here, there.id()).unwrap().tcp_options(options);
            let there = thread::spawn(move || listener.accept().unwrap());
            (client.connect("127.0.0.1", port).unwrap(), there.join().unwrap())
        }
    }
}

/// An object that keeps the thread that reads from reading, from the call with the number 0
/// until it is let go.
struct Door {
    closed: Sender<()>,
    opened: Mutex<Receiver<()>>,
    numbers: Sender<u64>,
}

/// What is outside the door.
struct Outside {
    is_closed: Receiver<()>,
    open: Sender<()>,
    /// Of the calls that went through, in order.
    numbers: Receiver<u64>,
}

impl Door {
    fn in_vat(vat: &Vat) -> (Client, Outside) {
        let (closed, is_closed) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        let (number, numbers) = mpsc::channel();
        let door = Door { closed, opened: Mutex::new(opened), numbers: number };
        let client: echo::Client = vat.export_with(door, Concurrency::Inline);
        (client.into_client(), Outside { is_closed, open, numbers })
    }
}

impl echo::Server for Door {
    fn echo(&self, params: echo::EchoParams, mut results: echo::EchoResults) -> Result<()> {
        let data = params.get()?.get_data()?;
        let number = u64::from_le_bytes(data[..8].try_into().unwrap());
        if number == 0 {
            let over = |_| Error::failed("the test is over");
            self.closed.send(()).map_err(|_| Error::failed("nobody waits"))?;
            self.opened.lock().unwrap().recv().map_err(over)?;
        }
        let _ = self.numbers.send(number);
        results.get().set_data(data);
        Ok(())
    }
}

fn data(number: u64) -> Vec<u8> {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(BYTES, number.to_le_bytes()[0]);
    data
}

type Call = capnp_threads_core::typed::Promise<echo::echo_results::Owned>;

fn call(client: &echo::Client, number: u64) -> Call {
    let mut request = client.echo_request();
    request.get().set_data(&data(number));
    request.send()
}

fn require(call: Call, number: u64) {
    assert_eq!(call.wait().unwrap().get().unwrap().get_data().unwrap(), data(number));
}

/// All calls may be under way at once.
fn config() -> ConnConfig {
    let mut limits = Limits::default();
    limits.questions = 4 * u32::try_from(CALLS).unwrap();
    ConnConfig::new().limits(limits)
}

/// Three vats in a row. What the one at the far end offers, the one in the middle offers to
/// the one at the near end.
struct Row {
    vats: [Vat; 3],
    /// Of the vat at the near end, and its other side in the middle.
    near: [Connection; 2],
    /// Of the vat in the middle, and its other side at the far end.
    far: [Connection; 2],
    /// What the middle has from the far end.
    passed: echo::Client,
}

impl Row {
    /// `offers` makes what the two ends offer.
    fn new(wire: Wire, offers: impl FnOnce(&Vat, &Vat) -> [Client; 2]) -> Self {
        let vats = ["near", "middle", "far"].map(vat);
        let [near, middle, far] = &vats;
        let [at_near, at_far] = offers(near, far);
        let connect = |ends: [&Vat; 2], offered: [Option<Client>; 2]| {
            let (here, there) = narrow(wire);
            let with = |offered: &Option<Client>| {
                let config = config().close_timeout(SOON);
                offered.iter().fold(config, |config, client| config.bootstrap(client.clone()))
            };
            let there = ends[1].connect(there, with(&offered[1])).unwrap();
            [ends[0].connect(here, with(&offered[0])).unwrap(), there]
        };
        let far = connect([middle, far], [None, Some(at_far)]);
        let passed: echo::Client = far[0].bootstrap();
        passed.as_client().resolve().unwrap();
        let offered = Some(passed.as_client().clone());
        let near = connect([near, middle], [Some(at_near), offered]);
        Row { vats, near, far, passed }
    }

    /// What the near end has from the middle, which has it from the far end.
    fn client(&self) -> echo::Client {
        let client: echo::Client = self.near[0].bootstrap();
        client.as_client().resolve().unwrap();
        client
    }

    fn end(self) {
        let Row { vats, near, far, passed } = self;
        settle(&near[0], &near[1]);
        end(&near);
        drop(passed);
        if far[0].failure().is_none() {
            settle(&far[0], &far[1]);
        }
        end(&far);
        for vat in vats {
            assert!(vat.shutdown(LONG).unwrap());
        }
    }
}

fn end([here, there]: &[Connection; 2]) {
    here.close();
    assert!(here.join_timeout(LONG).unwrap());
    assert!(there.join_timeout(LONG).unwrap());
}

fn quick(vat: &Vat, concurrency: Concurrency) -> Client {
    let client: echo::Client = vat.export_with(Quick, concurrency);
    client.into_client()
}

/// Sends calls to the far end, which takes none of them, and comes back when the middle has
/// read them all. Meanwhile a thread of the application waits in the middle for answers of the
/// near end: it reads these calls, too, and passes them on.
fn call_who_does_not_read(row: &Row, outside: &Outside) -> Vec<Call> {
    let client = row.client();
    let called = AtomicBool::new(false);
    let calls = thread::scope(|scope| {
        scope.spawn(|| {
            let of_near: echo::Client = row.near[1].bootstrap();
            let mut number = 1;
            while !called.load(Ordering::SeqCst) || number < 50 {
                require(call(&of_near, number), number);
                number += 1;
            }
        });
        let calls: Vec<_> = (0..CALLS).map(|number| call(&client, number)).collect();
        outside.is_closed.recv().unwrap();
        // The middle answers this after it has passed on what came before.
        drop(row.client());
        called.store(true, Ordering::SeqCst);
        calls
    });
    assert!(outside.numbers.try_recv().is_err());
    calls
}

/// A row whose far vat does not read while its door is closed.
fn row_to_a_door(wire: Wire) -> (Row, Outside) {
    let mut outside = None;
    let row = Row::new(wire, |near, far| {
        let (door, made) = Door::in_vat(far);
        outside = Some(made);
        [quick(near, Concurrency::Concurrent), door]
    });
    (row, outside.unwrap())
}

#[test]
fn calls_to_who_does_not_read_hold_up_nobody_who_passes_them_on() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let (row, outside) = row_to_a_door(wire);
        let calls = call_who_does_not_read(&row, &outside);
        outside.open.send(()).unwrap();
        for (number, call) in (0..).zip(calls) {
            require(call, number);
            assert_eq!(outside.numbers.recv(), Ok(number), "{wire:?}");
        }
        row.end();
    }
}

/// The middle ends the connection in the middle of all that.
#[test]
fn calls_to_who_does_not_read_fail_with_the_connection() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let (row, outside) = row_to_a_door(wire);
        let calls = call_who_does_not_read(&row, &outside);
        row.far[0].close();
        for call in calls {
            let error = call.wait().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{wire:?}");
        }
        // The near end is still served.
        let error = call(&row.client(), 1).wait().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{wire:?}");
        outside.open.send(()).unwrap();
        row.end();
    }
}

#[test]
fn answers_to_who_does_not_read_hold_up_nobody_who_passes_them_on() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let mut outside = None;
        let row = Row::new(wire, |near, far| {
            let ((near, not_reading), (far, answering)) = (Door::in_vat(near), Door::in_vat(far));
            outside = Some((not_reading, answering));
            [near, far]
        });
        let (near, far) = outside.unwrap();
        let client = row.client();
        let of_near: echo::Client = row.near[1].bootstrap();
        let first = call(&of_near, 0);
        near.is_closed.recv().unwrap();
        let calls: Vec<_> = (1..CALLS).map(|number| call(&client, number)).collect();
        (1..CALLS).for_each(|number| assert_eq!(far.numbers.recv(), Ok(number), "{wire:?}"));
        // These are answered behind all those.
        (1..50).for_each(|number| require(call(&row.passed, number), number));
        assert!(near.numbers.try_recv().is_err());
        near.open.send(()).unwrap();
        require(first, 0);
        for (number, call) in (1..).zip(calls) {
            require(call, number);
        }
        drop((client, of_near));
        row.end();
    }
}

/// Both vats answer on the threads that read.
#[test]
fn vats_that_fill_both_directions_of_a_wire_go_on() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let vats = ["left", "right"].map(vat);
        let (left, right) = narrow(wire);
        let connect = |vat: &Vat, end| {
            vat.connect(end, config().bootstrap(quick(vat, Concurrency::Inline))).unwrap()
        };
        let ends = [connect(&vats[0], left), connect(&vats[1], right)];
        thread::scope(|scope| {
            for from in [&ends[0], &ends[0], &ends[1], &ends[1]] {
                scope.spawn(|| {
                    let client: echo::Client = from.bootstrap();
                    let calls: Vec<_> = (0..CALLS).map(|number| call(&client, number)).collect();
                    for (number, call) in (0..).zip(calls) {
                        require(call, number);
                    }
                });
            }
        });
        settle(&ends[0], &ends[1]);
        end(&ends);
        for vat in vats {
            assert!(vat.shutdown(LONG).unwrap());
        }
    }
}
