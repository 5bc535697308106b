//! What a peer gets that has no capability yet: by who it is, and by name.

use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, mpsc};

use capnp::text;
use capnp_threads_core::offer::{NamedExports, ObjectId};
use capnp_threads_core::transport::{Credentials, PeerDescription};
use capnp_threads_core::{
    Client, ConnConfig, Error, ErrorKind, FromClient, Result, RpcSystem, Vat,
};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat, memory, tcp, unix};
use rpc_schema::test_capnp::{test_authenticated_bootstrap, test_interface};
use rpc_tests::peers::{Library, Serving, cxx_extras, or_skip};
use rpc_tests::support::objects::{answer_foo, foo};
use rpc_tests::support::raw::{self, RawPeer};
use rpc_tests::support::{Pair, Watchdog, Wire};

type WhoAmI = test_authenticated_bootstrap::Client<text::Owned>;

/// Tells its caller who it is.
struct Caller(String);

impl test_authenticated_bootstrap::Server<text::Owned> for Caller {
    fn get_caller_id(
        &self,
        _: test_authenticated_bootstrap::GetCallerIdParams<text::Owned>,
        mut results: test_authenticated_bootstrap::GetCallerIdResults<text::Owned>,
    ) -> Result<()> {
        results.get().set_caller(&*self.0)?;
        Ok(())
    }
}

/// Offers each peer an object that knows who it is.
#[allow(clippy::unnecessary_wraps)]
fn introduced(peer: &PeerDescription) -> Option<Client> {
    let id = match (peer.credentials, peer.socket) {
        (Some(Credentials { pid, uid, gid }), _) => format!("{pid} {uid} {gid}"),
        (None, Some(socket)) => socket.to_string(),
        (None, None) => peer.address.clone(),
    };
    let client: WhoAmI = capnp_threads_core::typed::new_client(Caller(id));
    Some(client.into_client())
}

fn caller_id(client: &WhoAmI) -> String {
    let response = client.get_caller_id_request().call().unwrap();
    response.get().unwrap().get_caller().unwrap().to_string().unwrap()
}

