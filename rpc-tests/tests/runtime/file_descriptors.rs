//! File descriptors that travel with capabilities, between vats with real threads
//! and sockets.
//!
//! A pipe tells everything: whoever gets its writing end writes, and its reading
//! end comes to the end when every copy of the other was closed, wherever it went.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::sync::Mutex;

use capnp_threads_core::capnp::data;
use capnp_threads_core::capnp::message::Builder;
use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::MessageWriter;
use capnp_threads_core::typed::{CapabilityListExt, new_client_with_fd};
use capnp_threads_core::{Client, ConnConfig, FromClient, Limits, Result, Vat, promise_client};
use capnp_threads_transport::unix;
use rpc_schema::rpc_capnp::message;
use rpc_schema::test_capnp::{test_interface, test_more_stuff, test_pipeline};

use rpc_tests::support::raw::{Cap, Outcome, RawPeer};
use rpc_tests::support::{Pair, Watchdog, Wire};

/// An object without methods.
struct Nothing;

impl test_interface::Server for Nothing {}

/// A capability that a pipe's writing end belongs to, and the reading end.
fn pipe(vat: &Vat) -> (test_interface::Client, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (vat.export_with_fd(Nothing, writer), reader)
}

/// What was written, once every copy of the writing end is closed.
fn read_to_end(mut pipe: PipeReader) -> String {
    let _doing = rpc_tests::support::watchdog::doing("every copy of a pipe's end to be closed");
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// Writes to the file that belongs to a capability, if there is one.
fn write(to: &Client, text: &str) -> Result<()> {
    if let Some(fd) = to.fd() {
        File::from(fd.try_clone()?).write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Writes to whatever comes with its parameters.
#[derive(Default)]
struct Scribe {
    held: Mutex<Option<test_interface::Client>>,
}

impl Scribe {
    fn pipeline(vat: &Vat) -> Client {
        vat.export::<test_pipeline::Client, _>(Scribe::default()).into_client()
    }

    fn more_stuff(vat: &Vat) -> Client {
        vat.export::<test_more_stuff::Client, _>(Scribe::default()).into_client()
    }
}

impl test_pipeline::Server for Scribe {
    /// Writes the index of each capability in the list to its file.
    fn test_pointers(
        &self,
        params: test_pipeline::TestPointersParams,
        _: test_pipeline::TestPointersResults,
    ) -> Result<()> {
        for (index, cap) in params.get()?.get_list()?.iter().enumerate() {
            write(cap?.as_client(), &index.to_string())?;
        }
        Ok(())
    }

    /// Returns a capability with a file that says "hello", behind so many bytes.
    fn get_cap(
        &self,
        params: test_pipeline::GetCapParams,
        mut results: test_pipeline::GetCapResults,
    ) -> Result<()> {
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(b"hello")?;
        let mut results = results.get();
        results.reborrow().init_s(params.get()?.get_n());
        results
            .init_out_box()
            .set_cap(capnp_threads_core::typed::new_client_with_fd(Nothing, reader));
        Ok(())
    }
}

impl rpc_schema::test_capnp::test_call_order::Server for Scribe {}

impl test_more_stuff::Server for Scribe {
    fn hold(
        &self,
        params: test_more_stuff::HoldParams,
        _: test_more_stuff::HoldResults,
    ) -> Result<()> {
        let cap = params.get()?.get_cap()?;
        write(cap.as_client(), "held")?;
        let before = self.held.lock().unwrap().replace(cap);
        drop(before);
        Ok(())
    }

    fn call_foo(
        &self,
        params: test_more_stuff::CallFooParams,
        _: test_more_stuff::CallFooResults,
    ) -> Result<()> {
        write(params.get()?.get_cap()?.as_client(), "foo")
    }

    fn call_foo_when_resolved(
        &self,
        params: test_more_stuff::CallFooWhenResolvedParams,
        mut results: test_more_stuff::CallFooWhenResolvedResults,
    ) -> Result<()> {
        let cap = params.get()?.get_cap()?;
        let before = if cap.as_client().fd().is_some() { "with" } else { "without" };
        write(&cap.as_client().resolve()?, "resolved")?;
        results.get().set_s(before);
        Ok(())
    }

    fn get_held(
        &self,
        _: test_more_stuff::GetHeldParams,
        mut results: test_more_stuff::GetHeldResults,
    ) -> Result<()> {
        results.get().set_cap(self.held.lock().unwrap().clone().unwrap());
        Ok(())
    }
}

/// Has the server write to each of a list, with so much padding in the message.
fn write_indices(scribe: &test_pipeline::Client, caps: &[test_interface::Client], padding: usize) {
    let mut request = scribe.test_pointers_request();
    let mut params = request.get();
    let filling = vec![7_u8; padding];
    params.reborrow().get_obj().set_as::<data::Owned>(filling.as_slice()).unwrap();
    let mut list = params.init_list(u32::try_from(caps.len()).unwrap());
    for (index, cap) in (0..).zip(caps) {
        list.set_client(index, cap.clone());
    }
    request.call().unwrap();
}

fn call_foo(scribe: &test_more_stuff::Client, cap: &test_interface::Client) {
    let mut request = scribe.call_foo_request();
    request.get().set_cap(cap.clone());
    request.call().unwrap();
}

fn hold(scribe: &test_more_stuff::Client, cap: &test_interface::Client) {
    let mut request = scribe.hold_request();
    request.get().set_cap(cap.clone());
    request.call().unwrap();
}

#[test]
fn each_capability_arrives_with_its_own_whatever_else_is_in_the_message() {
    let _watchdog = Watchdog::start();
    for wire in [Wire::Unix, Wire::Memory] {
        let pair = Pair::configured(Scribe::pipeline, wire, |c| c, |c| c);
        let scribe: test_pipeline::Client = pair.bootstrap();
        for padding in [0, 1 << 20] {
            let vat = &pair.client_vat;
            let [(a, pipe_a), (b, pipe_b)] = [pipe(vat), pipe(vat)];
            let plain: test_interface::Client = vat.export(Nothing);
            assert!(plain.as_client().fd().is_none());
            write_indices(&scribe, &[a.clone(), plain, b], padding);
            // In between it may have been released, or not.
            write_indices(&scribe, &[a], padding);
            assert_eq!(read_to_end(pipe_a), "00", "{wire:?} {padding}");
            assert_eq!(read_to_end(pipe_b), "2", "{wire:?} {padding}");

            let mut request = scribe.get_cap_request();
            request.get().set_n(u32::try_from(padding).unwrap());
            let response = request.call().unwrap();
            let results = response.get().unwrap();
            assert_eq!(results.get_s().unwrap().len(), padding);
            let cap = results.get_out_box().unwrap().get_cap().unwrap();
            let mut file = File::from(cap.as_client().fd().unwrap().try_clone().unwrap());
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
        drop(scribe);
        pair.finish();
    }
}

#[test]
fn over_wires_that_carry_none_capabilities_go_alone() {
    let _watchdog = Watchdog::start();
    for wire in [Wire::Tcp, Wire::Bytes] {
        let pair = Pair::configured(Scribe::pipeline, wire, |c| c, |c| c);
        let scribe: test_pipeline::Client = pair.bootstrap();
        let (cap, pipe) = pipe(&pair.client_vat);
        assert!(cap.as_client().fd().is_some());
        write_indices(&scribe, &[cap], 0);
        assert_eq!(read_to_end(pipe), "");
        drop(scribe);
        pair.finish();
    }
}

fn limited(change: impl Fn(&mut Limits)) -> impl FnOnce(ConnConfig) -> ConnConfig {
    let mut limits = Limits::default();
    change(&mut limits);
    move |config| config.limits(limits)
}

#[test]
fn those_beyond_a_limit_are_absent_and_closed() {
    let _watchdog = Watchdog::start();
    let check = |pair: Pair, expected: [&str; 4]| {
        let scribe: test_pipeline::Client = pair.bootstrap();
        let (caps, pipes): (Vec<_>, Vec<_>) = (0..4).map(|_| pipe(&pair.client_vat)).unzip();
        write_indices(&scribe, &caps, 0);
        drop(caps);
        let written: Vec<_> = pipes.into_iter().map(read_to_end).collect();
        assert_eq!(written, expected);
        drop(scribe);
        pair.finish();
    };
    let pair = |of_client: fn(&mut Limits), of_server: fn(&mut Limits)| {
        let (of_client, of_server) = (limited(of_client), limited(of_server));
        Pair::configured(Scribe::pipeline, Wire::Unix, of_client, of_server)
    };
    check(pair(|_| {}, |_| {}), ["0", "1", "2", "3"]);
    check(pair(|l| l.message_fds_sent = 3, |_| {}), ["0", "1", "2", ""]);
    check(pair(|_| {}, |l| l.message_fds_received = 2), ["0", "1", "", ""]);
    check(pair(|_| {}, |l| l.message_fds_received = 0), [""; 4]);
    check(pair(|_| {}, |l| l.open_fds = 1), ["0", "", "", ""]);
}

#[test]
fn those_that_are_open_already_count() {
    let _watchdog = Watchdog::start();
    let few = limited(|limits| limits.open_fds = 1);
    let pair = Pair::configured(Scribe::more_stuff, Wire::Unix, |c| c, few);
    let scribe: test_more_stuff::Client = pair.bootstrap();
    let vat = &pair.client_vat;
    let [(a, pipe_a), (b, pipe_b)] = [pipe(vat), pipe(vat)];
    hold(&scribe, &a);
    call_foo(&scribe, &b);
    hold(&scribe, &vat.export(Nothing));
    // Now there is room for one.
    call_foo(&scribe, &b);
    drop((a, b));
    assert_eq!(read_to_end(pipe_a), "held");
    assert_eq!(read_to_end(pipe_b), "foo");
    drop(scribe);
    pair.end();
}

#[test]
fn the_same_capability_twice_in_one_message_is_one_with_a_file() {
    let _watchdog = Watchdog::start();
    let one = limited(|limits| limits.message_fds_sent = 1);
    let pair = Pair::configured(Scribe::pipeline, Wire::Unix, one, |c| c);
    let scribe: test_pipeline::Client = pair.bootstrap();
    let (cap, pipe) = pipe(&pair.client_vat);
    write_indices(&scribe, &[cap.clone(), cap.clone(), cap], 0);
    assert_eq!(read_to_end(pipe), "012");
    drop(scribe);
    pair.finish();
}

#[test]
fn a_promise_gets_one_when_it_is_resolved() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(Scribe::more_stuff, Wire::Unix, |c| c, |c| c);
    let scribe: test_more_stuff::Client = pair.bootstrap();
    let (cap, pipe) = pipe(&pair.client_vat);
    let (promised, fulfiller) = promise_client::<test_interface::Client>();
    let mut request = scribe.call_foo_when_resolved_request();
    request.get().set_cap(promised);
    let promise = request.send();
    fulfiller.fulfill(cap);
    let response = promise.wait().unwrap();
    // Whether the method looked before the resolution came is up to the threads.
    let looked = response.get().unwrap().get_s().unwrap().to_string().unwrap();
    assert!(["with", "without"].contains(&looked.as_str()), "{looked}");
    drop((response, promise));
    assert_eq!(read_to_end(pipe), "resolved");
    drop(scribe);
    pair.finish();
}

/// The middle vat passes on what the first one has, and what comes back is the
/// very same file.
#[test]
fn a_vat_in_between_passes_them_on() {
    let _watchdog = Watchdog::start();
    let far = Pair::configured(Scribe::more_stuff, Wire::Unix, |c| c, |c| c);
    let scribe: test_more_stuff::Client = far.bootstrap();
    let near = Pair::configured(|_| scribe.into_client(), Wire::Unix, |c| c, |c| c);
    let scribe: test_more_stuff::Client = near.bootstrap();
    let (cap, pipe) = pipe(&near.client_vat);
    hold(&scribe, &cap);
    call_foo(&scribe, &cap);
    let back = scribe.get_held_request().call().unwrap().get().unwrap().get_cap().unwrap();
    assert_eq!(back.as_client(), cap.as_client());
    hold(&scribe, &near.client_vat.export(Nothing));
    drop((cap, back));
    assert_eq!(read_to_end(pipe), "heldfoo");
    drop(scribe);
    near.end();
    far.end();
}

#[test]
fn a_file_outlives_its_capability_and_its_connection() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(Scribe::pipeline, Wire::Unix, |c| c, |c| c);
    let scribe: test_pipeline::Client = pair.bootstrap();
    let response = scribe.get_cap_request().call().unwrap();
    let cap = response.get().unwrap().get_out_box().unwrap().get_cap().unwrap();
    let fd: SharedFd = cap.as_client().fd().unwrap();
    drop((cap, response, scribe));
    pair.finish();
    let mut text = String::new();
    File::from(fd.try_clone().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

/// The numbers of file descriptors that were closed are used for the next ones,
/// here and there: what is written must still arrive where it belongs.
#[test]
fn numbers_that_are_used_again_are_not_mixed_up() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(Scribe::pipeline, Wire::Unix, |c| c, |c| c);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let scribe: test_pipeline::Client = pair.bootstrap();
                for round in 0..50 {
                    let count = 1 + round % 4;
                    let pipes = (0..count).map(|_| pipe(&pair.client_vat));
                    let (caps, pipes): (Vec<_>, Vec<_>) = pipes.unzip();
                    write_indices(&scribe, &caps, 100 * round);
                    drop(caps);
                    for (index, pipe) in pipes.into_iter().enumerate() {
                        assert_eq!(read_to_end(pipe), index.to_string());
                    }
                }
            });
        }
    });
    pair.finish();
}

