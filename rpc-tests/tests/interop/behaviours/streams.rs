//! Streams to every server: windows, ends, errors.

use std::collections::HashSet;

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::flow::{FixedWindow, FlowControl};
use capnp_threads_core::{Error, Result};
use rpc_schema::test_capnp::{test_call_order, test_more_stuff, test_streaming};
use rpc_schema::test_control_capnp::{test_control, test_objects};

use super::peers::{Session, at_each_server};
use rpc_tests::support::until;

const TCP: &str = "127.0.0.1:0";

fn their_stream(session: &Session) -> test_streaming::Client {
    let objects: test_objects::Client = session.connection.bootstrap();
    let response = objects.test_streaming_request().call().unwrap();
    response.get().unwrap().get_object().unwrap()
}

fn send(stream: &test_streaming::Client, i: u32) -> Result<()> {
    let mut request = stream.do_stream_i_request();
    request.get().set_i(i);
    request.send()
}

fn finish(stream: &test_streaming::Client) -> Result<u32> {
    Ok(stream.finish_stream_request().call()?.get()?.get_total_i())
}

/// The number behind `#`.
fn question(line: &str) -> u32 {
    let digits = line.split('#').nth(1).unwrap();
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

/// What happened to the calls of the stream, in order.
enum Step {
    Call(u32),
    Return(u32),
    Finish(u32),
}

/// The messages so far that can concern a stream: its calls, and every Return and
/// Finish, also those of other questions, because a stream's ids are used again.
fn steps(session: &Session) -> Vec<Step> {
    let call = format!("{:#018x}/0", test_streaming::Client::TYPE_ID);
    let step = |line: String| {
        if line.starts_with("-> call ") && line.contains(&call) {
            Some(Step::Call(question(&line)))
        } else if line.starts_with("<- return ") {
            Some(Step::Return(question(&line)))
        } else if line.starts_with("-> finish ") {
            Some(Step::Finish(question(&line)))
        } else {
            None
        }
    };
    session.lines().into_iter().filter_map(step).collect()
}

/// With a window that has room for one message there is never a second one under
/// way.
#[test]
fn a_window_holds_the_sender_back_until_the_peer_has_answered_w() {
    fn narrow(config: capnp_threads_core::ConnConfig) -> capnp_threads_core::ConnConfig {
        config.flow_control(FlowControl::Fixed(FixedWindow::new(1)))
    }
    at_each_server(TCP, &[], narrow, |session| {
        let stream = their_stream(session);
        for i in 1..=20 {
            send(&stream, i).unwrap();
        }
        assert_eq!(finish(&stream).unwrap(), 210, "{}", session.server);
        let (mut open, mut calls) = (None, 0);
        for step in steps(session) {
            match step {
                Step::Call(id) => {
                    assert_eq!(open.replace(id), None, "{}: two at once", session.server);
                    calls += 1;
                }
                Step::Return(id) if open == Some(id) => open = None,
                Step::Return(_) | Step::Finish(_) => {}
            }
        }
        assert_eq!(calls, 20);
    });
}

/// Passes what is streamed to it on to another stream.
struct Relay(test_streaming::Client);

impl test_streaming::Server for Relay {
    fn do_stream_i(&self, params: test_streaming::DoStreamIParams) -> Result<()> {
        send(&self.0, params.get()?.get_i())
    }

    fn finish_stream(
        &self,
        _: test_streaming::FinishStreamParams,
        mut results: test_streaming::FinishStreamResults,
    ) -> Result<()> {
        results.get().set_total_i(finish(&self.0)?);
        Ok(())
    }
}

#[test]
fn a_stream_goes_on_from_a_local_object_to_a_remote_one_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let stream: test_streaming::Client = session.vat.export(Relay(their_stream(session)));
            for i in 1..=200 {
                send(&stream, i).unwrap();
            }
            assert_eq!(finish(&stream).unwrap(), 20_100, "{}", session.server);
        },
    );
}

/// Fails at one of the calls.
struct Fails;

const REASON: &str = "the third was one too many";

impl test_streaming::Server for Fails {
    fn do_stream_i(&self, params: test_streaming::DoStreamIParams) -> Result<()> {
        if params.get()?.get_i() == 3 { Err(Error::failed(REASON)) } else { Ok(()) }
    }

    fn finish_stream(
        &self,
        _: test_streaming::FinishStreamParams,
        _: test_streaming::FinishStreamResults,
    ) -> Result<()> {
        Ok(())
    }
}

/// The stream goes through a promise of the peer's, which sends it back to an object
/// of ours.
#[test]
fn an_error_in_a_stream_shows_at_its_end_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let ours: test_streaming::Client = session.vat.export(Fails);
            let theirs: test_more_stuff::Client = session.connection.bootstrap();
            let mut request = theirs.echo_request();
            request.get().set_cap(ours.clone().cast_to::<test_call_order::Client>());
            let stream: test_streaming::Client = request.send().pipeline().get_cap().cast_to();
            let sent: Result<Vec<()>> = (1..=5).map(|i| send(&stream, i)).collect();
            // Whoever goes on may hear of it before the end.
            if let Err(error) = sent {
                assert!(error.reason().contains(REASON), "{}: {error}", session.server);
            }
            let error = finish(&stream).unwrap_err();
            assert!(error.reason().contains(REASON), "{}: {error}", session.server);
        },
    );
}

/// What was sent is neither finished before its answer nor forgotten.
#[test]
fn dropping_the_capability_does_not_cancel_the_stream_w() {
    const CALLS: u32 = 50;
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let control: test_control::Client = session.connection.bootstrap();
            control.reset_request().call().unwrap();
            let stream = their_stream(session);
            for i in 1..=CALLS {
                send(&stream, i).unwrap();
            }
            drop(stream);
            until("every call of the stream to arrive", || {
                let response = control.call_counts_request().call().unwrap();
                let counts = response.get().unwrap().get_counts().unwrap();
                let mut of_stream = counts
                    .iter()
                    .filter(|c| c.get_interface_id() == test_streaming::Client::TYPE_ID);
                of_stream.next().is_some_and(|count| count.get_calls() == u64::from(CALLS))
            });
            let mut open = HashSet::new();
            let mut calls = 0;
            for step in steps(session) {
                match step {
                    Step::Call(id) => {
                        assert!(open.insert(id));
                        calls += 1;
                    }
                    Step::Return(id) => {
                        open.remove(&id);
                    }
                    Step::Finish(id) => {
                        assert!(!open.contains(&id), "{}: cancelled", session.server);
                    }
                }
            }
            assert_eq!(calls, CALLS);
        },
    );
}
