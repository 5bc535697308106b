//! Vats with keys: addresses with `tls:`.

use std::net::TcpListener;

use capnp_threads::transport::tls::VatKey;

use crate::support::{Served, compiler, complaint, printed};
use crate::tap::Tap;

/// A file with a key, and the id.
fn key(folder: &tempfile::TempDir, name: &str) -> (String, String) {
    let file = folder.path().join(name).to_str().unwrap().to_owned();
    let id = printed(&["key", &file]).trim().to_owned();
    (file, id)
}

#[test]
fn a_key_is_made_once_and_has_an_id() {
    let folder = tempfile::tempdir().unwrap();
    let (file, id) = key(&folder, "own");
    assert_eq!(id, VatKey::load(&file).unwrap().id().to_string());
    assert_eq!(printed(&["key", &file]), format!("{id}\n"));
    let (code, text) = complaint(&["key", "/no/such/folder/key"]);
    assert!(code == 2 && text.contains("/no/such/folder/key"), "{text}");
}

#[test]
fn a_vat_with_a_key_is_called_measured_and_listened_to() {
    let folder = tempfile::tempdir().unwrap();
    let (own, own_id) = key(&folder, "own");
    let (tap, tap_id) = key(&folder, "tap");
    let admitted = [own_id.clone(), tap_id.clone()];
    let server = Served::echo_with_key(&VatKey::generate().unwrap(), move |vat| {
        admitted.contains(&vat.to_string())
    });
    let bench = |address: &str, options: &[&str]| -> Vec<String> {
        let start = ["bench", address, "--seconds", "0", "--figures", "ping", "--json"];
        start.iter().chain(options).map(|argument| (*argument).to_owned()).collect()
    };
    let measures = |arguments: Vec<String>| {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        assert!(printed(&arguments).contains("ping_us_p50"));
    };
    measures(bench(&server.address, &["--key", &own]));

    // Nobody knows a key that was just made.
    let stranger = bench(&server.address, &[]);
    let (code, text) = complaint(&stranger.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code != 0 && text.contains("this vat is not for you"), "{text}");

    // The second place is where it is.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (vat, place) = server.address.split_once('@').unwrap();
    let places = format!("{vat}@{nobody},{place}");
    measures(bench(&places, &["--key", &own]));

    // A tap is a vat of its own for both sides.
    let through = Tap::start_at(
        &format!("tls:{tap_id}@127.0.0.1:0"),
        &server.address,
        &["--connections", "1", "--key", &tap],
    );
    assert!(through.address.starts_with(&format!("tls:{tap_id}@127.0.0.1:")));
    measures(bench(&through.address, &["--key", &own]));
    let (lines, complaints) = through.end();
    assert_eq!(complaints, "");
    let opened = format!(", the vat {own_id}");
    assert!(
        lines[0].starts_with("[1] -- connected by ") && lines[0].ends_with(&opened),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("[1] <- return")), "{lines:?}");

    if compiler() {
        let call = |options: &[&str]| {
            let start = ["call", &server.address, "echo.capnp", "Echo.echo", r#"{"data": [1]}"#];
            printed(&[&start, options].concat())
        };
        assert_eq!(call(&["--key", &own]), "{\"data\": [1]}\n");
    }
}

#[test]
fn what_is_wrong_with_keys_and_addresses_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (own, id) = key(&folder, "own");
    let at = |place: &str| format!("tls:{id}{place}");
    for (arguments, complaints) in [
        (vec!["bench", &at("")], "write tls:VATID@host:port"),
        (vec!["bench", "tls:nobody@here:1"], "names no vat"),
        (vec!["tap", &at("@127.0.0.1:0"), "127.0.0.1:1"], "--key FILE"),
        (vec!["tap", &at("@127.0.0.1:0"), "127.0.0.1:1", "--key", "/no/key"], "/no/key"),
        (vec!["bench", &at("@127.0.0.1:1"), "--key", "/no/key"], "/no/key"),
    ] {
        let (code, text) = complaint(&arguments);
        assert!(code == 2 && text.contains(complaints), "{arguments:?}: {text}");
    }
    let other = VatKey::generate().unwrap().id();
    let (code, text) =
        complaint(&["tap", &format!("tls:{other}@127.0.0.1:0"), "127.0.0.1:1", "--key", &own]);
    assert!(code == 2 && text.contains("of another vat"), "{text}");
}
