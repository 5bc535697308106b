//! Iterators that reach through a capability.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use capnp_threads::capnp::text;
use capnp_threads::flow::{FixedWindow, FlowControl};
use capnp_threads::items::{self, ItemSink, Items, item};
use capnp_threads::transport::unix;
use capnp_threads::{
    Client, ConnConfig, Connection, Error, ErrorKind, FromClient, Result, Vat, promise_client,
};
use rpc_schema::greeter_capnp::guest;
use rpc_tests::support::{Watchdog, until};

type Numbers = Items<text::Owned>;
type Sink = ItemSink<text::Owned>;

/// What is at the other end of a connection.
fn remote<C: FromClient>(here: impl FromClient, config: ConnConfig) -> (C, [Connection; 2]) {
    let (near, far) = unix::pair().unwrap();
    let bootstrap: Client = here.into_client();
    let there = Vat::global().connect(far, ConnConfig::new().bootstrap(bootstrap)).unwrap();
    let here = Vat::global().connect(near, config).unwrap();
    (C::from_client(here.bootstrap_client()), [here, there])
}

fn write(number: usize, mut to: item::Builder<'_, text::Owned>) -> Result<()> {
    Ok(to.set_value(&*number.to_string())?)
}

fn read(item: item::Reader<'_, text::Owned>) -> Result<usize> {
    item.get_value()?.to_str()?.parse().map_err(|_| Error::failed("no number"))
}

fn serve(
    items: impl Iterator<Item = Result<usize>> + Send + 'static,
) -> (Numbers, [Connection; 2]) {
    let offered: Numbers = items::serve(Vat::global(), items, write);
    remote(offered, ConnConfig::new())
}

// ---- Pulled

#[test]
fn what_an_iterator_yields_is_pulled_in_order() {
    let _watchdog = Watchdog::start();
    for (batch, ahead) in [(1, 1), (1, 16), (7, 3), (5000, 1)] {
        let (numbers, _connections) = serve((0..6000).map(Ok));
        let mut pulled = items::pull(numbers, read).batch(batch).ahead(ahead);
        assert!((&mut pulled).map(Result::unwrap).eq(0..6000), "{batch} {ahead}");
        assert!(pulled.next().is_none());
    }
    let (none, _connections) = serve(std::iter::empty());
    assert!(items::pull(none, read).next().is_none());
}

#[test]
fn an_iterator_is_not_asked_for_more_than_is_wanted() {
    let _watchdog = Watchdog::start();
    for (batch, ahead) in [(1, 1), (3, 2)] {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let (numbers, _connections) = serve((0..).map(move |n| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(n)
        }));
        let mut pulled = items::pull(numbers, read).batch(batch).ahead(ahead);
        for taken in 0..50 {
            let ahead = batch as usize * ahead;
            let made = made.load(Ordering::SeqCst);
            assert!(made <= taken + ahead, "{made} were made when {taken} were taken");
            if taken == 0 {
                assert_eq!(made, 0, "nobody has asked");
            }
            assert_eq!(pulled.next().unwrap().unwrap(), taken);
        }
    }
}

#[test]
fn items_are_made_ahead_of_whoever_works_on_those_before() {
    let _watchdog = Watchdog::start();
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let (numbers, _connections) = serve((0..).map(move |n| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(n)
    }));
    let mut pulled = items::pull(numbers, read).ahead(3);
    assert_eq!(pulled.next().unwrap().unwrap(), 0);
    until("the next ones to be made", || made.load(Ordering::SeqCst) == 3);
}

#[test]
fn whoever_asks_for_none_or_for_all_items_gets_one_or_some() {
    let _watchdog = Watchdog::start();
    let (numbers, _connections) = serve((0..6000).map(Ok));
    for (most, expected) in [(0, 1), (u32::MAX, 4096), (1, 1)] {
        let mut request = numbers.next_request();
        request.get().set_most(most);
        let response = request.call().unwrap();
        assert_eq!(response.get().unwrap().get_items().unwrap().len(), expected, "{most}");
    }
}

#[test]
fn an_iterator_that_waits_is_interrupted_when_nobody_wants_its_items() {
    let _watchdog = Watchdog::start();
    let (never, _fulfiller) = promise_client::<guest::Client>();
    let (enter, entered) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let (numbers, _connections) = serve(std::iter::from_fn(move || {
        enter.send(()).unwrap();
        tell.send(never.as_client().resolve()).unwrap();
        None
    }));
    let mut request = numbers.next_request();
    request.get().set_most(1);
    let call = request.send();
    entered.recv().unwrap();
    drop(call);
    assert!(told.recv().unwrap().unwrap_err().is_cancellation());
}

