//! Sockets that a supervisor hands over. It does what systemd does: the sockets are
//! descriptors from 3 on, and the environment tells how many there are, and for whom.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use capnp_threads_transport::{Address, Listener, unix};

/// Set for the process that gets the sockets.
const CHILD: &str = "INHERITED_CHILD";

/// What runs in that process. Its report is what it complains.
#[test]
#[ignore = "run by the tests below"]
fn child() {
    let Ok(expected) = std::env::var(CHILD) else { return };
    let listeners = match Listener::inherited() {
        Ok(listeners) => listeners,
        Err(error) => {
            eprintln!("error: {error}");
            return;
        }
    };
    assert!(Listener::inherited().unwrap().is_empty(), "they are handed over once");
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_address().unwrap().to_string()).collect();
    assert_eq!(addresses.join(" "), expected);
    for listener in &listeners {
        let served = listener.accept().unwrap();
        served.control.shutdown();
    }
    eprintln!("served");
}

/// Runs that process with two sockets, for the process whose id is `pid`.
fn hand_over(sockets: [OwnedFd; 2], pid: &str, expected: &str) -> Output {
    let [first, second] = sockets;
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_FDS=2 LISTEN_PID={pid} exec \"$0\" \"$@\""
    );
    Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inherited::child", "--ignored", "--nocapture"])
        .env(CHILD, expected)
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

fn report(output: &Output) -> String {
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{report}");
    report
}

#[test]
fn they_are_served_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (unix, tcp) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("[::1]:0").unwrap());
    let tcp_address = tcp.local_addr().unwrap();
    let expected = format!("{} {tcp_address}", Address::Unix(path.clone()));
    // They are in the backlog when the server starts.
    let first = unix::connect(&path).unwrap();
    let second = TcpStream::connect(tcp_address).unwrap();
    let output = hand_over([unix.into(), tcp.into()], "$$", &expected);
    assert!(report(&output).contains("served"));
    assert!(path.exists(), "the supervisor's file is left alone");
    drop((first, second));
}

#[test]
fn those_of_another_process_are_not_taken() {
    let sockets = [(); 2].map(|()| OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()));
    assert!(report(&hand_over(sockets, "1", "")).contains("served"));
}

#[test]
fn what_does_not_listen_is_refused() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
    for other in [connected.into(), UdpSocket::bind("127.0.0.1:0").unwrap().into()] {
        let listening = listening.try_clone().unwrap();
        let report = report(&hand_over([listening.into(), other], "$$", ""));
        assert!(
            report.contains("error: the inherited descriptor 1 is no stream socket"),
            "{report}"
        );
    }
}
