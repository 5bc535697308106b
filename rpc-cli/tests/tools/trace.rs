//! `capnp-threads trace`: the page, as a browser shows it.

use std::path::Path;
use std::process::Command;

use rpc_testing::process::{finished, installed};

use crate::support::{Served, compiler, complaint, far_away, printed};
use crate::tap::Tap;

/// Records a session with two connections: one with calls on results, one that fails.
fn record(file: &Path) {
    let server = Served::calculator();
    let file = file.to_str().unwrap();
    let options = ["--quiet", "--connections", "2", "--record", file];
    let tap = Tap::start(&far_away(&server, 3), &options);
    let path = r#"Calculator.getOperator({"op": "add"}).func.call"#;
    let sum = [path, r#"{"params": [1, 2.5]}"#];
    printed(&[&["call", &tap.address, "calculator.capnp"], &sum[..]].concat());
    complaint(&["call", &tap.address, "calculator.capnp", path]);
    assert_eq!(tap.end(), (Vec::new(), String::new()));
}

/// The page as it is after its program has run, with some state in its address.
fn shown(browser: &str, page: &Path, state: &str) -> String {
    let address = format!("file://{}#{state}", page.display());
    let arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"];
    let output = finished(Command::new(browser).args(arguments).arg(address));
    String::from_utf8(output.stdout).unwrap()
}

fn height(dom: &str) -> f64 {
    let (_, rest) = dom.split_once("<svg width=").unwrap();
    rest.split('"').nth(3).unwrap().parse().unwrap()
}

#[test]
fn recordings_are_drawn_in_a_page_that_a_browser_shows() {
    if !compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    record(&recording);
    let name = recording.to_str().unwrap();
    let page = printed(&["trace", name, "calculator.capnp"]);
    let page = Path::new(page.trim());
    assert_eq!(page, folder.path().join("recording.html"));
    let browser = ["chromium-headless-shell", "chromium", "google-chrome"];
    let found = browser.iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let Some(browser) = found else {
        installed("chromium-headless-shell", &mut Command::new("chromium-headless-shell"));
        return;
    };

    let dom = shown(browser, page, "");
    // Of each connection: bootstrap, two calls and their answers.
    assert_eq!(dom.matches("class=\"message bootstrap\"").count(), 2, "{dom}");
    assert_eq!(dom.matches("class=\"message call pipelined\"").count(), 4, "{dom}");
    assert_eq!(dom.matches("class=\"message return").count(), 6, "{dom}");
    assert_eq!(dom.matches("class=\"message return failed\"").count(), 1, "{dom}");
    assert_eq!(dom.matches("class=\"link\"").count(), 4, "{dom}");
    assert_eq!(dom.matches("class=\"bar").count(), 6, "{dom}");
    assert!(dom.contains("#2 Calculator.Function.call  → in #1"), "{dom}");
    assert!(dom.contains("✗ an operator takes two numbers"), "{dom}");
    assert!(!dom.contains("message finish"), "{dom}");

    // What the page shows can be chosen.
    let one = shown(browser, page, "conn=2&all=1&zoom=4");
    assert_eq!(one.matches("class=\"message bootstrap\"").count(), 1, "{one}");
    assert!(one.contains("class=\"message finish minor\""), "{one}");
    let small = shown(browser, page, "conn=2&all=1&zoom=0");
    assert!(height(&one) > 2.0 * height(&small), "{} {}", height(&one), height(&small));
    let timed = shown(browser, page, "spacing=time&find=operator&sel=3");
    assert!(timed.contains(" dim\"") && timed.contains(" chosen"), "{timed}");
    assert!(timed.contains("<dt>method</dt><dd>Calculator.Function.call</dd>"), "{timed}");
    assert!(timed.contains("\"params\": ["), "{timed}");
}

#[test]
fn what_is_no_recording_is_refused() {
    let (code, text) = complaint(&["trace", "calculator.capnp"]);
    assert!(code == 2 && text.contains("calculator.capnp: this is no recording"), "{text}");
    let (code, text) = complaint(&["trace", "no-such-file"]);
    assert!(code == 2 && text.contains("no-such-file: "), "{text}");
}
