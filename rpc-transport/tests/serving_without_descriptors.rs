//! What a server does when the process is out of file descriptors. It is alone in its
//! process, because it changes what the whole process may do.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;

use capnp_threads_core::{Client, Error, ErrorKind, Listen, Result, ServeConfig, Vat};
use capnp_threads_transport::{Address, Listener, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tells the test what comes of each attempt to accept.
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
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap();
    let waiting = [(); 2].map(|()| address.connect().unwrap());

    let before = getrlimit(Resource::Nofile);
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd();
    let none_left = Rlimit { current: Some(u64::try_from(lowest_free).unwrap()), ..before };
    setrlimit(Resource::Nofile, none_left).unwrap();
    let vat = Vat::new();
    // Without room for an outcome that nobody has taken.
    let (outcomes, outcome) = mpsc::sync_channel(0);
    let serving = {
        let (vat, listener) = (vat.clone(), Watched { listener, outcomes });
        let nothing = Client::broken(Error::failed("nothing is offered"));
        thread::spawn(move || vat.serve(&listener, ServeConfig::bootstrap(nothing)))
    };
    for _ in 0..3 {
        assert_eq!(outcome.recv().unwrap(), Some(ErrorKind::Overloaded));
    }
    setrlimit(Resource::Nofile, before).unwrap();
    // One more attempt may have failed before.
    let mut accepted = 0;
    while accepted < waiting.len() {
        accepted += usize::from(outcome.recv().unwrap().is_none());
    }
    vat.shutdown(std::time::Duration::MAX).unwrap();
    serving.join().unwrap().unwrap();
}
