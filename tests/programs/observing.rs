//! The examples that show what a program does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::examples::example;
use rpc_testing::process::{Server, installed, output};

/// What a server answers to a browser that asks for a page.
fn page(address: &str) -> String {
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

#[test]
fn traced() {
    let expected = "\
Hello, Ada!
visit
  outgoing call: tracing.capnp:Traced.join
  outgoing call: greeter.capnp:Greeter.greet
  session
    incoming call: greeter.capnp:Greeter.greet
      thinking
";
    assert_eq!(output(&mut example("traced")), expected);
}

#[test]
fn metrics() {
    let server = Server::start(&mut example("metrics"));
    // The server counts the last call once it is answered, which the client may see first.
    let last = "capnp_rpc_call_seconds_count{side=\"incoming\",\
                interface=\"greeter.capnp:Greeter\",method=\"greet\"} 3";
    let page = loop {
        let page = page(&server.address);
        if page.contains(last) {
            break page;
        }
    };
    for side in ["incoming", "outgoing"] {
        let greet = format!("side=\"{side}\",interface=\"greeter.capnp:Greeter\",method=\"greet\"");
        for line in [
            format!("capnp_rpc_calls_total{{{greet},outcome=\"returned\"}} 2"),
            format!("capnp_rpc_calls_total{{{greet},outcome=\"failed\"}} 1"),
            format!("capnp_rpc_call_seconds_count{{{greet}}} 3"),
            format!("capnp_rpc_calls_under_way{{side=\"{side}\"}} 0"),
        ] {
            assert!(page.contains(&line), "{line}\n{page}");
        }
        let bytes = format!("capnp_rpc_call_bytes_total{{{greet},content=\"parameters\"}} ");
        assert!(page.contains(&bytes), "{bytes}\n{page}");
    }
    for line in [
        "capnp_rpc_connections{vat=\"server\"} 1",
        "capnp_rpc_exports{vat=\"server\"} 1",
        "capnp_rpc_imports{vat=\"client\"} 1",
        "capnp_rpc_waiting_jobs{vat=\"server\"} 0",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let sent = |vat: &str| {
        let (_, rest) =
            page.split_once(&format!("capnp_rpc_sent_bytes{{vat=\"{vat}\"}} ")).unwrap();
        rest.lines().next().unwrap().parse::<f64>().unwrap()
    };
    let received = |vat: &str| {
        let (_, rest) =
            page.split_once(&format!("capnp_rpc_received_bytes{{vat=\"{vat}\"}} ")).unwrap();
        rest.lines().next().unwrap().parse::<f64>().unwrap()
    };
    assert!(sent("server") > 0.0 && received("server") > 0.0, "{page}");
    assert!(received("client") > 0.0, "{page}");
}

#[test]
fn dashboard() {
    let server = Server::start(&mut example("dashboard"));
    let data = page(&format!("{}data", server.address));
    assert!(data.starts_with("{\"vat\":\"greeter\","), "{data}");
    let browser =
        ["chromium-headless-shell", "chromium", "google-chrome"].into_iter().find(|name| {
            Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
        });
    let Some(browser) = browser else {
        installed("chromium-headless-shell", &mut Command::new("chromium-headless-shell"));
        return;
    };
    let arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"];
    // The page asks for the data every second; the browser need not really wait for that.
    let shown = || {
        let time = "--virtual-time-budget=5000";
        output(Command::new(browser).args(arguments).arg(time).arg(&server.address))
    };
    // The clients may not have come yet when the page is first asked for.
    let dom = loop {
        let dom = shown();
        if dom.matches("the greeter").count() >= 2 && dom.contains("Guest.name") {
            break dom;
        }
    };
    assert!(dom.contains("<span id=\"vat\">greeter</span>"), "{dom}");
    assert!(dom.contains("2 connections"), "{dom}");
    for method in ["Greeter.greet", "Greeter.greetGuest", "Guest.name"] {
        assert!(dom.contains(&format!("<td>greeter.capnp:{method}</td>")), "{method}: {dom}");
    }
    assert_eq!(dom.matches("<td>127.0.0.1:").count(), 2, "{dom}");
    // It has drawn how many calls come in a second.
    let (_, points) = dom.split_once(" points=\"").unwrap();
    assert!(points.contains(','), "{dom}");
    assert!(dom.contains("<span id=\"gone\"></span>"), "{dom}");
    assert!(dom.contains("class=\"number failures\""), "{dom}");
}
