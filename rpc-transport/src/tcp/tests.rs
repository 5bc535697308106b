#![allow(clippy::unwrap_used)]

use std::io::Write;

use super::*;
use crate::testing;
use rpc_testing::Blocked;

fn pair_at(address: &str) -> (Transport, Transport) {
    let listener = Listener::bind(address).unwrap();
    let client = connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap())
}

fn pair() -> (Transport, Transport) {
    pair_at("127.0.0.1:0")
}

#[test]
fn messages_pass_both_ways() {
    let (client, server) = pair();
    testing::check_connected(client, server);
    let (client, server) = pair_at("[::1]:0");
    testing::check_connected(server, client);
}

#[test]
fn shutdown_wakes_whoever_waits() {
    let (client, server) = pair();
    testing::check_shutdown_wakes_the_reader(client, server);
    let (client, server) = pair();
    testing::check_shutdown_wakes_the_writer(server, client);
}

#[test]
fn a_lost_peer_is_noticed() {
    let (client, server) = pair();
    testing::check_a_lost_peer_is_noticed(client, server);
}

#[test]
fn each_side_knows_the_address_of_the_other() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let own = stream.local_addr().unwrap();
    let client = from_stream(stream).unwrap();
    assert_eq!(client.control.peer().address, address.to_string());
    assert_eq!(listener.accept().unwrap().control.peer().address, own.to_string());
}

#[test]
fn a_stream_with_a_time_limit_becomes_one_without() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    stream.set_nonblocking(true).unwrap();
    let client = from_stream(stream).unwrap();
    let server = from_stream(listener.accept().unwrap().0).unwrap();
    testing::check_shutdown_wakes_the_reader(client, server);
}

#[test]
fn options_are_set_on_both_sides() {
    let options = TcpOptions::new()
        .keepalive(Duration::from_secs(77), Duration::from_secs(7), 3)
        .send_buffer(300_000)
        .receive_buffer(200_000)
        .backlog(5);
    let listener = options.listen("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = options.connect_timeout(address, Duration::from_secs(60)).unwrap();
    let server = listener.accept().unwrap();
    testing::check_connected(client, server);

    let socket = options.socket(address).unwrap();
    socket.connect(&address.into()).unwrap();
    let check = |socket: &Socket| {
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        // Systems may give more than was asked for.
        assert!(socket.send_buffer_size().unwrap() >= 200_000);
        assert!(socket.recv_buffer_size().unwrap() >= 200_000);
    };
    options.set_options(&socket).unwrap();
    check(&socket);
    let (accepted, _) =
        listener.gate.accept(listener.inner.as_fd(), || listener.inner.accept()).unwrap();
    let accepted = Socket::from(OwnedFd::from(accepted));
    options.set_options(&accepted).unwrap();
    check(&accepted);
}

#[cfg(target_os = "linux")]
#[test]
fn the_user_timeout_is_set() {
    let options = TcpOptions::new().user_timeout(Duration::from_millis(12_345));
    let socket = options.socket("127.0.0.1:1".parse().unwrap()).unwrap();
    options.set_options(&socket).unwrap();
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(12_345)));
}

/// A port that is taken, so that nobody else gets it, but not listened at.
fn dead_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn a_port_without_a_server_refuses() {
    let (_socket, address) = dead_port();
    for outcome in [connect(address), connect_timeout(address, Duration::from_secs(60))] {
        let error = outcome.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let expected = format!("cannot connect to {address}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let error = TcpOptions::new().connect_stream(address, Duration::from_secs(60)).err().unwrap();
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
    assert_eq!(connect(&[][..]).err().unwrap().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let listener = TcpOptions::new().listen_everywhere(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (outcome, address) in [
        (Listener::bind(("127.0.0.1", port)), format!("127.0.0.1:{port}")),
        (TcpOptions::new().listen_everywhere(port), format!("*:{port}")),
    ] {
        let error = outcome.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let expected = format!("cannot listen at {address}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn a_client_is_never_connected_to_itself() {
    // The system may choose the very port that is dialled; here it has no other choice.
    let (socket, address) = dead_port();
    let error = connected(socket, address, Duration::from_secs(60)).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains("to itself"), "{error}");
    // A stream that somebody else has connected like this.
    let (socket, address) = dead_port();
    socket.connect(&address.into()).unwrap();
    let error = from_stream(OwnedFd::from(socket).into()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn every_time_limit_is_accepted() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    for limit in [Duration::ZERO, Duration::from_nanos(1)] {
        // Whether it suffices is up to the system, but it is not endless.
        if let Err(error) = connect_timeout(listener.local_addr().unwrap(), limit) {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let limits = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    for (idle, interval, probes) in [(0, 1, 0), (1, 2, 1), (2, 0, u32::MAX)] {
        let options = TcpOptions::new().keepalive(limits[idle], limits[interval], probes);
        #[cfg(target_os = "linux")]
        let options = options.user_timeout(limits[idle]);
        let client = options.connect_timeout(address, Duration::MAX).unwrap();
        testing::check_connected(client, listener.accept().unwrap());
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    let (_socket, dead) = dead_port();
    let listener = Listener::bind(&[dead, "127.0.0.1:0".parse().unwrap()][..]).unwrap();
    let addresses = [dead, listener.local_addr().unwrap()];
    let client = connect_timeout(&addresses[..], Duration::from_secs(60)).unwrap();
    testing::check_connected(client, listener.accept().unwrap());
}

#[test]
fn listening_everywhere_is_reached_by_both_kinds_of_addresses() {
    let listener = TcpOptions::new().listen_everywhere(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "::1"] {
        let client = connect((host, port)).unwrap();
        testing::check_connected(client, listener.accept().unwrap());
    }
    let failure = TcpOptions::new().listen_everywhere(port).err().unwrap();
    assert_eq!(failure.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn closing_wakes_every_thread_that_accepts() {
    let listener = std::sync::Arc::new(Listener::bind("127.0.0.1:0").unwrap());
    let accepting = [(); 3].map(|()| {
        let listener = std::sync::Arc::clone(&listener);
        Blocked::spawn(move || listener.accept().err().unwrap().kind())
    });
    let closer = listener.closer();
    assert!(!closer.is_closed());
    closer.close();
    closer.clone().close();
    assert!(closer.is_closed());
    for thread in accepting {
        assert_eq!(thread.join(), io::ErrorKind::NotConnected);
    }
    assert_eq!(listener.accept().err().unwrap().kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_listener_goes_on_after_a_client_that_gave_up() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hasty = TcpStream::connect(address).unwrap();
    // Closing resets the connection instead of ending it in order.
    socket2::SockRef::from(&hasty).set_linger(Some(Duration::ZERO)).unwrap();
    drop(hasty);
    let client = connect(address).unwrap();
    let own = listener.accept();
    // Systems differ in whether such a connection is reported, returned or
    // left out.
    let server = match own {
        Ok(mut first) => match first.reader.read() {
            Err(_) | Ok(None) => listener.accept().unwrap(),
            Ok(Some(_)) => panic!("nobody sent anything"),
        },
        Err(_) => listener.accept().unwrap(),
    };
    testing::check_connected(client, server);
}

#[test]
fn an_inherited_listener_accepts() {
    let inner = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(inner.local_addr().unwrap()).unwrap();
    let listener = Listener::from_std(inner, TcpOptions::new()).unwrap();
    let mut server = listener.accept().unwrap();
    client.write_all(&[0; 8]).unwrap();
    assert!(server.reader.read().unwrap().is_some());
}