fn own_credentials() -> String {
    let pid = std::process::id();
    let id = |flag: &str| {
        let output = Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    format!("{pid} {} {}", id("-u"), id("-g"))
}

#[test]
fn per_peer_bootstrap_tells_tcp_peers_apart_w() {
    let _watchdog = Watchdog::start();
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap().to_string();
    let vat = Vat::new();
    // One factory for all.
    let factory = Arc::new(introduced);
    let mut kept = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(&address).unwrap();
        let own = stream.local_addr().unwrap();
        let transport = tcp::from_stream(stream).unwrap();
        let config = ConnConfig::new().bootstrap_factory(Arc::clone(&factory));
        let server = vat.connect(listener.accept().unwrap(), config).unwrap();
        let client = Vat::new().connect(transport, ConnConfig::new()).unwrap();
        assert_eq!(server.peer().socket, Some(own));
        assert_eq!(caller_id(&client.bootstrap()), own.to_string());
        kept.push((server, client));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn per_peer_bootstrap_knows_the_process_behind_a_unix_socket_w() {
    let _watchdog = Watchdog::start();
    for wire in [Wire::Unix, Wire::Memory] {
        let (here, there) = wire.pair();
        let vat = Vat::new();
        let config = ConnConfig::new().bootstrap_factory(introduced);
        let server = vat.connect(there, config).unwrap();
        let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
        let expected = if wire == Wire::Unix { own_credentials() } else { "memory".to_owned() };
        assert_eq!(caller_id(&client.bootstrap()), expected);
        assert_eq!(server.peer().credentials.is_some(), wire == Wire::Unix);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn per_peer_bootstrap_sees_another_process_w() {
    let _watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = unix::Listener::bind(&path).unwrap();
    let (tell, told) = mpsc::channel();
    let mut child = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["call", &format!("unix:{}", path.display()), "bootstrap-and-call"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let vat = Vat::new();
    let exporter = vat.clone();
    let config = ConnConfig::new().bootstrap_factory(move |peer: &PeerDescription| {
        tell.send(peer.credentials).unwrap();
        Some(foo(&exporter, answer_foo).into_client())
    });
    let connection = vat.connect(listener.accept().unwrap(), config).unwrap();
    let credentials: Credentials = told.recv().unwrap().unwrap();
    assert_eq!(credentials.pid, child.id());
    assert_ne!(credentials.pid, std::process::id());
    connection.close();
    // What it thinks of this server is not asked.
    child.wait().unwrap();
}

#[test]
fn a_factory_offers_nothing_or_says_why() {
    let _watchdog = Watchdog::start();
    let refusing = |_: &PeerDescription| Some(Client::broken(Error::unimplemented("not you")));
    let nothing = |_: &PeerDescription| None;
    let error_with = |config: ConnConfig| {
        let (here, there) = memory::pair();
        let vat = Vat::new();
        let _server = vat.connect(there, config).unwrap();
        let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
        let object: test_interface::Client = client.bootstrap();
        object.foo_request().call().map(|_| ()).unwrap_err()
    };
    let error = error_with(ConnConfig::new().bootstrap_factory(refusing));
    assert_eq!(error, Error::unimplemented("not you"));
    let error = error_with(ConnConfig::new().bootstrap_factory(nothing));
    assert!(error.reason().contains("no bootstrap capability"));
}

fn x_of(client: &test_interface::Client) -> Result<String> {
    let mut request = client.foo_request();
    request.get().set_i(123);
    request.get().set_j(true);
    Ok(request.call()?.get()?.get_x()?.to_string()?)
}

/// An object that says which one it is.
fn named(vat: &Vat, name: &'static str) -> test_interface::Client {
    foo(vat, move |_, mut results| {
        results.get().set_x(name);
        Ok(())
    })
}

#[test]
fn capabilities_are_restored_by_name_beside_the_bootstrap_capability() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let exports = NamedExports::new();
        let offered = exports.clone();
        let pair = Pair::configured(
            |vat| {
                exports.export("a", named(vat, "a"));
                exports.export("b", named(vat, "b"));
                named(vat, "main").into_client()
            },
            wire,
            |config| config,
            |config| config.restorer(offered),
        );
        assert_eq!(x_of(&pair.client.restore("a")).unwrap(), "a");
        assert_eq!(x_of(&pair.client.restore("b")).unwrap(), "b");
        assert_eq!(x_of(&pair.bootstrap()).unwrap(), "main");
        let error = x_of(&pair.client.restore("c")).unwrap_err();
        assert!(error.reason().contains("\"c\""), "{error}");
        assert!(exports.remove("a") && !exports.remove("a"));
        x_of(&pair.client.restore("a")).unwrap_err();
        pair.finish();
    }
}

#[test]
fn a_restorer_reads_names_of_any_type_and_knows_the_peer() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let exporter = vat.clone();
    let config = ConnConfig::new().restorer(move |object: &ObjectId, peer: &PeerDescription| {
        assert_eq!(peer.address, "memory");
        let number = object.read(|content| {
            let data = content.get_as::<capnp::data::Reader<'_>>()?;
            Ok(u16::from_le_bytes(data.try_into()?))
        })?;
        let client = foo(&exporter, move |_, mut results| {
            results.get().set_x(&*number.to_string());
            Ok(())
        });
        Ok(client.into_client())
    });
    let (here, there) = memory::pair();
    let _server = vat.connect(there, config).unwrap();
    let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
    let id = |bytes: &[u8]| {
        ObjectId::build(|content| Ok(content.set_as::<capnp::data::Owned>(bytes)?)).unwrap()
    };
    assert_eq!(x_of(&client.restore(id(&[1, 2]))).unwrap(), "513");
    // What is wrong with a name is that request's own affair.
    assert_eq!(x_of(&client.restore(id(&[1]))).unwrap_err().kind(), ErrorKind::Failed);
    x_of(&client.restore("a text")).unwrap_err();
    assert_eq!(x_of(&client.restore(id(&[0, 0]))).unwrap(), "0");
}

#[test]
fn a_restorer_may_block_and_panic() {
    let _watchdog = Watchdog::start();
    let (release, released) = mpsc::channel::<()>();
    let released = parking_lot::Mutex::new(released);
    let vat = Vat::new();
    let exporter = vat.clone();
    let config = ConnConfig::new().restorer(move |object: &ObjectId, _: &PeerDescription| {
        match &*object.text()? {
            "slow" => released.lock().recv().unwrap(),
            "panic" => panic!("on purpose"),
            _ => {}
        }
        Ok(named(&exporter, "x").into_client())
    });
    let (here, there) = memory::pair();
    let _server = vat.connect(there, config).unwrap();
    let client = Vat::new().connect(here, ConnConfig::new()).unwrap();
    let slow: test_interface::Client = client.restore("slow");
    let waiting = slow.foo_request().send();
    assert!(x_of(&client.restore("panic")).unwrap_err().reason().contains("panicked"));
    assert_eq!(x_of(&client.restore("quick")).unwrap(), "x");
    assert!(waiting.try_response().is_none());
    release.send(()).unwrap();
    waiting.wait().unwrap();
}

#[test]
fn names_that_are_malformed_fail_alone() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let exports = NamedExports::new();
    exports.export("a", named(&vat, "a"));
    let config = ConnConfig::new().bootstrap(named(&vat, "main")).restorer(
        move |object: &ObjectId, peer: &PeerDescription| {
            // Looked at in every way that there is.
            assert!(format!("{object:?}").starts_with("ObjectId("));
            let capability: capnp::Result<Client> =
                object.read(|content| Ok(content.get_as_capability())).unwrap();
            assert!(capability.is_err());
            capnp_threads_core::offer::Restorer::restore(&exports, object, peer)
        },
    );
    let (mut peer, connection) = RawPeer::connect(&vat, config);
    let structure = 1 << 32 | 1 << 48;
    let evil = [
        // A struct, a list and a text that are not there.
        100 << 2 | 1 << 32,
        1 | 100 << 2 | 2 << 32 | 8 << 35,
        1 | 2 << 32 | 0x1fff_ffff << 35,
        // Another segment, and one that is not there.
        2,
        2 | 7 << 32,
        // A capability, and something that nobody knows.
        3 | 5 << 32,
        3 | 1 << 2,
        // The struct that it is in.
        0xffff_fff8 | 1 << 32 | 1 << 48,
    ];
    for (question, pointer) in (1..).zip(evil) {
        peer.bytes(&raw::words(&[structure, 8, structure, u64::from(question), pointer]));
        let outcome = peer.outcome(question);
        assert!(matches!(outcome, raw::Outcome::Exception(_)), "{pointer:#x}: {outcome:?}");
        peer.finish(question, true);
    }
    peer.sync(0);
    assert_eq!(connection.failure(), None);
}

#[test]
fn without_a_restorer_a_name_fails_alone() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| named(vat, "main").into_client());
    let error = x_of(&pair.client.restore("a")).unwrap_err();
    assert!(error.reason().contains("by name"), "{error}");
    assert_eq!(x_of(&pair.bootstrap()).unwrap(), "main");
    pair.finish();
}

