//! What a network of endpoints does when the process is out of file descriptors.
//! It is alone in its process, because it changes what the whole process may do.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use capnp_threads_endpoint::{ConnectErrorCode, ConnectHints, Event, Network, Parameters};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

#[test]
fn the_network_survives_it_and_connects_report_it() {
    let network = Network::bind("127.0.0.1", 0, Parameters::default()).unwrap();
    let here = network.new_endpoint().unwrap();
    let address: SocketAddr = ([127, 0, 0, 1], network.port().unwrap()).into();
    let mut dialler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();

    let before = getrlimit(Resource::Nofile);
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd();
    let none_left = Rlimit { current: Some(u64::try_from(lowest_free).unwrap()), ..before };
    setrlimit(Resource::Nofile, none_left).unwrap();
    // The system completes it, but it cannot be accepted.
    dialler.connect(&address.into()).unwrap();
    let nowhere = "127.0.0.1:1:0".into();
    let errors = [(); 2].map(|()| here.connect(&nowhere, ConnectHints::new()).unwrap_err());
    setrlimit(Resource::Nofile, before).unwrap();

    for error in errors {
        assert_eq!(error.code, ConnectErrorCode::InsufficientResources, "{error}");
    }
    // A dial of version 0, and a connection.
    dialler.write_all(b"\0\0\0\0\0\0\0\x0d\0\0\0\0\0\0\0\x05a:1:0").unwrap();
    let mut reply = [1; 4];
    dialler.read_exact(&mut reply).unwrap();
    assert_eq!(reply, [0; 4]);
    dialler.write_all(b"\0\0\0\0\0\0\x04\0").unwrap();
    assert!(matches!(here.receive().unwrap(), Event::ConnectionOpened { .. }));
}
