//! What comes of a connection whose peer sends more than the process has memory for, and of the
//! others. Each test is alone in its process, whose allocator refuses pieces of some size: what
//! allocates them without being ready for that ends the process, and the test fails.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use capnp_threads_core::{ConnConfig, Connection, Vat};
use capnp_threads_endpoint::{ConnectHints, Endpoint, Event, Network, Parameters};
use capnp_threads_transport::{Transport, tcp};
use rpc_schema::echo_capnp::echo;

use rpc_tests::attacks::memory::without_pieces_from;
use rpc_tests::support::objects::Quick;
use rpc_tests::support::{LONG, Watchdog, Wire, alone, until, vat};

/// A vat with one honest client, and others that it has no memory for.
struct Served {
    server: Vat,
    client: Vat,
    object: echo::Client,
    honest: echo::Client,
    connections: Vec<[Connection; 2]>,
}

impl Served {
    fn over(wire: impl Fn() -> (Transport, Transport)) -> Self {
        let [client, server] = [vat("scarcec"), vat("scarces")];
        let object: echo::Client = server.export(Quick);
        let mut served =
            Served { honest: object.clone(), server, client, object, connections: Vec::new() };
        let [here, _] = served.connect(wire());
        served.honest = here.bootstrap();
        served.ask();
        served
    }

    fn connect(&mut self, (here, there): (Transport, Transport)) -> [Connection; 2] {
        let connection =
            [self.client.connect(here, ConnConfig::new()).unwrap(), self.server_side(there)];
        self.connections.push(connection.clone());
        connection
    }

    fn server_side(&self, there: Transport) -> Connection {
        let config = ConnConfig::new().bootstrap(self.object.clone());
        self.server.connect(there, config).unwrap()
    }

    /// A peer that is no vat, and the connection to it.
    fn stranger(&self) -> (TcpStream, Connection) {
        let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (peer, self.server_side(listener.accept().unwrap()))
    }

    /// The honest client is served.
    fn ask(&self) {
        self.honest.ping_request().call().unwrap();
    }

    /// Nothing is left of the connections, and memory is there again.
    fn finish(self, wire: impl Fn() -> (Transport, Transport)) {
        let mut this = self;
        let [here, _] = this.connect(wire());
        let data = vec![7; 1 << 20];
        let mut request = here.bootstrap::<echo::Client>().echo_request();
        request.get().set_data(&data);
        assert_eq!(request.call().unwrap().get().unwrap().get_data().unwrap(), data);
        for connection in this.connections.iter().flatten() {
            connection.close();
            connection.join().unwrap();
            until("the connection holds nothing", || connection.snapshot().is_empty());
        }
    }
}

/// Ends, and says why.
fn ends_for_want_of_memory(connection: &Connection) {
    connection.join().unwrap();
    let error = connection.failure().unwrap();
    assert!(error.to_string().contains("no memory"), "{error}");
}

/// A Call with so many bytes of parameters.
fn long_call(wire: impl Fn() -> (Transport, Transport), bytes: usize, refused_from: usize) {
    let _watchdog = Watchdog::start();
    let mut served = Served::over(&wire);
    let [here, there] = served.connect(wire());
    let echo: echo::Client = here.bootstrap();
    echo.ping_request().call().unwrap();
    let mut request = echo.echo_request();
    request.get().set_data(&vec![7; bytes]);
    let ((), refusals) = without_pieces_from(refused_from, || {
        let pending = request.send();
        ends_for_want_of_memory(&there);
        served.ask();
        assert!(pending.wait().is_err());
    });
    assert!(refusals > 0, "nothing was refused");
    served.finish(wire);
}

#[test]
fn a_long_message_over_a_socket_for_which_there_is_no_memory_ends_its_connection() {
    if alone(
        "scarce::a_long_message_over_a_socket_for_which_there_is_no_memory_ends_its_connection",
    ) {
        long_call(|| Wire::Tcp.pair(), 1 << 20, 100 << 10);
    }
}

#[test]
fn a_long_message_over_tls_for_which_there_is_no_memory_ends_its_connection() {
    if alone("scarce::a_long_message_over_tls_for_which_there_is_no_memory_ends_its_connection") {
        long_call(|| Wire::Tls.pair(), 1 << 20, 100 << 10);
    }
}

