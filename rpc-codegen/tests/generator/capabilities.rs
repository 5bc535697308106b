//! Capabilities in fields, lists, groups, unions, generics and open pointers.

use capnp::capability::FromClientHook;
use capnp_threads::typed::new_client;
use capnp_threads::{Client, Error, FromClient};

use crate::other_capnp::base;
use crate::torture_capnp::{carrier, defaults, foo, holder};

/// Tells its number.
struct Tagged(u32);

impl foo::Server for Tagged {
    fn foo(&self, _: foo::FooParams, mut results: foo::FooResults) -> Result<(), Error> {
        results.get().set_y(self.0);
        Ok(())
    }
}

impl base::Server for Tagged {
    fn ping(&self, _: base::PingParams, mut results: base::PingResults) -> Result<(), Error> {
        results.get().set_count(self.0);
        Ok(())
    }
}

fn tagged(tag: u32) -> foo::Client {
    new_client(Tagged(tag))
}

fn untyped(tag: u32) -> Client {
    tagged(tag).into_client()
}

fn tag(client: &impl FromClient) -> u32 {
    let client = foo::Client::from_client(client.as_client().clone());
    client.foo_request().call().unwrap().get().unwrap().get_y()
}

fn fill(mut holder: holder::Builder<'_>) {
    holder.set_one(tagged(1));
    let mut list = holder.reborrow().init_list(2);
    list.set(0, tagged(2).into_client_hook());
    list.set(1, tagged(3).into_client_hook());
    let mut lists = holder.reborrow().init_lists(1).init(0, 1);
    lists.set(0, tagged(4).into_client_hook());
    holder.reborrow().init_any().set_as_capability(untyped(5).into_client_hook());
    holder.reborrow().init_capability().set_as_capability(untyped(6).into_client_hook());
    let mut untyped_list = holder.reborrow().init_capabilities(1);
    untyped_list.set(0, untyped(7).into_client_hook());
    holder.reborrow().init_boxed().set_value(tagged(8)).unwrap();
    let mut in_box = holder.reborrow().init_boxed_list().initn_value(1);
    in_box.set(0, untyped(9).into_client_hook());
    let boxed_any = holder.reborrow().init_boxed_any();
    boxed_any.init_value().set_as_capability(untyped(10).into_client_hook());
    let mut inner = holder.reborrow().init_inner();
    inner.set_cap(tagged(11));
    inner.init_deeper().set_cap(tagged(12));
    holder.set_something(tagged(13));
    let imported: base::Client = new_client(Tagged(14));
    holder.set_imported(imported);
    holder.init_holders(1).get(0).set_one(tagged(15));
}

fn check(holder: holder::Reader<'_>) {
    assert!(holder.has_one());
    assert_eq!(tag(&holder.get_one().unwrap()), 1);
    assert_eq!(tag(&holder.get_list().unwrap().get(0).unwrap()), 2);
    assert_eq!(tag(&holder.get_list().unwrap().get(1).unwrap()), 3);
    assert_eq!(tag(&holder.get_lists().unwrap().get(0).unwrap().get(0).unwrap()), 4);
    assert_eq!(tag(&holder.get_any().get_as_capability::<foo::Client>().unwrap()), 5);
    assert_eq!(tag(&holder.get_capability().get_as_capability::<Client>().unwrap()), 6);
    let untyped: Client = holder.get_capabilities().unwrap().get(0).unwrap();
    assert_eq!(tag(&untyped), 7);
    assert_eq!(tag(&holder.get_boxed().unwrap().get_value().unwrap()), 8);
    let in_box: Client = holder.get_boxed_list().unwrap().get_value().unwrap().get(0).unwrap();
    assert_eq!(tag(&in_box), 9);
    let any = holder.get_boxed_any().unwrap().get_value().unwrap();
    assert_eq!(tag(&any.get_as_capability::<foo::Client>().unwrap()), 10);
    assert_eq!(tag(&holder.get_inner().get_cap().unwrap()), 11);
    assert_eq!(tag(&holder.get_inner().get_deeper().get_cap().unwrap()), 12);
    match holder.which().unwrap() {
        holder::Something(client) => assert_eq!(tag(&client.unwrap()), 13),
        _ => panic!("another member"),
    }
    let imported = holder.get_imported().unwrap();
    assert_eq!(imported.ping_request().call().unwrap().get().unwrap().get_count(), 14);
    assert_eq!(tag(&holder.get_holders().unwrap().get(0).get_one().unwrap()), 15);
}

/// Gives back what it is given.
struct Echo;

