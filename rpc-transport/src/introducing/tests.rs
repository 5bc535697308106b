#![allow(clippy::unwrap_used)]

use capnp_threads_core::network::Introduction;
use capnp_threads_core::transport::VatId;

use super::*;

fn vat(number: u8) -> VatId {
    VatId::from_public_key([number; 32])
}

const ALICE: u8 = 1;
const BOB: u8 = 2;
const CAROL: u8 = 3;

fn keyed(expiry: Expiry) -> Introduction {
    keyed::made(vat(ALICE), vat(CAROL), vat(BOB), expiry, "a:1\0b:2").unwrap()
}

fn later() -> Expiry {
    Expiry::after(Duration::from_secs(1000))
}

fn changed(token: &Token, change: impl FnOnce(&mut Vec<u8>)) -> Token {
    let mut bytes = token.bytes().unwrap();
    change(&mut bytes);
    Token::of_bytes(&bytes).unwrap()
}

#[test]
fn keyed_tokens_lead_to_one_key_for_those_whom_they_name() {
    let Introduction { contact, awaited } = keyed(later());
    let found = keyed::directions(vat(CAROL), vat(ALICE), &contact).unwrap();
    assert_eq!((found.host, found.hints), (vat(BOB), vec!["a:1".to_owned(), "b:2".to_owned()]));
    let completion = found.completion;
    let provided = keyed::provided(vat(ALICE), &awaited).unwrap();
    let shown = keyed::shown(vat(CAROL), &completion).unwrap();
    assert_eq!(shown, (vat(ALICE), provided.clone()));

    // Somebody else who shows it, or provides it, is another matter; so is another
    // introduction.
    assert_ne!(keyed::shown(vat(ALICE), &completion).unwrap().1, provided);
    assert_ne!(keyed::provided(vat(CAROL), &awaited).unwrap(), provided);
    let again = keyed(later());
    assert_ne!(keyed::provided(vat(ALICE), &again.awaited).unwrap(), provided);
    // And nobody passes the contact of one vat off as that of another, or sends a vat to
    // itself, or to the one that sends it.
    assert!(keyed::directions(vat(CAROL), vat(BOB), &contact).is_err());
    assert!(keyed::directions(vat(BOB), vat(ALICE), &contact).is_err());
    let itself = keyed::made(vat(ALICE), vat(CAROL), vat(ALICE), later(), "a:1").unwrap();
    assert!(keyed::directions(vat(CAROL), vat(ALICE), &itself.contact).is_err());
}

#[test]
fn who_is_nowhere_is_not_introduced() {
    assert_eq!(keyed::introduce(vat(ALICE), vat(CAROL), vat(BOB), []), None);
    assert_eq!(bearer::introduce([]), None);
    let many = (0..4000).map(|number| number.to_string());
    let Introduction { contact, .. } =
        keyed::introduce(vat(ALICE), vat(CAROL), vat(BOB), many).unwrap();
    let found = keyed::directions(vat(CAROL), vat(ALICE), &contact).unwrap();
    assert!((300..4000).contains(&found.hints.len()), "{}", found.hints.len());
    assert_eq!(found.hints[299], "299");
}

#[test]
fn a_secret_leads_to_one_key() {
    let Introduction { contact, awaited } = bearer::introduce(["somewhere".to_owned()]).unwrap();
    let found = bearer::directions("alice", &contact).unwrap();
    assert_eq!(found.places, ["somewhere"]);
    let provided = bearer::provided("alice", &awaited).unwrap();
    let shown = bearer::shown(&found.completion).unwrap();
    assert_eq!(shown, ("alice".to_owned(), provided.clone()));

    // Of another introducer, or another introduction.
    assert_ne!(bearer::provided("bob", &awaited).unwrap(), provided);
    let again = bearer::introduce(["somewhere".to_owned()]).unwrap();
    assert_ne!(bearer::provided("alice", &again.awaited).unwrap(), provided);
    // What the host is told does not hold the secret, and nobody can come with it.
    let (told, secret) = (awaited.bytes().unwrap(), &contact.bytes().unwrap()[2..18]);
    assert!(!told.windows(16).any(|part| part == secret));
    assert!(!provided.windows(16).any(|part| part == secret));
    let forged = changed(&found.completion, |bytes| bytes[2..18].copy_from_slice(&told[2..18]));
    assert_ne!(bearer::shown(&forged).unwrap().1, provided);
}

#[test]
fn the_secret_is_not_printed() {
    let Introduction { contact, .. } = bearer::introduce(["somewhere".to_owned()]).unwrap();
    let found = bearer::directions("alice", &contact).unwrap();
    let secret = &contact.bytes().unwrap()[2..18];
    let printed = format!("{contact:?} {found:?}");
    let hex = format!("{:032x}", u128::from_be_bytes(secret.try_into().unwrap()));
    assert!(!printed.contains(&hex) && !printed.contains(&format!("{:?}", &secret[..4])));
    assert!(!printed.contains(&format!("{}, {}", secret[0], secret[1])), "{printed}");
}

