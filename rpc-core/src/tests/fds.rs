//! File descriptors: with which capabilities they travel, who keeps them, and
//! when they are closed.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::net::{self, Net, limits, transmit};
use super::raw::{self, bootstrap, on, promised};
use crate::cap::client::Client;
use crate::cap::promise::promise;
use crate::fd::{OwnedFd, SharedFd};
use crate::kinds::membrane::{Membrane, MembranePolicy};
use crate::limits::Limits;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::Mutex;
use crate::wire::{
    Attached, Call, Content, Descriptor, Descriptors, Message, Resolve, ReturnKind, Target,
};

fn fd() -> (SharedFd, Weak<OwnedFd>) {
    let fd = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
    let weak = Arc::downgrade(&fd);
    (fd, weak)
}

#[track_caller]
fn assert_is(client: &Client, fd: &Weak<OwnedFd>) {
    assert!(client.fd().is_some_and(|it| Arc::as_ptr(&it) == fd.as_ptr()), "{client:?}");
}

fn is_closed(fd: &Weak<OwnedFd>) -> bool {
    fd.strong_count() == 0
}

/// What a peer sends, with a file descriptor for some.
fn caps(caps: impl IntoIterator<Item = (Descriptor, Option<SharedFd>)>) -> Descriptors {
    let mut table = Descriptors::default();
    for (descriptor, fd) in caps {
        table.push(descriptor, fd);
    }
    table
}

fn call(question: u32, target: Target, table: Descriptors) -> Message {
    let Message::Call(call) = raw::call(question, target, 0, &table.descriptors) else {
        unreachable!()
    };
    let params = Content { caps: table, ..call.params };
    Message::Call(Call { params, ..call })
}

#[test]
fn it_goes_with_its_object_and_the_import_keeps_it() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (fd, weak) = fd();
    let (_, file) = net.object_with_fd("file", fd);
    assert_is(&file, &weak);
    let (_, other) = net.object("other");
    assert!(other.fd().is_none());
    server.keep();

    let call = net.call(&remote, 1, &[other, file]);
    net.step(a, "call 0 on 0 (1) [senderHosted 0, senderHosted 1 fd]");
    net.settle();
    call.ok();
    let [other, file] = server.kept().try_into().unwrap();
    assert!(other.fd().is_none());
    assert_is(&file, &weak);
    assert!(remote.fd().is_none());

    // Whoever has it keeps it open, the import is not needed for that.
    let kept = file.fd();
    drop((other, file, call, remote));
    net.step(b, "release 0 x1");
    net.finish();
    assert!(!is_closed(&weak));
    drop(kept);
    assert!(is_closed(&weak));
}

#[test]
fn no_more_go_than_the_limit_says() {
    for (limit, expected) in [
        (0, "senderHosted 0, senderHosted 1, senderHosted 2"),
        (2, "senderHosted 0 fd, senderHosted 1 fd, senderHosted 2"),
        (3, "senderHosted 0 fd, senderHosted 1 fd, senderHosted 2 fd"),
    ] {
        let mut net = Net::new();
        let (server, client) = net.object("server");
        let limits = Limits { message_fds_sent: limit, ..limits() };
        let (a, _) = net.link_with(limits, None, Some(client));
        let remote = net.bootstrapped(a);
        let files = ["x", "y", "z"].map(|name| net.object_with_fd(name, fd().0).1);
        server.keep();
        let call = net.call(&remote, 1, &files);
        net.step(a, &format!("call 0 on 0 (1) [{expected}]"));
        net.settle();
        let present = server.kept().iter().filter(|file| file.fd().is_some()).count();
        assert_eq!(present, limit as usize);
        drop((remote, call, files));
        net.finish();
    }
}

#[test]
fn a_capability_that_is_sent_twice_needs_one() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let limits = Limits { message_fds_sent: 2, ..limits() };
    let (a, _) = net.link_with(limits, None, Some(client));
    let remote = net.bootstrapped(a);
    let [(x, weak_x), (y, weak_y)] = [fd(), fd()];
    let (_, x) = net.object_with_fd("x", x);
    let (_, y) = net.object_with_fd("y", y);
    server.keep();
    let call = net.call(&remote, 1, &[x.clone(), x, y]);
    net.step(a, "call 0 on 0 (1) [senderHosted 0 fd, senderHosted 0, senderHosted 1 fd]");
    let [first, again, other] = server.kept().try_into().unwrap();
    assert_eq!(first, again);
    assert_is(&again, &weak_x);
    assert_is(&other, &weak_y);
    drop((first, again, other, remote, call));
    net.finish();
    assert!(is_closed(&weak_x) && is_closed(&weak_y));
}

