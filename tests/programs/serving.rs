//! Servers that begin with one call and end with one, in this process and in others.

use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capnp_threads::health::{self, Health};
use capnp_threads::serving::{Running, Server};
use capnp_threads::transport::Address;
use capnp_threads::vat::AcceptLimits;
use capnp_threads::{Concurrency, ConnConfig, Connection, ErrorKind, Result, Vat};
use rpc_schema::greeter_capnp::{greeter, guest};
use rpc_tests::support::{Event, LONG, Watchdog, until};

use crate::examples::example;
use rpc_testing::process;

/// Greets when it is let go.
#[derive(Clone, Default)]
struct Greeter {
    entered: Event,
    go_on: Event,
}

impl greeter::Server for Greeter {
    fn greet(&self, _: greeter::GreetParams, mut results: greeter::GreetResults) -> Result<()> {
        self.entered.set();
        self.go_on.wait();
        results.get().set_greeting("at last");
        Ok(())
    }
}

fn start(greeter: &Greeter, change: impl FnOnce(Server) -> Server) -> (Running, Connection) {
    let greeter: greeter::Client =
        Vat::global().export_with(greeter.clone(), Concurrency::Concurrent);
    let server = Server::new(greeter).listen("127.0.0.1:0").unwrap();
    let server = change(server.drain_for(LONG).signals(false)).start().unwrap();
    let transport = server.addresses()[0].connect().unwrap();
    let connection = Vat::new().connect(transport, ConnConfig::new()).unwrap();
    (server, connection)
}

#[test]
fn a_server_that_is_stopped_answers_the_calls_that_have_begun_and_refuses_others() {
    let _watchdog = Watchdog::start();
    let greeter = Greeter::default();
    let (server, connection) = start(&greeter, |server| server);
    let client: greeter::Client = connection.bootstrap();
    let begun = client.greet_request().send();
    greeter.entered.wait();
    server.stop();
    until("new calls are refused", || {
        client.greet_guest_request().call().is_err_and(|error| error.is_draining())
    });
    until("nobody is let in any more", || server.addresses()[0].connect().is_err());
    assert!(begun.try_response().is_none());
    greeter.go_on.set();
    assert_eq!(begun.wait().unwrap().get().unwrap().get_greeting().unwrap(), "at last");
    let address = server.addresses()[0].clone();
    assert!(server.join().unwrap());
    assert!(address.connect().is_err(), "nobody listens any more");
    connection.join().unwrap();
}

#[test]
fn a_call_that_does_not_end_is_cut_off_when_time_is_up() {
    let _watchdog = Watchdog::start();
    let greeter = Greeter::default();
    let (server, connection) =
        start(&greeter, |server| server.drain_for(Duration::from_millis(10)));
    let begun = connection.bootstrap::<greeter::Client>().greet_request().send();
    greeter.entered.wait();
    server.stop();
    assert!(!server.join().unwrap());
    let error = begun.wait().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(!error.is_draining(), "it had begun");
    greeter.go_on.set();
}

#[test]
fn a_second_stop_does_not_wait_for_the_first() {
    let _watchdog = Watchdog::start();
    let greeter = Greeter::default();
    let (server, connection) = start(&greeter, |server| server);
    let client: greeter::Client = connection.bootstrap();
    let begun = client.greet_request().send();
    greeter.entered.wait();
    server.stop();
    server.stop();
    until("it drains", || {
        client.greet_guest_request().call().is_err_and(|error| error.is_draining())
    });
    server.stopper().stop_now();
    assert!(!server.join().unwrap());
    assert!(begun.wait().is_err());
    greeter.go_on.set();
}

#[test]
fn a_server_that_is_to_end_now_does_not_wait() {
    let _watchdog = Watchdog::start();
    let greeter = Greeter::default();
    let (server, connection) = start(&greeter, |server| server.drain_for(Duration::MAX));
    let begun = connection.bootstrap::<greeter::Client>().greet_request().send();
    greeter.entered.wait();
    server.stop_now();
    assert!(!server.join().unwrap());
    assert!(begun.wait().is_err());
    greeter.go_on.set();
}