impl carrier::Server for Echo {
    fn carry(
        &self,
        params: carrier::CarryParams,
        mut results: carrier::CarryResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        check(params.get_holder()?);
        let mut results = results.get();
        results.set_holder(params.get_holder()?)?;
        let cap = params.get_cap().get_as_capability::<Client>()?;
        results.reborrow().init_cap().set_as_capability(cap.into_client_hook());
        results.set_caps(params.get_caps()?)?;
        results.init_any().set_as(params.get_any())?;
        Ok(())
    }

    fn give(&self, _: carrier::GiveParams, mut results: carrier::GiveResults) -> Result<(), Error> {
        let mut results = results.get();
        fill(results.reborrow().init_holder());
        results.set_foo(tagged(100));
        results.reborrow().init_any().set_as_capability(untyped(101).into_client_hook());
        results.init_cap().set_as_capability(untyped(102).into_client_hook());
        Ok(())
    }
}

#[test]
fn capabilities_travel_wherever_they_are() {
    let client = carrier::Client::from_server(Echo);
    let mut request = client.carry_request();
    let mut params = request.get();
    fill(params.reborrow().init_holder());
    params.reborrow().init_cap().set_as_capability(untyped(20).into_client_hook());
    params.reborrow().init_caps(1).set(0, untyped(21).into_client_hook());
    fill(params.init_any().init_as());

    let response = request.call().unwrap();
    let results = response.get().unwrap();
    check(results.get_holder().unwrap());
    assert_eq!(tag(&results.get_cap().get_as_capability::<Client>().unwrap()), 20);
    assert_eq!(tag(&results.get_caps().unwrap().get(0).unwrap()), 21);
    check(results.get_any().get_as().unwrap());

    // On another thread.
    let detached = response.detach();
    std::thread::spawn(move || {
        let response = detached.attach();
        check(response.get().unwrap().get_holder().unwrap());
    })
    .join()
    .unwrap();
}

#[test]
fn what_holds_capabilities_can_be_printed() {
    let client = carrier::Client::from_server(Echo);
    let response = client.give_request().call().unwrap();
    let text = format!("{:?}", response.get().unwrap());
    assert!(text.contains("foo = <external capability>"), "{text}");
    assert!(text.contains("boxed = (value = <opaque pointer>)"), "{text}");
}

#[test]
fn pipelines_lead_to_capabilities() {
    let client = carrier::Client::from_server(Echo);
    let promise = client.give_request().send();
    let pipeline = promise.pipeline();
    // A pipeline may change threads too.
    let pipeline = std::thread::spawn(move || pipeline).join().unwrap();
    assert_eq!(tag(&pipeline.get_foo()), 100);
    assert_eq!(tag(&pipeline.get_any().as_cap()), 101);
    assert_eq!(tag(&pipeline.get_cap().as_cap()), 102);
    let holder = pipeline.get_holder();
    assert_eq!(tag(&holder.get_one()), 1);
    assert_eq!(tag(&holder.get_any().as_cap()), 5);
    assert_eq!(tag(&holder.get_capability().as_cap()), 6);
    assert_eq!(tag(&holder.get_boxed().get_value()), 8);
    assert_eq!(tag(&holder.get_boxed_any().get_value().as_cap()), 10);
    assert_eq!(tag(&holder.get_inner().get_cap()), 11);
    assert_eq!(tag(&holder.get_inner().get_deeper().get_cap()), 12);
    promise.wait().unwrap();
}

#[test]
fn a_missing_capability_reads_as_an_error() {
    let client = carrier::Client::from_server(Echo);
    let request = client.carry_request();
    let error = request.call().unwrap_err();
    assert_eq!(error.kind(), capnp_threads::ErrorKind::Failed);
}

/// Checks that it sees what the schema says.
struct Defaults;

impl defaults::Server for Defaults {
    fn call(
        &self,
        params: defaults::CallParams,
        mut results: defaults::CallResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        assert_eq!(params.get_b(), 123);
        assert_eq!(params.get_c()?, "foo");
        assert_eq!(params.get_d()?.get_text()?, "deep");
        assert_eq!(params.get_e()?.iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!params.has_f());
        assert!((params.get_g() - 1.5).abs() < f64::EPSILON);
        assert!(params.get_h());
        results.get().set_d(params.get_a()?);
        Ok(())
    }
}

#[test]
fn parameters_and_results_have_their_defaults() {
    let client: defaults::Client = new_client(Defaults);
    let mut request = client.call_request();
    request.get().set_a("text");
    let response = request.call().unwrap();
    let results = response.get().unwrap();
    assert_eq!(results.get_d().unwrap(), "text");
    assert_eq!(results.get_e().unwrap(), "bar");
}
