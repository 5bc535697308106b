#![allow(clippy::unwrap_used)]

use super::*;
use crate::address::EndpointAddress;
use crate::parameters::Dialect;

const LIMITS: WireLimits = WireLimits { max_address: 100, newest: Dialect::Multiplexed };

const TERMS: Terms = Terms {
    stamp: Stamp { incarnation: 0x0102_0304_0506_0708, serial: 9 },
    window: 0x10_0000,
    max_message: 0x400_0000,
};

fn hello(endpoint: u32, from: &str, kind: DialectTerms) -> Hello {
    let from = (!from.is_empty()).then(|| EndpointAddress::from(from));
    Hello { endpoint, from, kind }
}

#[test]
fn introductions_have_these_bytes() {
    let cases: [(Hello, &[u8]); 4] = [
        (hello(5, "a:1:0", DialectTerms::Original), b"\0\0\0\x05\0\0\0\x05a:1:0"),
        (
            hello(5, "a:1:0", DialectTerms::Versioned),
            b"\0\0\0\0\0\0\0\x0d\0\0\0\x05\0\0\0\x05a:1:0",
        ),
        (hello(7, "", DialectTerms::Versioned), b"\0\0\0\0\0\0\0\x08\0\0\0\x07\0\0\0\0"),
        (
            hello(5, "a:1:0", DialectTerms::Multiplexed(TERMS)),
            b"\x4d\x55\0\x01\0\0\0\x25\0\0\0\x05\0\0\0\x05a:1:0\
              \x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\0\x10\0\0\x04\0\0\0",
        ),
    ];
    for (hello, bytes) in cases {
        assert_eq!(encode_hello(&hello), bytes, "{hello:?}");
        let mut input = bytes;
        assert_eq!(read_introduction(&mut input, LIMITS).unwrap(), Introduction::Hello(hello));
        assert!(input.is_empty());
        for cut in 0..bytes.len() {
            let outcome = read_introduction(&mut &bytes[..cut], LIMITS);
            assert!(matches!(outcome, Err(WireError::Truncated)), "{outcome:?}");
        }
    }
}

#[test]
fn dialects_are_told_apart() {
    // Endpoint 0 in the original dialect begins like version 0.
    for address in ["h:1:2", "host:10:0", "127.0.0.1:7113:0", &"h".repeat(100)] {
        for endpoint in [0, 1, 5, 1024, u32::MAX] {
            let hello = hello(endpoint, address, DialectTerms::Original);
            let read = read_introduction(&mut &encode_hello(&hello)[..], LIMITS).unwrap();
            assert_eq!(read, Introduction::Hello(hello));
        }
    }
}

#[test]
fn unknown_versions_are_skipped() {
    let v0 = encode_hello(&hello(3, "a:1:0", DialectTerms::Versioned));
    let mut v7 = v0.clone();
    v7[3] = 7;
    let ours = encode_hello(&hello(3, "a:1:0", DialectTerms::Multiplexed(TERMS)));
    let mut ours_later = ours.clone();
    ours_later[3] = 2;
    let old = WireLimits { newest: Dialect::Versioned, ..LIMITS };
    for (first, limits, version) in
        [(&v7, LIMITS, 0), (&v7, old, 0), (&ours, old, 0), (&ours_later, LIMITS, 0x4d55_0001)]
    {
        let bytes = [&first[..], &v0[..]].concat();
        let mut input = &bytes[..];
        let read = read_introduction(&mut input, limits).unwrap();
        assert_eq!(read, Introduction::Unsupported(version));
        let read = read_introduction(&mut input, limits).unwrap();
        assert_eq!(read, Introduction::Hello(hello(3, "a:1:0", DialectTerms::Versioned)));
    }
}

#[test]
fn what_is_added_to_our_handshake_is_ignored() {
    let mut bytes = encode_hello(&hello(5, "a:1:0", DialectTerms::Multiplexed(TERMS)));
    bytes[7] += 4;
    bytes.extend(b"moreX");
    let mut input = &bytes[..];
    let read = read_introduction(&mut input, LIMITS).unwrap();
    assert_eq!(read, Introduction::Hello(hello(5, "a:1:0", DialectTerms::Multiplexed(TERMS))));
    assert_eq!(input, b"X");
}

#[test]
fn what_is_too_long_is_refused_at_once() {
    for bytes in [
        &b"\0\0\0\0\0\0\0\x65aaaaaaaa"[..],
        b"\0\0\0\0\xff\xff\xff\xffaaaaaaaa",
        b"\0\0\0\0\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xf7",
        b"\x4d\x55\0\x01\xff\xff\xff\xff",
        b"\x4d\x55\0\x01\0\0\x01\0\0\0\0\0\0\0\0\x65",
    ] {
        let outcome = read_introduction(&mut &bytes[..], LIMITS);
        assert!(matches!(outcome, Err(WireError::Violation(_))), "{outcome:?}");
    }
}

#[test]
fn addresses_must_be_text() {
    let outcome = read_introduction(&mut &b"\0\0\0\0\0\0\0\x02\xff\xff"[..], LIMITS);
    assert!(matches!(outcome, Err(WireError::Violation(_))), "{outcome:?}");
}