#[test]
fn a_vat_that_the_application_gave_goes_on() {
    let _watchdog = Watchdog::start();
    let (greeter, vat) = (Greeter::default(), Vat::new());
    greeter.go_on.set();
    let given = vat.clone();
    let (server, _connection) = start(&greeter, |server| server.vat(given));
    server.stop_now();
    assert!(server.join().unwrap());
    let still: greeter::Client = vat.export(greeter);
    still.greet_request().call().unwrap();
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_server_with_which_nothing_works_is_an_error() {
    let _watchdog = Watchdog::start();
    let server = || Server::new(Vat::global().export::<greeter::Client, _>(Greeter::default()));
    assert!(server().run().unwrap_err().reason().contains("Server::listen"));
    assert!(server().listen("nowhere").unwrap_err().reason().contains("not an address"));
    let taken = server().listen("127.0.0.1:0").unwrap().start().unwrap();
    let address = taken.addresses()[0].to_string();
    assert!(server().listen(&address).is_err());
    // The other address must not go on as if nothing had happened.
    let mut nobody = AcceptLimits::default();
    nobody.connections = 0;
    let server = server().listen("127.0.0.1:0").unwrap().listen("127.0.0.1:0").unwrap();
    assert!(server.accept_limits(nobody).run().unwrap_err().reason().contains("connections"));
    taken.stop();
    taken.join().unwrap();
}

// ---- Health

/// Passes on what it is told, and answers when it is let.
struct Watcher {
    told: Mutex<Sender<(bool, String)>>,
    answer: Mutex<Receiver<()>>,
}

impl health::watcher::Server for Watcher {
    fn changed(
        &self,
        params: health::watcher::ChangedParams,
        _: health::watcher::ChangedResults,
    ) -> Result<()> {
        let state = params.get()?.get_state()?;
        let told = (state.get_serving(), state.get_reason()?.to_string()?);
        self.told.lock().unwrap().send(told).unwrap();
        // Nobody lets it answer any more when the test has ended.
        let _ = self.answer.lock().unwrap().recv();
        Ok(())
    }
}

#[test]
fn a_watcher_is_told_the_state_at_once_and_the_latest_one_when_it_has_answered() {
    let _watchdog = Watchdog::start();
    let state = Health::new();
    let (server, connection) = start(&Greeter::default(), |server| server.health(&state));
    let health = health::of(&connection);
    let (told, states) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let watcher = Watcher { told: Mutex::new(told), answer: Mutex::new(answers) };
    let mut request = health.watch_request();
    request.get().set_watcher(Vat::global().export(watcher));
    let watch = request.call().unwrap().get().unwrap().get_watch().unwrap();
    assert_eq!(states.recv().unwrap(), (true, String::new()));
    state.set_not_serving("first");
    state.set_not_serving("second");
    let checked = health.check_request().call().unwrap();
    assert_eq!(checked.get().unwrap().get_state().unwrap().get_reason().unwrap(), "second");
    assert!(states.try_recv().is_err(), "it has not answered");
    answer.send(()).unwrap();
    assert_eq!(states.recv().unwrap(), (false, "second".to_owned()));
    answer.send(()).unwrap();
    state.set_serving();
    assert_eq!(states.recv().unwrap(), (true, String::new()));
    answer.send(()).unwrap();
    // The server says itself that it ends.
    server.stop();
    let (serving, reason) = states.recv().unwrap();
    assert!(!serving && reason.contains("shutting down"), "{reason}");
    drop((watch, answer));
    server.join().unwrap();
}

/// It drains when its watchers have answered, or a second later.
#[test]
fn a_server_that_ends_lets_nobody_in_while_a_watcher_is_slow() {
    let _watchdog = Watchdog::start();
    // On a busy machine the second may be over before anything has happened.
    assert!((0..10).any(|_| closes_before_it_drains()));
}

/// Ends a server whose watcher does not answer. Returns whether nobody is let in before the
/// server gives the watcher up.
fn closes_before_it_drains() -> bool {
    let state = Health::new();
    let (server, connection) = start(&Greeter::default(), |server| server.health(&state));
    let (told, states) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let watcher = Watcher { told: Mutex::new(told), answer: Mutex::new(answers) };
    let mut request = health::of(&connection).watch_request();
    request.get().set_watcher(Vat::global().export(watcher));
    let watch = request.call().unwrap().get().unwrap().get_watch().unwrap();
    states.recv().unwrap();
    let given_up = Instant::now() + Duration::from_secs(1);
    server.stop();
    let address = server.addresses()[0].to_string();
    let closed = loop {
        let closed = TcpStream::connect(&address)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if closed || Instant::now() >= given_up {
            break closed && Instant::now() < given_up;
        }
        std::thread::yield_now();
    };
    drop((watch, answer));
    server.join().unwrap();
    closed
}

#[test]
fn a_watch_that_is_dropped_tells_nothing_more() {
    let _watchdog = Watchdog::start();
    let state = Health::new();
    let vat = Vat::new();
    let health: health::HealthClient =
        capnp_threads::FromClient::from_client(state.client_in(&vat));
    let watch = |told| {
        // Its answers are let go at once.
        let watcher = Watcher { told: Mutex::new(told), answer: Mutex::new(mpsc::channel().1) };
        let mut request = health.watch_request();
        request.get().set_watcher(vat.export(watcher));
        request.call().unwrap().get().unwrap().get_watch().unwrap()
    };
    let (told, states) = mpsc::channel();
    let dropped = watch(told);
    states.recv().unwrap();
    drop(dropped);
    // The watcher goes with the watch, and with it the channel.
    assert!(states.recv().is_err());
    let (told, others) = mpsc::channel();
    let _watch = watch(told);
    others.recv().unwrap();
    state.set_serving();
    assert!(others.recv().unwrap().0);
}

// ---- In other processes

/// The example, as a supervisor runs it.
struct Supervised {
    server: process::Server,
    socket: Arc<UnixDatagram>,
    folder: tempfile::TempDir,
}

impl Supervised {
    fn start(watchdog: &str) -> Self {
        Self::start_with(&[("WATCHDOG_USEC", watchdog)])
    }

    fn start_with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = Arc::new(UnixDatagram::bind(&path).unwrap());
        let mut command = example("serve");
        command.env("NOTIFY_SOCKET", &path).envs(environment.iter().copied());
        let server = process::Server::start(command.arg("127.0.0.1:0"));
        Supervised { server, socket, folder }
    }

    /// Waits for a notice, and passes over signs of life.
    fn next_notice(&self) -> String {
        loop {
            let notice = self.any_notice();
            if notice != "WATCHDOG=1" {
                return notice;
            }
        }
    }

    fn any_notice(&self) -> String {
        notice(&self.socket)
    }

    fn signal(&self, name: &str) {
        signal(name, self.server.id());
    }

    /// A call that the server has begun and cannot end before this side does.
    fn long_call(&self) -> (Connection, Event, capnp_threads::Promise<GreetGuest>) {
        let address: Address = self.server.address.parse().unwrap();
        let connection =
            Vat::global().connect(address.connect().unwrap(), ConnConfig::new()).unwrap();
        let (entered, go_on) = (Event::new(), Event::new());
        let guest = Guest { entered: entered.clone(), go_on: go_on.clone() };
        let mut request = connection.bootstrap::<greeter::Client>().greet_guest_request();
        request.get().set_guest(Vat::global().export(guest));
        let call = request.send();
        entered.wait();
        (connection, go_on, call)
    }
}