/// Sends bytes to a vat that has no memory in pieces of `refused_from` bytes.
fn raw(sent: &[u8], refused_from: usize) {
    let _watchdog = Watchdog::start();
    let wire = || Wire::Tcp.pair();
    let served = Served::over(wire);
    let (mut peer, there) = served.stranger();
    let ((), refusals) = without_pieces_from(refused_from, || {
        // The vat may have closed the socket before it has everything.
        let _sent = peer.write_all(sent);
        ends_for_want_of_memory(&there);
        served.ask();
    });
    assert!(refusals > 0, "nothing was refused");
    served.finish(wire);
}

/// It fits into the largest buffer.
#[test]
fn a_message_of_medium_length_for_which_there_is_no_memory_ends_its_connection() {
    if alone("scarce::a_message_of_medium_length_for_which_there_is_no_memory_ends_its_connection")
    {
        let words = 6 << 10;
        let mut sent = [0_u32, words].map(u32::to_le_bytes).concat();
        sent.resize(sent.len() + 8 * usize::try_from(words).unwrap(), 0);
        raw(&sent, 40 << 10);
    }
}

/// The buffer is large enough before memory becomes scarce, so only the message itself needs some.
#[test]
fn a_message_that_is_buffered_and_for_which_there_is_no_memory_ends_its_connection() {
    if !alone(
        "scarce::a_message_that_is_buffered_and_for_which_there_is_no_memory_ends_its_connection",
    ) {
        return;
    }
    let _watchdog = Watchdog::start();
    let wire = || Wire::Tcp.pair();
    let served = Served::over(wire);
    let (mut peer, there) = served.stranger();
    let words = 6 << 10;
    // A bootstrap request, and behind it words to which nothing points.
    let mut sent = [0_u32, words].map(u32::to_le_bytes).concat();
    for word in [1 << 32 | 1 << 48, 8, 1 << 32 | 1 << 48, 0, 0_u64] {
        sent.extend(word.to_le_bytes());
    }
    sent.resize(8 + 8 * usize::try_from(words).unwrap(), 0);
    peer.write_all(&sent).unwrap();
    // It has been read when its answer comes.
    peer.read_exact(&mut [0; 8]).unwrap();
    let ((), refusals) = without_pieces_from(40 << 10, || {
        let _sent = peer.write_all(&sent);
        ends_for_want_of_memory(&there);
        served.ask();
    });
    assert!(refusals > 0, "nothing was refused");
    served.finish(wire);
}

fn next(endpoint: &Endpoint) -> Event {
    endpoint.receive_timeout(LONG).unwrap().expect("an event")
}

/// The peer is given up with all its connections, and another one is served.
#[test]
fn a_long_message_to_an_endpoint_for_which_there_is_no_memory_ends_its_link() {
    if !alone("scarce::a_long_message_to_an_endpoint_for_which_there_is_no_memory_ends_its_link") {
        return;
    }
    let _watchdog = Watchdog::start();
    let networks = [(); 3].map(|()| Network::bind("127.0.0.1", 0, Parameters::default()).unwrap());
    let [greedy, honest, there] =
        networks.each_ref().map(|network| network.new_endpoint().unwrap());
    let connect = |endpoint: &Endpoint| {
        let connection = endpoint.connect(there.address(), ConnectHints::new()).unwrap();
        connection.send(&[&[1]]).unwrap();
        let Event::ConnectionOpened { .. } = next(&there) else { panic!() };
        let Event::Received { .. } = next(&there) else { panic!() };
        connection
    };
    let (long, short) = (connect(&greedy), connect(&honest));
    let message = vec![7; 1 << 20];
    let ((), refusals) = without_pieces_from(100 << 10, || {
        // What is sent as it is needs no memory in one piece.
        long.send_vec(message).unwrap();
        match next(&there) {
            Event::ConnectionLost { reason, .. } => assert!(reason.contains("memory"), "{reason}"),
            other => panic!("{other:?}"),
        }
        short.send(&[&[2]]).unwrap();
        let Event::Received { .. } = next(&there) else { panic!() };
    });
    assert!(refusals > 0, "nothing was refused");
    // What is sent before the loss is known here goes to the link that is lost.
    let Event::ConnectionLost { .. } = next(&greedy) else { panic!() };
    let again = connect(&greedy);
    again.send_vec(vec![7; 1 << 20]).unwrap();
    let Event::Received { .. } = next(&there) else { panic!() };
}