/// The first time there was no room for it.
#[test]
fn an_import_gets_later_what_it_came_without() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let limits = Limits { message_fds_sent: 1, ..limits() };
    let (a, _) = net.link_with(limits, None, Some(client));
    let remote = net.bootstrapped(a);
    let (_, x) = net.object_with_fd("x", fd().0);
    let (y, weak) = fd();
    let (_, y) = net.object_with_fd("y", y);
    server.keep();
    let first = net.call(&remote, 1, &[x, y.clone()]);
    net.settle();
    let [first_kept, without] = server.kept().try_into().unwrap();
    assert!(without.fd().is_none());
    let second = net.call(&remote, 2, &[y]);
    net.step(a, "call 0 on 0 (2) [senderHosted 1 fd]");
    let again = server.kept_one();
    assert_eq!(again, without);
    assert_is(&without, &weak);
    drop((again, without, first_kept, remote, first, second));
    net.finish();
}

#[test]
fn an_import_keeps_the_first_that_came() {
    let (mut raw, server) = raw::callee();
    server.keep();
    let [(first, weak), (second, unwanted)] = [fd(), fd()];
    raw.send(call(1, on(0), caps([(Descriptor::SenderHosted(4), Some(first))])));
    raw.send(call(2, on(0), caps([(Descriptor::SenderHosted(4), Some(second))])));
    assert!(is_closed(&unwanted));
    let kept = server.kept();
    assert_is(&kept[1], &weak);
    drop(kept);
    assert!(is_closed(&weak));
    raw.finish();
}

#[test]
fn a_promise_has_one_when_it_is_resolved() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let (fd, weak) = fd();
    let (_, file) = net.object_with_fd("file", fd);
    server.keep();
    let (promised, fulfiller) = promise();
    let call = net.call(&remote, 1, std::slice::from_ref(&promised));
    net.step(a, "call 0 on 0 (1) [senderPromise 0]");
    let arrived = server.kept_one();
    assert!(arrived.fd().is_none() && promised.fd().is_none());
    fulfiller.fulfill(file);
    assert_is(&promised, &weak);
    net.step(a, "resolve 0 senderHosted 1 fd");
    assert_is(&arrived, &weak);
    drop((arrived, promised, remote, call));
    net.finish();
    assert!(is_closed(&weak));
}

#[test]
fn results_carry_them_also_through_a_vat_in_between() {
    let mut net = Net::new();
    let (fd, weak) = fd();
    let (_, file) = net.object_with_fd("file", fd);
    let (origin, at_origin) = net.object("origin");
    origin.give(vec![file]);
    let (middle, far) = net.link(None, Some(at_origin));
    let far_object = net.bootstrapped(middle);
    let (proxy, at_proxy) = net.object("proxy");
    proxy.forward(far_object);
    let (near, _) = net.link(None, Some(at_proxy));
    let remote = net.bootstrapped(near);

    let call = net.call(&remote, 1, &[]);
    net.settle();
    let arrived = call.cap(0);
    assert_is(&arrived, &weak);
    let _ = far;

    proxy.acknowledge();
    origin.acknowledge();
    drop((arrived, call, remote));
    net.finish();
    assert!(is_closed(&weak));
}

/// What comes back to where it belongs needs no descriptor to be recognised.
#[test]
fn an_own_object_comes_back_with_its_own() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (fd, weak) = fd();
    let (_, file) = net.object_with_fd("file", fd);
    server.echo();
    let call = net.call(&remote, 1, std::slice::from_ref(&file));
    net.step(a, "call 0 on 0 (1) [senderHosted 0 fd]");
    net.step(b, "return 0 results (1) [receiverHosted 0]");
    assert_eq!(call.cap(0), file);
    assert_is(&call.cap(0), &weak);
    drop((call, file, remote));
    net.finish();
    assert!(is_closed(&weak));
}

#[test]
fn what_belongs_to_nothing_of_the_peers_is_closed() {
    let (mut raw, server) = raw::callee();
    server.keep();
    let fds = [fd(), fd(), fd(), fd()];
    let [promise, own, answer, none] = fds.each_ref().map(|(fd, _)| Some(Arc::clone(fd)));
    raw.send(bootstrap(7));
    raw.send(call(
        1,
        on(0),
        caps([
            (Descriptor::SenderPromise(4), promise),
            (Descriptor::ReceiverHosted(0), own),
            (Descriptor::ReceiverAnswer(promised(7, &[])), answer),
            (Descriptor::None, none),
        ]),
    ));
    for (fd, weak) in fds {
        drop(fd);
        assert!(is_closed(&weak));
    }
    assert!(server.kept().iter().all(|client| client.fd().is_none()));
    raw.finish();
}