fn notice(socket: &UnixDatagram) -> String {
    let mut notice = [0; 256];
    socket.set_read_timeout(Some(LONG)).unwrap();
    let length = socket.recv(&mut notice).unwrap();
    String::from_utf8_lossy(&notice[..length]).into_owned()
}

fn signal(name: &str, id: u32) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

type GreetGuest = greeter::greet_guest_results::Owned;

struct Guest {
    entered: Event,
    go_on: Event,
}

impl guest::Server for Guest {
    fn name(&self, _: guest::NameParams, mut results: guest::NameResults) -> Result<()> {
        self.entered.set();
        self.go_on.wait();
        results.get().set_name("Grace");
        Ok(())
    }
}

#[test]
fn a_signal_lets_a_server_answer_what_it_has_and_its_supervisor_is_told() {
    let _watchdog = Watchdog::start();
    for signal in ["-TERM", "-INT"] {
        let mut supervised = Supervised::start("");
        assert_eq!(supervised.any_notice(), "READY=1");
        let (_connection, go_on, call) = supervised.long_call();
        supervised.signal(signal);
        assert_eq!(supervised.any_notice(), "STOPPING=1");
        assert!(supervised.server.has_not_ended());
        go_on.set();
        assert_eq!(call.wait().unwrap().get().unwrap().get_greeting().unwrap(), "Hello, Grace!");
        assert!(supervised.server.wait().success());
    }
}

