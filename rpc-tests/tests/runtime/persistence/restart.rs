//! What was saved is there after the process was killed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use capnp_threads_core::offer::{NamedExports, ObjectId};
use capnp_threads_core::transport::PeerDescription;
use capnp_threads_core::{
    Client, ConnConfig, Connection, Error, ErrorKind, FromClient, Result, Vat,
};
use capnp_threads_persist::sturdy_capnp::restorer;
use capnp_threads_persist::{
    FolderStore, MemoryStore, Owner, Persistence, PersistenceBuilder, Quota, Quotas, Savable,
    SturdyRef, SturdyStore,
};
use capnp_threads_transport::unix;
use rpc_schema::test_capnp::test_call_order;

/// Counts calls, from a number on that is its state.
struct Counter(AtomicU32);

impl test_call_order::Server for Counter {
    fn get_call_sequence(
        &self,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.0.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

impl Savable for Counter {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn state(&self) -> Result<Vec<u8>> {
        Ok(self.0.load(Ordering::SeqCst).to_le_bytes().to_vec())
    }
}

fn persistence(vat: &Vat, store: &Path) -> Persistence {
    counters(vat, FolderStore::open(store).unwrap()).build()
}

fn counters(vat: &Vat, store: impl SturdyStore) -> PersistenceBuilder {
    Persistence::builder(vat, store).kind("counter", |persistence, state| {
        let next = u32::from_le_bytes(state.try_into()?);
        let counter: test_call_order::Client = persistence.export(Counter(AtomicU32::new(next)));
        Ok(counter.into_client())
    })
}

const FOLDER: &str = "RESTART_TEST_FOLDER";

/// Not a test but the server, in a process of its own.
#[test]
#[ignore = "run by the tests in here"]
fn serve() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let vat = Vat::new();
    let persistence = persistence(&vat, &folder.join("store"));
    let exports = NamedExports::new();
    exports.export(
        "counter",
        persistence.export::<test_call_order::Client, _>(Counter(AtomicU32::new(0))),
    );
    exports.export("alice", persistence.restorer(Some(Owner::new("alice"))));
    exports.export("bob", persistence.restorer(Some(Owner::new("bob"))));
    exports.export("anybody", persistence.restorer(None));
    // Names first, and then references, for a user whom the socket vouches for.
    let references = persistence.restorer_by(|_| Ok(Some(Owner::new("alice"))));
    let restorer = move |object: &ObjectId, peer: &PeerDescription| -> Result<Client> {
        match object.text() {
            Ok(_) => capnp_threads_core::offer::Restorer::restore(&exports, object, peer),
            Err(_) => capnp_threads_core::offer::Restorer::restore(&references, object, peer),
        }
    };
    let restorer = std::sync::Arc::new(restorer);
    let listener = unix::Listener::bind(folder.join("socket")).unwrap();
    println!("\nready");
    std::io::stdout().flush().unwrap();
    let mut connections = Vec::new();
    loop {
        let config = ConnConfig::new().restorer(std::sync::Arc::clone(&restorer));
        connections.push(vat.connect(listener.accept().unwrap(), config).unwrap());
    }
}

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "persistence::restart::serve", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap() == "ready");
        assert!(ready, "the server ended before it listened");
        Server { child, folder: folder.to_owned() }
    }

    fn connect(&self) -> Connection {
        let transport = unix::connect(self.folder.join("socket")).unwrap();
        Vat::new().connect(transport, ConnConfig::new()).unwrap()
    }

    /// SIGKILL: nothing of the process runs any more.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next(counter: &test_call_order::Client) -> Result<u32> {
    Ok(counter.get_call_sequence_request().call()?.get()?.get_n())
}

fn restore(connection: &Connection, who: &str, reference: &SturdyRef) -> test_call_order::Client {
    let restorer: restorer::Client = connection.restore(who);
    let mut request = restorer.restore_request();
    reference.write(request.get().init_ref());
    test_call_order::Client::from_client(request.send().pipeline().get_object().as_cap())
}

fn revoke(connection: &Connection, who: &str, reference: &SturdyRef) {
    let restorer: restorer::Client = connection.restore(who);
    let mut request = restorer.revoke_request();
    reference.write(request.get().init_ref());
    request.call().unwrap();
}

fn nobody() -> Error {
    Error::failed("there is no such reference, or it is sealed for somebody else")
}

#[test]
fn an_object_survives_the_death_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let connection = server.connect();
    let counter: test_call_order::Client = connection.restore("counter");
    for expected in 0..5 {
        assert_eq!(next(&counter).unwrap(), expected);
    }
    let reference = capnp_threads_persist::save(&counter, Some(&Owner::new("alice"))).unwrap();
    server.kill();

    let server = Server::start(folder.path());
    let connection = server.connect();
    assert_eq!(next(&restore(&connection, "alice", &reference)).unwrap(), 5);
    // A new one each time, and what was restored can be saved in turn.
    let restored = restore(&connection, "alice", &reference);
    assert_eq!([next(&restored).unwrap(), next(&restored).unwrap()], [5, 6]);
    let later = capnp_threads_persist::save(&restored, Some(&Owner::new("bob"))).unwrap();
    assert_ne!(later, reference);
    server.kill();

    let server = Server::start(folder.path());
    let connection = server.connect();
    assert_eq!(next(&restore(&connection, "bob", &later)).unwrap(), 7);
    assert_eq!(next(&restore(&connection, "alice", &reference)).unwrap(), 5);
    // By the bootstrap request, too, and by nobody else.
    let object = ObjectId::try_from(&reference).unwrap();
    assert_eq!(next(&connection.restore(&object)).unwrap(), 5);
    for (who, reference) in [("bob", &reference), ("anybody", &reference), ("alice", &later)] {
        assert_eq!(next(&restore(&connection, who, reference)), Err(nobody()), "{who}");
    }
    let object = ObjectId::try_from(&later).unwrap();
    assert_eq!(next(&connection.restore(&object)), Err(nobody()));
}

