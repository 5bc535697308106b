//! File descriptors to and from peers that pass them.

use std::fs::File;
use std::io::{self, Read};

use capnp_threads_core::{ConnConfig, FromClient, Limits};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};
use rpc_tests::peers::Peer;

use super::peers::{Session, at_each_server};

/// The others do not pass descriptors.
const WITHOUT: &[Peer] = &[Peer::Pycapnp, Peer::CapnpRpc];

/// An object that comes with a file.
struct WithFile;

impl test_interface::Server for WithFile {}

fn over_a_unix_socket(config: fn(ConnConfig) -> ConnConfig, test: impl Fn(&Session)) {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    at_each_server(&address, WITHOUT, config, test);
}

/// What is in a pipe once nobody can write any more.
fn all_of(mut reader: io::PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// Sends two files. Returns what was written to each, whether the second one arrived,
/// and what came back in a third one.
fn write_to_files(session: &Session) -> ([String; 2], bool, String) {
    let theirs: test_more_stuff::Client = session.connection.bootstrap();
    let [(reader1, writer1), (reader2, writer2)] = [io::pipe().unwrap(), io::pipe().unwrap()];
    let response = {
        let mut request = theirs.write_to_fd_request();
        let mut params = request.get();
        params.set_fd_cap1(session.vat.export_with_fd(WithFile, writer1));
        params.set_fd_cap2(session.vat.export_with_fd(WithFile, writer2));
        request.call().unwrap()
    };
    let results = response.get().unwrap();
    let fd = results.get_fd_cap3().unwrap().as_client().resolve().unwrap().fd().unwrap();
    let mut back = [0; 3];
    File::from(fd.try_clone().unwrap()).read_exact(&mut back).unwrap();
    let present = results.get_second_fd_present();
    ([all_of(reader1), all_of(reader2)], present, String::from_utf8(back.to_vec()).unwrap())
}

/// A mebibyte stands in the socket before the message that the descriptors belong to.
#[test]
fn a_descriptor_arrives_behind_a_mebibyte_of_padding_w() {
    over_a_unix_socket(
        |c| c,
        |session| {
            for padding in [0, 1 << 20] {
                let theirs: test_more_stuff::Client = session.connection.bootstrap();
                let mut request = theirs.method_with_defaults_request();
                request.get().set_a("x".repeat(padding).as_str());
                let padded = request.send();
                let (written, present, back) = write_to_files(session);
                assert_eq!(written, ["foo", "bar"], "{}", session.server);
                assert!(present && back == "baz", "{}: {back:?}", session.server);
                padded.wait().unwrap();
            }
        },
    );
}

/// Of two descriptors one goes; the capability of the other one arrives without.
#[test]
fn descriptors_beyond_the_limit_are_absent_w() {
    fn one(config: ConnConfig) -> ConnConfig {
        let mut limits = Limits::default();
        limits.message_fds_sent = 1;
        config.limits(limits)
    }
    over_a_unix_socket(one, |session| {
        let (written, present, back) = write_to_files(session);
        assert_eq!(written, ["foo", ""], "{}", session.server);
        assert!(!present && back == "baz", "{}: {back:?}", session.server);
    });
}