#[test]
fn a_second_signal_cuts_off_what_the_first_waits_for() {
    let _watchdog = Watchdog::start();
    let mut supervised = Supervised::start("");
    assert_eq!(supervised.any_notice(), "READY=1");
    let (_connection, go_on, call) = supervised.long_call();
    supervised.signal("-TERM");
    assert_eq!(supervised.any_notice(), "STOPPING=1");
    supervised.signal("-TERM");
    assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(supervised.server.wait().code(), Some(1));
    go_on.set();
}

#[test]
fn a_supervisor_that_reads_no_notices_keeps_no_server_from_ending() {
    let _watchdog = Watchdog::start();
    let mut supervised = Supervised::start("1000");
    assert!(!supervised.any_notice().is_empty());
    // No room for a notice is left, however many the server has sent.
    let filling = UnixDatagram::unbound().unwrap();
    filling.set_nonblocking(true).unwrap();
    while filling.send_to(b"WATCHDOG=1", supervised.folder.path().join("notify")).is_ok() {}
    supervised.signal("-TERM");
    assert!(supervised.server.wait().success());
}

#[test]
fn a_server_gives_signs_of_life_to_whoever_wants_them() {
    let _watchdog = Watchdog::start();
    let mut supervised = Supervised::start("1000");
    let ready = (0..3).map(|_| supervised.any_notice()).collect::<Vec<_>>();
    assert!(ready.contains(&"WATCHDOG=1".to_owned()), "{ready:?}");
    assert_eq!(supervised.any_notice(), "WATCHDOG=1");
    supervised.signal("-TERM");
    while supervised.next_notice() != "STOPPING=1" {}
    assert!(supervised.server.wait().success());
}

#[test]
fn signs_of_life_that_another_process_owes_are_not_given() {
    let _watchdog = Watchdog::start();
    // The first sign would come at once.
    let another = [("WATCHDOG_USEC", "10000000"), ("WATCHDOG_PID", "1")];
    let mut supervised = Supervised::start_with(&another);
    assert_eq!(supervised.any_notice(), "READY=1");
    let client: greeter::Client = capnp_threads::connect(&supervised.server.address).unwrap();
    client.greet_request().call().unwrap();
    supervised.signal("-TERM");
    assert_eq!(supervised.any_notice(), "STOPPING=1");
    assert!(supervised.server.wait().success());
}

#[test]
#[cfg(target_os = "linux")]
fn a_supervisor_may_have_a_socket_without_a_file() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let _watchdog = Watchdog::start();
    let name = format!("capnp-threads-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let mut command = example("serve");
    command.env("NOTIFY_SOCKET", format!("@{name}")).arg("127.0.0.1:0");
    let mut server = process::Server::start(&mut command);
    assert_eq!(notice(&socket), "READY=1");
    signal("-TERM", server.id());
    assert_eq!(notice(&socket), "STOPPING=1");
    assert!(server.wait().success());
}

#[test]
fn a_server_takes_the_sockets_that_its_supervisor_has_opened() {
    let _watchdog = Watchdog::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script =
        "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 127.0.0.1:0".to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(example("serve").get_program());
    let mut server = process::Server::start(command.stdin(OwnedFd::from(listener)));
    assert_eq!(server.address, address.to_string());
    let client: greeter::Client = capnp_threads::connect(&server.address).unwrap();
    client.greet_request().call().unwrap();
    signal("-TERM", server.id());
    assert!(server.wait().success());
}

/// Set for a process that no signal may end in an orderly way.
const CHILD: &str = "SERVING_CHILD";

/// What runs in that process.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let Ok(how) = std::env::var(CHILD) else { return };
    let _watchdog = Watchdog::start();
    let server = |signals| {
        let greeter: greeter::Client = Vat::global().export(Greeter::default());
        let server = Server::new(greeter).listen("127.0.0.1:0").unwrap();
        server.signals(signals).start().unwrap()
    };
    let _alone = server(false);
    if how == "after a server" {
        let ended = server(true);
        ended.stop();
        ended.join().unwrap();
    }
    eprintln!("ready");
    loop {
        std::thread::park();
    }
}

#[test]
fn signals_that_no_server_wants_end_the_process_as_always() {
    let _watchdog = Watchdog::start();
    for how in ["before any server", "after a server"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "serving::child", "--ignored", "--nocapture"]);
        let child = command.env(CHILD, how).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.map(std::io::Result::unwrap).any(|line| line == "ready"), "{how}");
        signal("-TERM", child.id());
        assert_eq!(child.wait().unwrap().signal(), Some(15), "{how}");
    }
}