#[test]
fn a_revoked_reference_stays_useless_after_the_death_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let connection = server.connect();
    let counter: test_call_order::Client = connection.restore("counter");
    let alice = Owner::new("alice");
    let kept = capnp_threads_persist::save(&counter, Some(&alice)).unwrap();
    let revoked = capnp_threads_persist::save(&counter, Some(&alice)).unwrap();
    // Somebody else's wish is none.
    revoke(&connection, "bob", &kept);
    let before = restore(&connection, "alice", &revoked);
    assert_eq!(next(&before).unwrap(), 0);
    revoke(&connection, "alice", &revoked);
    revoke(&connection, "alice", &revoked);
    assert_eq!(next(&before).unwrap(), 1);
    assert_eq!(next(&restore(&connection, "alice", &revoked)), Err(nobody()));
    server.kill();

    let server = Server::start(folder.path());
    let connection = server.connect();
    assert_eq!(next(&restore(&connection, "alice", &revoked)), Err(nobody()));
    assert_eq!(next(&restore(&connection, "alice", &kept)).unwrap(), 0);
}

#[test]
fn nothing_that_was_saved_is_lost_when_the_process_dies_while_it_saves() {
    /// How many references each thread gets before the process is killed.
    const SAVED: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for _ in 0..3 {
        let server = Server::start(folder.path());
        let connection = server.connect();
        let (tell, told) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counter: test_call_order::Client = connection.restore("counter");
                let tell = tell.clone();
                std::thread::spawn(move || {
                    let alice = Owner::new("alice");
                    // Until the process is gone, in the middle of whatever it does.
                    while let Ok(reference) = capnp_threads_persist::save(&counter, Some(&alice)) {
                        tell.send(reference).unwrap();
                    }
                })
            })
            .collect();
        drop(tell);
        all.extend(told.iter().take(SAVED));
        server.kill();
        all.extend(told);
        for thread in threads {
            thread.join().unwrap();
        }
    }
    assert!(all.len() >= 3 * SAVED);
    let server = Server::start(folder.path());
    let connection = server.connect();
    for reference in &all {
        assert_eq!(next(&restore(&connection, "alice", reference)).unwrap(), 0);
    }
}

#[test]
fn the_store_does_not_contain_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let vat = Vat::new();
    let reference = {
        let persistence = persistence(&vat, &path);
        persistence.save(&Counter(AtomicU32::new(0)), Some(&Owner::new("alice"))).unwrap()
    };
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(&path).unwrap() {
        let path = entry.unwrap().path();
        kept.extend(path.to_str().unwrap().as_bytes());
        kept.extend(std::fs::read(&path).unwrap());
    }
    assert!(kept.windows(5).any(|bytes| bytes == b"alice"), "the record should be there");
    let digits = reference.to_text();
    for secret in reference.as_bytes().chunks(8).chain(digits.as_bytes().chunks(16)) {
        assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret));
    }
}

#[test]
fn nobody_saves_more_than_is_allowed() {
    let vat = Vat::new();
    let mut quotas = Quotas::default();
    quotas.owner = Quota { references: 2, bytes: 1 << 20 };
    let persistence = counters(&vat, MemoryStore::new()).quotas(quotas).build();
    let counter: test_call_order::Client = persistence.export(Counter(AtomicU32::new(0)));
    let alice = Owner::new("alice");
    let save = |owner: &Owner| capnp_threads_persist::save(&counter, Some(owner));
    let first = save(&alice).unwrap();
    save(&alice).unwrap();
    let error = save(&alice).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    save(&Owner::new("bob")).unwrap();
    // Nobody makes up an owner that takes up much room.
    save(&Owner::new("x".repeat(255))).unwrap();
    assert!(save(&Owner::new("x".repeat(256))).unwrap_err().reason().contains("255 bytes"));

    assert!(persistence.revoke(&first, Some(&alice)).unwrap());
    save(&alice).unwrap();
}

#[test]
fn what_cannot_be_restored_is_not_saved() {
    struct Other;
    impl test_call_order::Server for Other {}
    impl Savable for Other {
        fn kind(&self) -> &'static str {
            "other"
        }
        fn state(&self) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let vat = Vat::new();
    let persistence = persistence(&vat, &folder.path().join("store"));
    let alice = Owner::new("alice");
    let other: test_call_order::Client = persistence.export(Other);
    assert!(
        capnp_threads_persist::save(&other, Some(&alice))
            .unwrap_err()
            .reason()
            .contains("\"other\"")
    );
    let counter: test_call_order::Client = persistence.export(Counter(AtomicU32::new(0)));
    assert!(capnp_threads_persist::save(&counter, None).unwrap_err().reason().contains("sealFor"));
    // It is still what it was made of.
    assert!(capnp_threads_core::typed::unwrap_server::<Counter>(&counter).is_some());
    // An object that knows nothing of this.
    let plain: test_call_order::Client = vat.export(Counter(AtomicU32::new(0)));
    let error = capnp_threads_persist::save(&plain, Some(&alice)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}