/// A bit more or less: it is another token, or none.
#[test]
fn tokens_that_are_changed_lead_nowhere() {
    let Introduction { contact, awaited } = keyed(later());
    let completion = keyed::directions(vat(CAROL), vat(ALICE), &contact).unwrap().completion;
    let provided = keyed::provided(vat(ALICE), &awaited).unwrap();
    let secret = bearer::made("", later()).unwrap();
    let shown = bearer::directions("", &secret.contact).unwrap().completion;
    let secret_provided = bearer::provided("", &secret.awaited).unwrap();
    for bit in 0..8 * completion.bytes().unwrap().len() {
        let forged = changed(&completion, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let found = keyed::shown(vat(CAROL), &forged);
        assert!(found.is_err() || found.unwrap().1 != provided, "bit {bit}");
    }
    for bit in 0..8 * shown.bytes().unwrap().len() {
        let forged = changed(&shown, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let found = bearer::shown(&forged);
        assert!(found.is_err() || found.unwrap().1 != secret_provided, "bit {bit}");
    }
    // Too short, too long, and of another kind or role.
    let no_text = |token: &Token| {
        keyed::provided(vat(ALICE), token).is_err() && keyed::shown(vat(CAROL), token).is_err()
    };
    for token in [&awaited, &completion] {
        assert!(no_text(&changed(token, |bytes| bytes.truncate(bytes.len() - 1))));
        assert!(no_text(&changed(token, |bytes| bytes.push(0))));
    }
    assert!(keyed::provided(vat(ALICE), &completion).is_err());
    assert!(keyed::shown(vat(CAROL), &awaited).is_err());
    assert!(keyed::directions(vat(CAROL), vat(ALICE), &awaited).is_err());
    assert!(bearer::shown(&completion).is_err());
    assert!(bearer::shown(&secret.contact).is_err());
    assert!(bearer::provided("", &changed(&secret.awaited, |bytes| bytes.push(0))).is_err());
    assert!(bearer::directions("", &changed(&secret.contact, |bytes| bytes.push(0xff))).is_err());
    for bytes in [&[][..], &[1], &[1, 0], &[2, 0], &[2, 1, 7]] {
        let token = Token::of_bytes(bytes).unwrap();
        assert!(keyed::directions(vat(CAROL), vat(ALICE), &token).is_err());
        assert!(bearer::directions("", &token).is_err());
        assert!(bearer::provided("", &token).is_err());
    }
}

#[test]
fn tokens_expire_for_everybody_who_reads_them() {
    let over = Expiry(now() - 10);
    let Introduction { contact, awaited } = keyed(over);
    assert!(keyed::directions(vat(CAROL), vat(ALICE), &contact).is_err());
    assert!(keyed::provided(vat(ALICE), &awaited).is_err());
    let secret = bearer::made("", over).unwrap();
    assert!(bearer::directions("", &secret.contact).is_err());
    assert!(bearer::provided("", &secret.awaited).is_err());

    // Who puts it off comes for something else.
    let put_off = |token: &Token, at: usize| {
        let time = later().0.to_be_bytes();
        changed(token, |bytes| bytes[at..at + 8].copy_from_slice(&time))
    };
    let found = keyed::directions(vat(CAROL), vat(ALICE), &put_off(&contact, 82)).unwrap();
    let near = keyed(Expiry(now() + 500));
    let provided = keyed::provided(vat(ALICE), &near.awaited).unwrap();
    let mine = keyed::directions(vat(CAROL), vat(ALICE), &put_off(&near.contact, 82)).unwrap();
    assert_ne!(keyed::shown(vat(CAROL), &mine.completion).unwrap().1, provided);
    assert!(keyed::shown(vat(CAROL), &found.completion).is_ok());
    let near = bearer::made("", Expiry(now() + 500)).unwrap();
    let provided = bearer::provided("", &near.awaited).unwrap();
    let mine = bearer::directions("", &put_off(&near.contact, 18)).unwrap();
    assert_ne!(bearer::shown(&mine.completion).unwrap().1, provided);
    // A completion that has expired is refused as well.
    let old = changed(&mine.completion, |bytes| {
        bytes[18..26].copy_from_slice(&over.0.to_be_bytes());
    });
    assert!(bearer::shown(&old).is_err());
    let old = changed(&found.completion, |bytes| {
        bytes[50..58].copy_from_slice(&over.0.to_be_bytes());
    });
    assert!(keyed::shown(vat(CAROL), &old).is_err());
}

#[test]
fn this_machine_is_known_by_its_addresses() {
    for host in ["127.0.0.1", "127.1.2.3", "::1", "localhost"] {
        assert!(is_loopback(host), "{host}");
    }
    for host in ["", "10.0.0.1", "0.0.0.0", "::", "localhost.example", "128.0.0.1", "fe80::1"] {
        assert!(!is_loopback(host), "{host}");
    }
    let with = |introduce: Introduce| [introduce.with(true), introduce.with(false)];
    assert_eq!(with(Introduce::Nobody), [false, false]);
    assert_eq!(with(Introduce::OnThisMachine), [true, false]);
    assert_eq!(with(Introduce::Anywhere), [true, true]);
    let leads = |introduce: Introduce| {
        [(true, true), (true, false), (false, true), (false, false)]
            .map(|(peer, address)| introduce.leads(peer, address))
    };
    assert_eq!(leads(Introduce::Nobody), [false; 4]);
    assert_eq!(leads(Introduce::OnThisMachine), [true, false, false, false]);
    assert_eq!(leads(Introduce::Anywhere), [true, true, false, true]);
}
