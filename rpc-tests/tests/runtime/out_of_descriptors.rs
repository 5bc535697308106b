//! What happens when the process is out of file descriptors. Each test is alone in
//! its process, because it changes what the whole process may do.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use capnp::message::Builder;
use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_core::network::Listen;
use capnp_threads_core::untyped::Payload;
use capnp_threads_core::{Client, ConnConfig, Error, ErrorKind, Result, ServeConfig, Vat};
use capnp_threads_endpoint::{ConnectErrorCode, ConnectHints, Event, Network, Parameters};
use capnp_threads_transport::{Address, Listener, Transport, unix};
use rpc_tests::support::raw::RawPeer;
use rpc_tests::support::{LONG, alone};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Does something while the process may open so many more file descriptors.
pub(crate) fn with_room_for<R>(allowed: u64, work: impl FnOnce() -> R) -> R {
    let before = getrlimit(Resource::Nofile);
    let lowest_free = u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
    let limit = Rlimit { current: Some(lowest_free + allowed), ..before };
    setrlimit(Resource::Nofile, limit).unwrap();
    let result = work();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

fn open_in_this_process() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn accepting_reports_it_and_goes_on_when_it_is_over() {
    if !alone("out_of_descriptors::accepting_reports_it_and_goes_on_when_it_is_over") {
        return;
    }
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap();
    let waiting = [(); 2].map(|()| address.connect().unwrap());

    let failures = with_room_for(0, || [(); 2].map(|()| listener.accept().err().unwrap()));

    for failure in failures {
        let errno = rustix::io::Errno::from_io_error(&failure);
        assert_eq!(errno, Some(rustix::io::Errno::MFILE), "{failure}");
    }
    for _ in &waiting {
        listener.accept().unwrap();
    }
}

/// A listener that tells the test what comes of each attempt to accept.
struct Watched {
    listener: Listener,
    outcomes: mpsc::SyncSender<Option<ErrorKind>>,
}

impl Listen for Watched {
    fn next_peer(&self) -> Result<Option<Transport>> {
        let outcome = self.listener.next_peer();
        if !matches!(outcome, Ok(None)) {
            self.outcomes.send(outcome.as_ref().err().map(Error::kind)).unwrap();
        }
        outcome
    }

    fn closing(&self) -> Box<dyn Fn() + Send + Sync> {
        self.listener.closing()
    }
}

#[test]
fn a_server_goes_on_when_descriptors_are_free_again() {
    if !alone("out_of_descriptors::a_server_goes_on_when_descriptors_are_free_again") {
        return;
    }
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap();
    let waiting = [(); 2].map(|()| address.connect().unwrap());
    let vat = Vat::new();
    // Without room for an outcome that nobody has taken.
    let (outcomes, outcome) = mpsc::sync_channel(0);
    let watched = Watched { listener, outcomes };

    let serving = with_room_for(0, || {
        let own = vat.clone();
        let nothing = Client::broken(Error::failed("nothing is offered"));
        let serving = thread::spawn(move || own.serve(&watched, ServeConfig::bootstrap(nothing)));
        for _ in 0..3 {
            assert_eq!(outcome.recv().unwrap(), Some(ErrorKind::Overloaded));
        }
        serving
    });

    // One more attempt may have failed before.
    let mut accepted = 0;
    while accepted < waiting.len() {
        accepted += usize::from(outcome.recv().unwrap().is_none());
    }
    assert!(vat.shutdown(LONG).unwrap());
    serving.join().unwrap().unwrap();
}

/// A thread that waited without a descriptor to be woken by gets one when it waits again.
#[test]
#[cfg(target_os = "linux")]
fn a_thread_reads_for_itself_when_descriptors_are_free_again() {
    if !alone("out_of_descriptors::a_thread_reads_for_itself_when_descriptors_are_free_again") {
        return;
    }
    let vat = Vat::new();
    let (_peer, connection) = RawPeer::connect(&vat, ConnConfig::new());
    let client = connection.bootstrap_client().with_timeout(Duration::from_millis(1));
    let wait = || {
        let call = client.call(1, 1, Payload::empty().clone());
        assert!(call.wait().map(drop).unwrap_err().is_timeout());
    };
    let open = open_in_this_process();
    with_room_for(0, wait);
    assert_eq!(open_in_this_process(), open);
    wait();
    assert_eq!(open_in_this_process(), open + 1);
    wait();
    assert_eq!(open_in_this_process(), open + 1);
}

#[test]
fn messages_arrive_with_what_the_process_may_open() {
    if !alone("out_of_descriptors::messages_arrive_with_what_the_process_may_open") {
        return;
    }
    let (mut left, mut right) = unix::pair().unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let fd: SharedFd = Arc::new(writer.into());
    let message = || {
        let mut message = Message::from(Builder::new_default());
        message.set_fds(vec![Arc::clone(&fd), Arc::clone(&fd)]);
        message
    };
    let open = open_in_this_process();
    left.writer.write(&mut vec![message(), message(), message()]).unwrap();
    assert_eq!(open_in_this_process(), open);

    let cramped = [0, 1].map(|allowed| with_room_for(allowed, || right.reader.read()));
    let mut arrived = Vec::from(cramped);
    arrived.push(right.reader.read());
    let arrived: Vec<_> = arrived.into_iter().map(|message| message.unwrap().unwrap()).collect();
    let counts: Vec<_> = arrived.iter().map(|message| message.fds().len()).collect();
    assert_eq!(counts, [0, 1, 2]);
    assert_eq!(open_in_this_process(), open + 3);

    drop(arrived);
    assert_eq!(open_in_this_process(), open);
    drop(fd);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "somebody still has the pipe");
}

#[test]
fn a_network_of_endpoints_survives_it_and_connects_report_it() {
    if !alone("out_of_descriptors::a_network_of_endpoints_survives_it_and_connects_report_it") {
        return;
    }
    let network = Network::bind("127.0.0.1", 0, Parameters::default()).unwrap();
    let here = network.new_endpoint().unwrap();
    let address: SocketAddr = ([127, 0, 0, 1], network.port().unwrap()).into();
    let mut dialler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();

    let errors = with_room_for(0, || {
        // The system completes it, but it cannot be accepted.
        dialler.connect(&address.into()).unwrap();
        let nowhere = "127.0.0.1:1:0".into();
        [(); 2].map(|()| here.connect(&nowhere, ConnectHints::new()).unwrap_err())
    });

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