#[test]
fn a_name_over_the_limit_is_not_sent() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| named(vat, "main").into_client());
    let error = x_of(&pair.client.restore(&*"x".repeat(70 << 20))).unwrap_err();
    assert!(error.reason().contains("message_words"), "{error}");
    assert_eq!(x_of(&pair.bootstrap()).unwrap(), "main");
    pair.finish();
}

#[test]
fn a_system_restores_names_for_every_peer() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let exports = NamedExports::new();
    exports.export("a", named(&vat, "a"));
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let network = SocketNetwork::listening(listener).unwrap();
    let server = RpcSystem::builder(&vat, network).restorer(exports).start().unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let connection = client.connection(&name).unwrap().unwrap();
    assert_eq!(x_of(&connection.restore("a")).unwrap(), "a");
}

/// What a program printed, line by line.
fn lines_of(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn cxx_imports_what_we_export_by_name() {
    for library in Library::ALL {
        let Some(mut cxx) = or_skip(cxx_extras(library)) else { continue };
        let _watchdog = Watchdog::start();
        let vat = Vat::new();
        let exports = NamedExports::new();
        exports.export("ours", named(&vat, "exported as ours"));
        let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
        let address = listener.local_address().unwrap().to_string();
        let serving = std::thread::spawn(move || {
            for _ in 0..2 {
                let config = ConnConfig::new().restorer(exports.clone());
                vat.connect(listener.accept().unwrap(), config).unwrap().join().unwrap();
            }
        });
        assert_eq!(lines_of(cxx.args(["names-call", &address, "ours"])), ["x: exported as ours"]);
        let mut cxx = cxx_extras(library).unwrap();
        let lines = lines_of(cxx.args(["names-call", &address, "others"]));
        assert_eq!(lines[0], "type: failed");
        assert!(lines[1].contains("\"others\""), "{lines:?}");
        serving.join().unwrap();
    }
}

#[test]
fn we_import_what_cxx_exports_by_name() {
    for library in Library::ALL {
        let Some(mut cxx) = or_skip(cxx_extras(library)) else { continue };
        let _watchdog = Watchdog::start();
        cxx.args(["names-serve", "127.0.0.1"]);
        let server = Serving::start(cxx).unwrap();
        let transport = server.address().parse::<Address>().unwrap().connect().unwrap();
        let connection = Vat::new().connect(transport, ConnConfig::new()).unwrap();
        assert_eq!(x_of(&connection.restore("foo")).unwrap(), "exported as foo");
        assert_eq!(x_of(&connection.restore("bar")).unwrap(), "exported as bar");
        let error = x_of(&connection.restore("none")).unwrap_err();
        assert!(error.reason().contains("no such capability"), "{error}");
    }
}
