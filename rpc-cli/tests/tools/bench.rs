//! `capnp-threads bench`.

use capnp_threads::{Result, Vat};
use rpc_schema::echo_capnp::echo;
use rpc_testing::process::finished;

use crate::support::{Served, complaint, printed, tool};

const NAMES: [&str; 8] = [
    "ping_us_p50",
    "ping_us_p99",
    "ping_us_max",
    "threads2_calls_per_s",
    "pipelined_w16_calls_per_s",
    "chain10_us",
    "stream64k_MBps",
    "pipelined_w3_calls_per_s",
];
const FIGURES: &str = "ping,threads2,pipelined_w16,chain10,stream64k,pipelined_w3";

#[test]
fn figures_are_lines_or_one_object() {
    let server = Served::echo();
    let arguments = ["bench", &server.address, "--seconds", "0.01", "--figures", FIGURES];
    let lines = printed(&arguments);
    let lines: Vec<_> = lines.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|(name, _)| *name).collect::<Vec<_>>(), NAMES);
    for (name, value) in lines {
        assert!(value.trim().parse::<f64>().unwrap() > 0.0, "{name} {value}");
    }
    let object = printed(&[&arguments[..], &["--json"]].concat());
    let object: serde_json::Map<_, _> = serde_json::from_str(&object).unwrap();
    assert_eq!(object.len(), NAMES.len());
    assert!(NAMES.iter().all(|name| object[*name].as_f64().unwrap() > 0.0));
}

#[test]
fn servers_without_the_interface_are_told() {
    let server = Served::calculator();
    let (code, text) = complaint(&["bench", &server.address, "--seconds", "0"]);
    assert!(code == 1 && text.contains("unimplemented"), "{text}");
    let (code, text) = complaint(&["bench", &server.address, "--figures", "pong"]);
    assert!(code == 2 && text.contains("figures are ping,"), "{text}");
}

/// Says that it was pushed one byte, whatever it was pushed.
struct Forgetful;

impl echo::Server for Forgetful {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(Vat::global().export(Forgetful));
        Ok(())
    }

    fn push(&self, _: echo::PushParams) -> Result<()> {
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, mut results: echo::TotalResults) -> Result<()> {
        results.get().set_bytes(1);
        Ok(())
    }
}

#[test]
fn a_server_that_loses_what_it_is_pushed_is_told() {
    let server = Served::object(Vat::global().export::<echo::Client, _>(Forgetful));
    let arguments = ["bench", &server.address, "--seconds", "0", "--figures", "stream64k"];
    let (code, text) = complaint(&arguments);
    assert!(code == 1 && text.contains("were pushed, and the server counted 1"), "{text}");
}

#[test]
fn there_is_a_limit_to_what_is_outstanding() {
    let server = Served::echo();
    for (figure, code) in [("threads0", 2), ("threads4096", 2), ("pipelined_w4095", 0)] {
        let arguments = ["bench", &server.address, "--seconds", "0", "--figures", figure];
        let output = finished(&mut tool(&arguments));
        assert_eq!(output.status.code(), Some(code), "{figure}");
    }
}