#[test]
fn an_object_of_this_process_needs_no_connection() {
    let (reader, writer) = io::pipe().unwrap();
    let cap: test_interface::Client = new_client_with_fd(Nothing, writer);
    let (promised, fulfiller) = promise_client::<test_interface::Client>();
    assert!(promised.as_client().fd().is_none());
    fulfiller.fulfill(cap);
    write(promised.as_client(), "here").unwrap();
    drop(promised);
    assert_eq!(read_to_end(reader), "here");
}

// ---- Peers that do not keep to the rules

fn built(fill: impl FnOnce(message::Builder<'_>), fds: Vec<SharedFd>) -> Message {
    let mut builder = Builder::new_default();
    fill(builder.init_root());
    let mut message = Message::from(builder);
    message.set_fds(fds);
    message
}

/// A raw peer, and a way for it to send file descriptors.
fn raw_peer(vat: &Vat) -> (RawPeer, Box<dyn MessageWriter>, capnp_threads_core::Connection) {
    let offered = Scribe::more_stuff(vat);
    let (raw, connection) = RawPeer::connect(vat, ConnConfig::new().bootstrap(offered));
    let writer = unix::from_stream(raw.writer()).unwrap().writer;
    (raw, writer, connection)
}

#[test]
fn what_nobody_asked_for_is_closed() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let (mut raw, mut writer, connection) = raw_peer(&vat);
    let (reader, pipe) = io::pipe().unwrap();
    let fd: SharedFd = std::sync::Arc::new(pipe.into());
    let with_fds = |fill: &dyn Fn(message::Builder<'_>)| built(fill, vec![fd.clone(); 20]);
    let messages = [
        with_fds(&|root| root.init_bootstrap().set_question_id(0)),
        with_fds(&|root| {
            let mut call = root.init_call();
            call.set_question_id(1);
            call.reborrow().init_target().init_promised_answer();
            // An index beyond what comes, and one for what is no object of the peer's.
            let mut caps = call.init_params().init_cap_table(2);
            caps.reborrow().get(0).set_sender_hosted(3);
            caps.reborrow().get(0).set_attached_fd(200);
            caps.reborrow().get(1).set_none(());
            caps.get(1).set_attached_fd(0);
        }),
        with_fds(&|root| root.init_finish().set_question_id(77)),
        with_fds(&|root| _ = root.init_provide()),
    ];
    drop(fd);
    writer.write(&mut messages.into()).unwrap();
    assert!(matches!(raw.outcome(0), Outcome::Results(caps) if caps == [Cap::SenderHosted(0)]));
    assert!(matches!(raw.outcome(1), Outcome::Exception(_)));
    raw.sync(2);
    assert_eq!(read_to_end(reader), "");
    assert_eq!(connection.failure(), None);
}

#[test]
fn what_a_peer_never_reads_is_closed_with_the_connection() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let (raw, connection) = RawPeer::connect(&vat, ConnConfig::new());
    let scribe: test_pipeline::Client = connection.bootstrap();
    let (cap, pipe) = pipe(&vat);
    let mut request = scribe.test_pointers_request();
    request.get().init_list(1).set_client(0, cap);
    let promise = request.send();
    drop(raw);
    assert!(promise.wait().is_err());
    assert_eq!(read_to_end(pipe), "");
}
