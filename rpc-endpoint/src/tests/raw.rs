//! A peer that does what the test says, byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::*;

pub(super) struct Raw(TcpStream);

/// Where raw peers are dialled.
pub(super) struct RawListener(TcpListener);

impl RawListener {
    pub(super) fn new() -> Self {
        RawListener(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(super) fn address(&self) -> EndpointAddress {
        EndpointAddress::new("127.0.0.1", self.0.local_addr().unwrap().port(), 0)
    }

    /// Accepts a dial if there is one.
    pub(super) fn accept_now(&self) -> Option<Raw> {
        self.0.set_nonblocking(true).unwrap();
        let stream = self.0.accept().ok()?.0;
        stream.set_nonblocking(false).unwrap();
        Some(Raw::new(stream))
    }

    #[track_caller]
    pub(super) fn accept(&self) -> Raw {
        let start = Instant::now();
        loop {
            if let Some(raw) = self.accept_now() {
                return raw;
            }
            assert!(start.elapsed() < AMPLE, "nobody dials");
            std::thread::yield_now();
        }
    }
}

impl Raw {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(AMPLE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw(stream)
    }

    pub(super) fn dial(address: &EndpointAddress) -> Self {
        let parts = address.parts().unwrap();
        Raw::new(TcpStream::connect((parts.host, parts.port)).unwrap())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(super) fn words(&mut self, words: &[u32]) {
        self.send(&bytes(words));
    }

    /// The other side may have given the socket up.
    pub(super) fn words_to_whom_it_may_concern(&mut self, words: &[u32]) {
        let _ = self.0.write_all(&bytes(words));
    }

    #[track_caller]
    pub(super) fn expect(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        self.0.read_exact(&mut received).unwrap();
        assert_eq!(received, expected);
    }

    #[track_caller]
    pub(super) fn expect_words(&mut self, words: &[u32]) {
        self.expect(&bytes(words));
    }

    /// Nothing more comes.
    #[track_caller]
    pub(super) fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }

    /// The other side gives the socket up, in whatever way.
    #[track_caller]
    pub(super) fn expect_cut(&mut self) {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it still waits");
        }
    }

    pub(super) fn read_word(&mut self) -> u32 {
        let mut word = [0; 4];
        self.0.read_exact(&mut word).unwrap();
        u32::from_be_bytes(word)
    }

    pub(super) fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(super) fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Introduces itself in a dialect without terms, and is accepted.
    pub(super) fn introduce(
        &mut self,
        dialect: Dialect,
        from: &EndpointAddress,
        to: &EndpointAddress,
    ) {
        self.send(&hello(dialect, from, to));
        self.expect_words(&[0]);
    }

    /// Expects an introduction in a dialect without terms.
    #[track_caller]
    pub(super) fn expect_hello(
        &mut self,
        dialect: Dialect,
        from: &EndpointAddress,
        to: &EndpointAddress,
    ) {
        self.expect(&hello(dialect, from, to));
    }
}

pub(super) fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The bytes of a dial.
pub(super) fn hello(dialect: Dialect, from: &EndpointAddress, to: &EndpointAddress) -> Vec<u8> {
    let from = from.as_str().as_bytes();
    let (endpoint, length) = (to.parts().unwrap().endpoint, u32::try_from(from.len()).unwrap());
    let mut hello = match dialect {
        Dialect::Original => Vec::new(),
        Dialect::Versioned => bytes(&[0, 8 + length]),
        Dialect::Multiplexed => panic!("it has terms"),
    };
    hello.extend(bytes(&[endpoint, length]));
    hello.extend(from);
    hello
}

/// Where nobody is, and an address that is greater, or smaller, than any of
/// `127.0.0.1`.
pub(super) fn greater() -> EndpointAddress {
    EndpointAddress::new("2", 1, 0)
}

pub(super) fn smaller() -> EndpointAddress {
    EndpointAddress::new("0", 1, 0)
}
