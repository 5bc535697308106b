//! What is true of endpoints whatever bytes a fuzzer thinks of. Each function panics where it
//! is not: the targets in `fuzz/` look for such bytes, and the tests here give the functions
//! what is kept in `fuzz/corpus`. A third target gives a network bytes over a socket; it is
//! in `rpc-tests`.
#![allow(clippy::unwrap_used)]

use std::io::Read;

use crate::parameters::Dialect;
use crate::vats::hello;
use crate::wire::{
    Header, Introduction, Reply, WireLimits, encode_hello, encode_reply, read_header,
    read_introduction, read_payload, read_reply,
};

const DIALECTS: [Dialect; 3] = [Dialect::Original, Dialect::Versioned, Dialect::Multiplexed];

/// The first byte says in which dialect and as what the others are read: an introduction, a
/// reply, what follows these, or the half of a session of vats. What is understood means the
/// same when it is written.
pub fn endpoint_bytes(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let dialect = DIALECTS[usize::from(kind / 4) % 3];
    match kind % 4 {
        0 => introduction(bytes, dialect),
        1 => reply(bytes, dialect),
        2 => frames(bytes, dialect),
        _ => half(bytes),
    }
}

/// The bytes choose what endpoints do that speak all dialects, and what comes of it: nothing
/// arrives twice, or in another order, or is lost without being told, and in the end nobody
/// waits.
pub fn endpoint_peers(bytes: &[u8]) {
    crate::machine::tests::model::chosen(bytes);
}

fn introduction(bytes: &[u8], newest: Dialect) {
    let limits = WireLimits { max_address: 100, newest };
    let mut rest = bytes;
    let Ok(Introduction::Hello(hello)) = read_introduction(&mut rest, limits) else { return };
    assert!(hello.kind.dialect() <= newest);
    let again = read_introduction(&mut &encode_hello(&hello)[..], limits).unwrap();
    assert_eq!(again, Introduction::Hello(hello));
}

fn reply(bytes: &[u8], dialect: Dialect) {
    let limits = WireLimits { max_address: 100, newest: Dialect::Multiplexed };
    let Ok(reply) = read_reply(&mut &*bytes, dialect, limits) else { return };
    let has_terms = matches!(reply, Reply::Accepted(Some(_)));
    assert!(!has_terms || dialect == Dialect::Multiplexed);
    let again = read_reply(&mut &encode_reply(&reply)[..], dialect, limits).unwrap();
    assert_eq!(again, reply);
}

fn frames(bytes: &[u8], dialect: Dialect) {
    let mut input = bytes;
    loop {
        let before = input.len();
        let Ok(Some(header)) = read_header(&mut input, dialect) else { return };
        let mut written = Vec::new();
        header.encode(dialect, &mut written);
        let place = bytes.len() - before;
        assert_eq!(written, bytes[place..][..written.len()], "{header:?}");
        if let Header::Data { length, .. } = header {
            let mut payload = Vec::new();
            let outcome = read_payload(&mut input.by_ref(), length, &mut payload);
            // Memory is only set aside for what has arrived, but for a first piece.
            assert!(payload.capacity() <= (64 << 10) + 2 * before, "{}", payload.capacity());
            assert_eq!(outcome.is_ok(), payload.len() == length as usize);
            if outcome.is_err() {
                return;
            }
        }
    }
}

fn half(bytes: &[u8]) {
    let Ok(half) = hello::decode(bytes) else { return };
    assert_eq!(hello::decode(&hello::encode(&half)).unwrap(), half);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Gives a function everything that is kept for it.
    fn replay(target: &str, function: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| function(&bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 5, "only {count} files are kept for {target}");
    }

    #[test]
    fn bytes_in_each_dialect() {
        replay("endpoint_bytes", endpoint_bytes);
    }

    #[test]
    fn peers_of_each_dialect() {
        replay("endpoint_peers", endpoint_peers);
    }
}