#[test]
fn what_comes_too_late_or_in_vain_is_closed() {
    let (mut raw, server) = raw::caller(Net::new());
    let table = |fd| caps([(Descriptor::SenderHosted(4), Some(fd))]);
    let ret = |answer, fd| {
        let Message::Return(ret) = raw::ret(answer, 0, &[Descriptor::SenderHosted(4)]) else {
            unreachable!()
        };
        let ReturnKind::Results(results) = ret.outcome else { unreachable!() };
        raw::ret_with(answer, ReturnKind::Results(Content { caps: table(fd), ..results }))
    };

    // A Return after our Finish.
    drop(raw.net.call(&server, 1, &[]));
    let (late, weak) = fd();
    raw.send(ret(0, late));
    assert!(is_closed(&weak));

    // A Resolve of a promise that is no longer referred to.
    let resolve = |fd| {
        let resolution = Ok(Descriptor::SenderHosted(5));
        Message::Resolve(Resolve { promise: 9, resolution, fds: Attached::to_only(Some(fd)) })
    };
    let (unwanted, weak) = fd();
    raw.send(resolve(unwanted));
    assert!(is_closed(&weak));

    // A message that ends the connection, and one after the end.
    let (wrong, weak) = fd();
    raw.send(ret(77, wrong));
    raw.sent();
    assert!(is_closed(&weak));
    let (after, weak) = fd();
    raw.send(resolve(after));
    assert!(is_closed(&weak));
    drop(server);
    raw.finish();
}

#[test]
fn it_outlives_the_connection() {
    let (mut raw, server) = raw::callee();
    server.keep();
    let (fd, weak) = fd();
    raw.send(call(1, on(0), caps([(Descriptor::SenderHosted(4), Some(fd))])));
    let file = server.kept_one();
    raw.net.cut(raw.end);
    assert_is(&file, &weak);
    drop(file);
    assert!(is_closed(&weak));
    raw.finish();
}

/// Closing may take its time.
#[test]
fn none_is_closed_while_a_machine_is_locked() {
    let (mut raw, server) = raw::callee();
    server.keep();
    let (kept, weak) = fd();
    raw.send(call(1, on(0), caps([(Descriptor::SenderHosted(4), Some(kept))])));
    let file = server.kept_one();
    raw.net.machine(raw.end).transact(|_| {
        drop(file);
        assert!(!is_closed(&weak));
    });
    assert!(is_closed(&weak));
    raw.finish();
}

/// Sees, under the lock, whether a file descriptor is open when something is sent.
struct Watching {
    fd: Weak<OwnedFd>,
    seen: Mutex<Vec<bool>>,
}

impl Outbox for Watching {
    fn push(&self, _: Message) {
        self.seen.lock().push(!is_closed(&self.fd));
    }

    fn disconnected(&self) {}
}

#[test]
fn nor_is_what_came_with_a_message_that_fails() {
    let (fd, weak) = fd();
    let watching = Arc::new(Watching { fd: Weak::clone(&weak), seen: Mutex::default() });
    let machine = Machine::new(Settings::default(), Offers::default(), Arc::clone(&watching) as _);
    let nothing = call(0, on(7), caps([(Descriptor::SenderHosted(4), Some(fd))]));
    machine.receive(transmit(nothing));
    assert!(machine.failure().is_some() && is_closed(&weak));
    assert_eq!(*watching.seen.lock(), [true]);
}

/// Says that they pass, and counts how often it was asked.
struct Counting(AtomicUsize);

impl MembranePolicy for Counting {
    fn passes_fds(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst);
        true
    }
}

/// A policy is application code, and capabilities are described under a lock.
#[test]
fn the_policy_of_a_membrane_is_not_asked_when_something_is_sent() {
    let mut net = Net::new();
    let (fd, _weak) = fd();
    let (_, file) = net.object_with_fd("file", fd);
    let (mut raw, server) = raw::caller(net);
    let policy = Arc::new(Counting(AtomicUsize::new(0)));
    let wrapped = Membrane::new(Arc::clone(&policy)).wrap(&file);
    let call = raw.net.call(&server, 1, &[wrapped.clone(), wrapped]);
    raw.expect(&["call 0 on 0 (1) [senderHosted 0 fd, senderHosted 0]"]);
    assert_eq!(policy.0.load(Ordering::SeqCst), 1);
    drop((call, server, file));
    raw.finish();
}