#[test]
fn replies_have_these_bytes() {
    let mismatch = Reply::HostMismatch {
        claimed: "some".into(),
        numeric: "1.2.3.4".into(),
        resolved: String::new(),
    };
    let cases: [(Reply, Dialect, &[u8]); 7] = [
        (Reply::Accepted(None), Dialect::Original, b"\0\0\0\0"),
        (Reply::Accepted(None), Dialect::Versioned, b"\0\0\0\0"),
        (
            Reply::Accepted(Some(TERMS)),
            Dialect::Multiplexed,
            b"\0\0\0\0\0\0\0\x18\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\
              \0\x10\0\0\x04\0\0\0",
        ),
        (Reply::Invalid, Dialect::Original, b"\0\0\0\x01"),
        (Reply::Crossed, Dialect::Multiplexed, b"\0\0\0\x02"),
        (mismatch, Dialect::Versioned, b"\0\0\0\x03\0\0\0\x04some\0\0\0\x071.2.3.4\0\0\0\0"),
        (Reply::UnsupportedVersion(0), Dialect::Multiplexed, b"\xff\xff\xff\xff\0\0\0\0"),
    ];
    for (reply, dialect, bytes) in cases {
        assert_eq!(encode_reply(&reply), bytes);
        let mut input = bytes;
        assert_eq!(read_reply(&mut input, dialect, LIMITS).unwrap(), reply);
        assert!(input.is_empty());
        for cut in 0..bytes.len() {
            let outcome = read_reply(&mut &bytes[..cut], dialect, LIMITS);
            assert!(matches!(outcome, Err(WireError::Truncated)), "{outcome:?}");
        }
    }
    for (bytes, dialect) in [
        (&b"\0\0\0\x03"[..], Dialect::Original),
        (b"\xff\xff\xff\xff\0\0\0\0", Dialect::Original),
        (b"\0\0\0\x04", Dialect::Multiplexed),
        (b"\0\0\0\0\xff\xff\xff\xff", Dialect::Multiplexed),
        (b"\0\0\0\x03\xff\xff\xff\xff", Dialect::Versioned),
    ] {
        let outcome = read_reply(&mut &bytes[..], dialect, LIMITS);
        assert!(matches!(outcome, Err(WireError::Violation(_))), "{outcome:?}");
    }
}

#[test]
fn frames_have_these_bytes() {
    use Dialect::{Multiplexed, Original, Versioned};
    let cases: [(Header, Dialect, &[u8]); 13] = [
        (Header::Control(Control::Created { lcid: 1024 }), Original, b"\0\0\0\0\0\0\x04\0"),
        (Header::Control(Control::Close { lcid: 1025 }), Original, b"\0\0\0\x01\0\0\x04\x01"),
        (Header::Control(Control::CloseSocket { last_in: 0 }), Original, b"\0\0\0\x02\0\0\0\0"),
        (Header::Control(Control::CloseEndpoint), Versioned, b"\0\0\0\x03"),
        (Header::Control(Control::Probe), Versioned, b"\0\0\0\x04"),
        (Header::Control(Control::ProbeAck), Versioned, b"\0\0\0\x05"),
        (Header::Control(Control::Probe), Original, b"\0\0\0\x03"),
        (Header::Control(Control::ProbeAck), Original, b"\0\0\0\x04"),
        (
            Header::Control(Control::Credit { lcid: 1024, units: 0x10000 }),
            Multiplexed,
            b"\0\0\0\x06\0\0\x04\0\0\x01\0\0",
        ),
        (Header::Data { lcid: 1024, length: 3, more: false }, Original, b"\0\0\x04\0\0\0\0\x03"),
        (
            Header::Data { lcid: 1024, length: 0x8000_0000, more: false },
            Versioned,
            b"\0\0\x04\0\x80\0\0\0",
        ),
        (
            Header::Data { lcid: u32::MAX, length: 0x10000, more: true },
            Multiplexed,
            b"\xff\xff\xff\xff\x80\x01\0\0",
        ),
        (Header::Data { lcid: 1024, length: 0, more: false }, Multiplexed, b"\0\0\x04\0\0\0\0\0"),
    ];
    for (header, dialect, bytes) in cases {
        let mut encoded = Vec::new();
        header.encode(dialect, &mut encoded);
        assert_eq!(encoded, bytes, "{header:?}");
        assert_eq!(read_header(&mut &bytes[..], dialect).unwrap(), Some(header));
        for cut in 1..bytes.len() {
            let outcome = read_header(&mut &bytes[..cut], dialect);
            assert!(matches!(outcome, Err(WireError::Truncated)), "{outcome:?}");
        }
        assert_eq!(read_header(&mut &b""[..], dialect).unwrap(), None);
    }
    for (bytes, dialect) in [
        (&b"\0\0\0\x05"[..], Original),
        (b"\0\0\0\x06\0\0\x04\0\0\0\0\x01", Versioned),
        (b"\0\0\0\x07", Multiplexed),
        (b"\0\0\x03\xff", Multiplexed),
        (b"\0\0\x04\0\0\x01\0\x01", Multiplexed),
    ] {
        let outcome = read_header(&mut &bytes[..], dialect);
        assert!(matches!(outcome, Err(WireError::Violation(_))), "{outcome:?}");
    }
}

#[test]
fn a_length_that_was_announced_is_not_set_aside() {
    let mut buffer = b"ab".to_vec();
    read_payload(&mut &b"cdef"[..], 3, &mut buffer).unwrap();
    assert_eq!(buffer, b"abcde");
    let mut buffer = Vec::new();
    let outcome = read_payload(&mut &b"cdef"[..], u32::MAX, &mut buffer);
    assert!(matches!(outcome, Err(WireError::Truncated)), "{outcome:?}");
    assert!(buffer.capacity() < 1 << 20);
}
