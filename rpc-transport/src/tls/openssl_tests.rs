//! The handshake and the stream with OpenSSL on the other side: `openssl s_client` and
//! `openssl s_server`, in both roles.
//!
//! Where the program is not installed, the tests are skipped, or fail if the environment has
//! `REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rpc_testing::{content, message};

use super::testing::Authority;
use super::tests::framed;
use super::{Certificate, TlsClient, TlsServer};
use crate::testing::TemporaryDirectory;

/// An authority, and certificates of it in files.
struct Setting {
    directory: TemporaryDirectory,
    ours: Authority,
}

impl Setting {
    /// `None` where OpenSSL is missing.
    fn new(name: &str) -> Option<Self> {
        let found = Command::new("openssl").arg("version").output().is_ok();
        let required = std::env::var_os("REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(found || !required, "REQUIRE_PEERS=1, but openssl is missing");
        if !found {
            eprintln!("skipped: openssl is missing");
            return None;
        }
        let setting = Setting { directory: TemporaryDirectory::new(name), ours: Authority::new() };
        std::fs::write(setting.directory.file("ca"), setting.ours.pem()).unwrap();
        for name in ["localhost", "alice"] {
            let (chain, key) = setting.ours.issue_pem(name, |_| ());
            std::fs::write(setting.directory.file(name), chain + &key).unwrap();
        }
        Some(setting)
    }

    fn certificate(&self, name: &str) -> Certificate {
        let file = self.directory.file(name);
        Certificate::from_pem_files(&file, &file).unwrap()
    }

    fn openssl(&self, what: &str, name: &str, arguments: &[&str]) -> OpenSsl {
        let mut command = Command::new("openssl");
        command.arg(what).arg("-cert").arg(self.directory.file(name));
        command.arg("-key").arg(self.directory.file(name));
        command.arg("-CAfile").arg(self.directory.file("ca")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        OpenSsl { child, input, output }
    }
}

/// A process that sends what is written to it, and writes what it receives.
struct OpenSsl {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl OpenSsl {
    fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    /// Waits until it has received these bytes, behind whatever else it had to say.
    fn wait_for(&mut self, bytes: &[u8]) {
        let mut seen = Vec::new();
        while !seen.ends_with(bytes) {
            let mut byte = [0];
            assert_eq!(self.output.read(&mut byte).unwrap(), 1, "it has ended before");
            seen.push(byte[0]);
        }
    }

    /// The port of a server, from the line in which it says where it accepts.
    fn port(&mut self) -> u16 {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it has ended before");
            if let Some(address) = line.trim().strip_prefix("ACCEPT ") {
                return address.rsplit_once(':').unwrap().1.parse().unwrap();
            }
        }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const VERIFY: [&str; 2] = ["-verify_return_error", "-tls1_3"];

#[test]
fn openssl_is_served_and_ends_in_order() {
    let Some(setting) = Setting::new("s_client") else { return };
    let server =
        TlsServer::mutual(&setting.certificate("localhost"), &setting.ours.believed()).unwrap();
    let listener = server.protocols(["capnp"]).listen(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().to_string();
    let arguments = ["-connect", &at, "-servername", "localhost", "-verify_hostname", "localhost"];
    let more = ["-alpn", "other,capnp", "-quiet", "-no_ign_eof"];
    let mut client =
        setting.openssl("s_client", "alice", &[&arguments[..], &more, &VERIFY].concat());
    let mut there = listener.accept().unwrap();
    let peer = there.control.peer();
    assert_eq!(peer.protocol.as_deref(), Some(&b"capnp"[..]));
    assert_eq!(peer.identity.unwrap().dns_names, ["alice"]);
    // A short message, and one of several records.
    for lengths in [&[3][..], &[5000, 1]] {
        client.send(&framed(lengths));
        let received = there.reader.read().unwrap().unwrap();
        assert_eq!(content(&received), content(&message(0, lengths)));
        there.writer.write(&mut vec![received]).unwrap();
        client.wait_for(&framed(lengths));
    }
    client.input = None;
    assert!(there.reader.read().unwrap().is_none());
}

#[test]
fn a_client_that_knows_tls_1_2_alone_is_refused() {
    let Some(setting) = Setting::new("s_client-old") else { return };
    let server = TlsServer::new(&setting.certificate("localhost")).unwrap();
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().to_string();
    let mut client = setting.openssl("s_client", "alice", &["-connect", &at, "-tls1_2", "-quiet"]);
    assert!(!client.child.wait().unwrap().success());
    assert_eq!(listener.failed_handshakes(), 1);
}

#[test]
fn openssl_serves_a_client_which_it_knows() {
    let Some(setting) = Setting::new("s_server") else { return };
    let arguments = ["-accept", "127.0.0.1:0", "-Verify", "1", "-alpn", "capnp", "-naccept", "1"];
    let mut server = setting.openssl("s_server", "localhost", &[&arguments[..], &VERIFY].concat());
    let port = server.port();
    let own = setting.certificate("alice");
    let client = TlsClient::mutual(&setting.ours.believed(), &own).unwrap();
    let client = client.protocols(["capnp"]);
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut here = client.transport(stream, "localhost").unwrap();
    let peer = here.control.peer();
    assert_eq!(peer.protocol.as_deref(), Some(&b"capnp"[..]));
    assert_eq!(peer.identity.unwrap().dns_names, ["localhost"]);
    for lengths in [&[3][..], &[5000, 1]] {
        let bytes = framed(lengths);
        here.writer.write(&mut vec![message(0, lengths)]).unwrap();
        server.wait_for(&bytes);
        server.send(&bytes);
        let received = here.reader.read().unwrap().unwrap();
        assert_eq!(content(&received), content(&message(0, lengths)));
    }
    // A command of the program's, which closes the socket and says nothing before.
    server.send(b"Q\n");
    let error = here.reader.read().unwrap_err().to_string();
    assert!(error.contains("close_notify"), "{error}");
}

#[test]
fn a_server_that_knows_tls_1_2_alone_is_not_believed() {
    let Some(setting) = Setting::new("s_server-old") else { return };
    let arguments = ["-accept", "127.0.0.1:0", "-tls1_2", "-naccept", "1"];
    let mut server = setting.openssl("s_server", "localhost", &arguments);
    let client = TlsClient::new(&setting.ours.believed()).unwrap();
    let stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let error = client.transport(stream, "localhost").err().unwrap().to_string();
    assert!(error.contains("TLS handshake failed"), "{error}");
}