#[test]
fn an_error_comes_after_the_items_before_it_and_ends_the_iterator() {
    let _watchdog = Watchdog::start();
    for batch in [1, 2, 3, 10] {
        let items = vec![Ok(1), Ok(2), Err(Error::failed("a bad sector")), Ok(4)];
        let (numbers, _connections) = serve(items.into_iter());
        let mut pulled = items::pull(numbers.clone(), read).batch(batch);
        assert_eq!(pulled.next().unwrap().unwrap(), 1);
        assert_eq!(pulled.next().unwrap().unwrap(), 2);
        let error = pulled.next().unwrap().unwrap_err();
        assert!(error.reason().contains("a bad sector"), "{error}");
        assert!(pulled.next().is_none());
        // Whoever asks again learns that nothing follows.
        assert!(items::pull(numbers, read).next().is_none());
    }
}

/// Tells when it is dropped.
struct Tells(#[expect(dead_code, reason = "dropping it tells")] mpsc::Sender<()>);

#[test]
fn an_iterator_goes_with_whoever_pulls_and_at_its_end() {
    let _watchdog = Watchdog::start();
    let told = |items: fn(Tells) -> Box<dyn Iterator<Item = Result<usize>> + Send>| {
        let (tell, told) = mpsc::channel();
        let (numbers, connections) = serve(items(Tells(tell)));
        (items::pull(numbers, read).ahead(1), told, connections)
    };
    let endless = |tells: Tells| -> Box<dyn Iterator<Item = Result<usize>> + Send> {
        Box::new((0..).map(move |n| {
            let _keep = &tells;
            Ok(n)
        }))
    };
    let (mut pulled, gone, connections) = told(endless);
    pulled.next().unwrap().unwrap();
    // The connections know the bootstrap capability as long as they are there.
    drop(pulled);
    drop(connections);
    gone.recv().unwrap_err();

    let short = |tells: Tells| -> Box<dyn Iterator<Item = Result<usize>> + Send> {
        Box::new((0..1).map(move |n| {
            let _keep = &tells;
            Ok(n)
        }))
    };
    let (mut pulled, gone, connections) = told(short);
    pulled.next().unwrap().unwrap();
    assert!(pulled.next().is_none());
    gone.recv().unwrap_err();
    drop(connections);
}

#[test]
fn a_lost_connection_is_an_error_and_a_panic_is_one() {
    let _watchdog = Watchdog::start();
    let (numbers, [here, _there]) = serve((0..).map(Ok));
    let mut pulled = items::pull(numbers, read).ahead(1);
    pulled.next().unwrap().unwrap();
    here.close();
    assert_eq!(pulled.next().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(pulled.next().is_none());

    let (numbers, _connections) = serve((0..).map(|n| if n < 2 { Ok(n) } else { panic!("two") }));
    let mut pulled = items::pull(numbers.clone(), read).ahead(1);
    assert_eq!(pulled.next().unwrap().unwrap(), 0);
    assert_eq!(pulled.next().unwrap().unwrap(), 1);
    assert!(pulled.next().unwrap().is_err());
    let again = items::pull(numbers, read).next().unwrap().unwrap_err();
    assert!(again.reason().contains("has panicked"), "{again}");
}

// ---- Pushed

fn receive(
    config: ConnConfig,
) -> (Sink, impl Iterator<Item = Result<usize>> + Send, [Connection; 2]) {
    let (sink, received): (Sink, _) = items::receive(Vat::global(), read);
    let (sink, connections) = remote(sink, config);
    (sink, received, connections)
}

#[test]
fn what_is_pushed_is_read_in_order() {
    let _watchdog = Watchdog::start();
    for count in [0, 1, 3000] {
        let (sink, mut received, _connections) = receive(ConnConfig::new());
        let sending = thread::spawn(move || items::send_all((0..count).map(Ok), sink, write));
        assert!(received.by_ref().map(Result::unwrap).eq(0..count));
        assert_eq!(sending.join().unwrap().unwrap(), count as u64);
        assert!(received.next().is_none());
    }
}

#[test]
fn who_pushes_does_not_run_ahead_of_who_reads() {
    let _watchdog = Watchdog::start();
    // One item at a time has room.
    let one = ConnConfig::new().flow_control(FlowControl::Fixed(FixedWindow::new(1)));
    let (sink, mut received, _connections) = receive(one);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let items = (0..200).map(move |n| {
        counter.store(n, Ordering::SeqCst);
        Ok(n)
    });
    let sending = thread::spawn(move || items::send_all(items, sink, write));
    for read in 0..200 {
        let ahead = sent.load(Ordering::SeqCst);
        assert!(ahead <= read + 1, "{ahead} were sent when {read} were read");
        assert_eq!(received.next().unwrap().unwrap(), read);
    }
    assert!(received.next().is_none());
    sending.join().unwrap().unwrap();
}

#[test]
fn who_pushes_is_told_that_nobody_reads_any_more() {
    let _watchdog = Watchdog::start();
    let (sink, mut received, _connections) = receive(ConnConfig::new());
    let sending = thread::spawn(move || items::send_all((0..).map(Ok), sink, write));
    assert_eq!(received.next().unwrap().unwrap(), 0);
    drop(received);
    let error = sending.join().unwrap().unwrap_err();
    assert!(error.reason().contains("nobody reads"), "{error}");
}

#[test]
fn items_that_are_cut_off_are_told_from_those_that_have_ended() {
    let _watchdog = Watchdog::start();
    let (sink, mut received, [here, _there]) = receive(ConnConfig::new());
    let items = vec![Ok(1), Err(Error::failed("a bad sector"))];
    let failed = items::send_all(items, sink, write).unwrap_err();
    assert!(failed.reason().contains("a bad sector"), "{failed}");
    assert_eq!(received.next().unwrap().unwrap(), 1);
    here.close();
    assert_eq!(received.next().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(received.next().is_none());
}

#[test]
fn a_reader_that_cannot_read_an_item_ends_the_stream() {
    let _watchdog = Watchdog::start();
    let (sink, mut received, _connections) = receive(ConnConfig::new());
    let sending = thread::spawn(move || {
        items::send_all(["1", "one", "2"].map(Ok), sink, |text, mut to| Ok(to.set_value(text)?))
    });
    assert_eq!(received.next().unwrap().unwrap(), 1);
    assert!(received.next().unwrap().unwrap_err().reason().contains("no number"));
    assert!(received.next().is_none());
    // It is told the reader's error, or that nobody reads the items behind.
    sending.join().unwrap().unwrap_err();

    let (sink, mut received, _connections) = receive(ConnConfig::new());
    let mut request = sink.push_request();
    request.get().init_item().set_value("one").unwrap();
    request.send().unwrap();
    received.next().unwrap().unwrap_err();
    let error = sink.as_client().finish_stream().unwrap_err();
    assert!(error.reason().contains("no number"), "{error}");
}

#[test]
fn a_sink_does_something_with_each_item_until_the_end_or_an_error() {
    let _watchdog = Watchdog::start();
    let offered = |tell: mpsc::Sender<usize>| -> Sink {
        items::sink(Vat::global(), move |item| {
            tell.send(read(item)?).map_err(|_| Error::failed("nobody listens"))
        })
    };
    let (tell, told) = mpsc::channel();
    let (sink, _connections): (Sink, _) = remote(offered(tell), ConnConfig::new());
    assert_eq!(items::send_all((0..100).map(Ok), sink.clone(), write).unwrap(), 100);
    // It lets go of what it has, although the capability is still there.
    assert!(told.into_iter().eq(0..100));
    let error = items::send_all([Ok(1)], sink, write).unwrap_err();
    assert!(error.reason().contains("was ended before"), "{error}");

    let (tell, told) = mpsc::channel();
    drop(told);
    let (sink, _connections): (Sink, _) = remote(offered(tell), ConnConfig::new());
    let error = items::send_all((0..).map(Ok), sink, write).unwrap_err();
    assert!(error.reason().contains("nobody listens"), "{error}");
}

// ---- Capabilities as items

struct Guest(usize);

impl guest::Server for Guest {
    fn name(&self, _: guest::NameParams, mut results: guest::NameResults) -> Result<()> {
        results.get().set_name(self.0.to_string());
        Ok(())
    }
}

fn name(guest: &guest::Client) -> String {
    guest.name_request().call().unwrap().get().unwrap().get_name().unwrap().to_string().unwrap()
}

#[test]
fn items_may_be_capabilities() {
    let _watchdog = Watchdog::start();
    let guests = || (0..3).map(|n| Ok(Vat::global().export::<guest::Client, _>(Guest(n))));
    let offered: Items<guest::Owned> =
        items::serve(Vat::global(), guests(), |guest, mut to| Ok(to.set_value(guest)?));
    let (offered, _connections): (Items<guest::Owned>, _) = remote(offered, ConnConfig::new());
    let pulled = items::pull(offered, |item| Ok(item.get_value()?));
    let names: Vec<_> = pulled.map(|guest| name(&guest.unwrap())).collect();
    assert_eq!(names, ["0", "1", "2"]);

    let (sink, received): (ItemSink<guest::Owned>, _) =
        items::receive(Vat::global(), |item| Ok(item.get_value()?));
    let (sink, _connections): (ItemSink<guest::Owned>, _) = remote(sink, ConnConfig::new());
    let sending = thread::spawn(move || {
        items::send_all(guests(), sink, |guest, mut to| Ok(to.set_value(guest)?)).unwrap();
    });
    let names: Vec<_> = received.map(|guest| name(&guest.unwrap())).collect();
    assert_eq!(names, ["0", "1", "2"]);
    sending.join().unwrap();
}

#[test]
fn other_methods_are_refused() {
    let _watchdog = Watchdog::start();
    let (sink, _received): (Sink, _) = items::receive(Vat::global(), read);
    let guest = guest::Client::from_client(sink.into_client());
    let error = guest.name_request().call().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}
