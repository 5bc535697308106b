//! What a listener does when the process is out of file descriptors. It is alone
//! in its process, because it changes what the whole process may do.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::AsRawFd;

use capnp_threads_transport::Address;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn accepting_reports_it_and_goes_on_when_it_is_over() {
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap();
    let waiting = [(); 2].map(|()| address.connect().unwrap());

    let before = getrlimit(Resource::Nofile);
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd();
    let none_left = Rlimit { current: Some(u64::try_from(lowest_free).unwrap()), ..before };
    setrlimit(Resource::Nofile, none_left).unwrap();
    let failures = [(); 2].map(|()| listener.accept().err().unwrap());
    setrlimit(Resource::Nofile, before).unwrap();

    for failure in failures {
        let errno = rustix::io::Errno::from_io_error(&failure);
        assert_eq!(errno, Some(rustix::io::Errno::MFILE), "{failure}");
    }
    for _ in &waiting {
        listener.accept().unwrap();
    }
}
