//! Generic structs, interfaces and methods.

use capnp::any_pointer;
use capnp::capability::FromClientHook;
use capnp::traits::Owned;
use capnp::{data, text};
use capnp_threads::typed::new_client;
use capnp_threads::{Error, FromClient};

use crate::other_capnp::{base, cell};
use crate::torture_capnp::{
    box_, foo, generic, generic_both, leaf, map, scope, text_map, text_to, text_to_box,
};

type TextData = map::Client<text::Owned, data::Owned>;

/// Maps every text to its bytes.
struct Bytes;

impl map::Server<text::Owned, data::Owned> for Bytes {
    fn get(
        &self,
        params: map::GetParams<text::Owned, data::Owned>,
        mut results: map::GetResults<text::Owned, data::Owned>,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_value(params.get_key()?.as_bytes())?;
        results.set_map(new_client(Bytes));
        Ok(())
    }

    fn entry(
        &self,
        params: map::EntryParams<text::Owned, data::Owned>,
        mut results: map::EntryResults<text::Owned, data::Owned>,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_key(params.get_value()?)?;
        results.set_value(params.get_key()?)?;
        Ok(())
    }

    fn key_only(
        &self,
        params: map::KeyOnlyParams<text::Owned>,
        mut results: map::KeyOnlyResults<text::Owned>,
    ) -> Result<(), Error> {
        let params = params.get()?;
        results.get().init_value().set_value(params.get_value()?)?;
        Ok(())
    }

    fn nested(
        &self,
        _: map::NestedParams<text::Owned, data::Owned>,
        mut results: map::NestedResults<text::Owned, data::Owned>,
    ) -> Result<(), Error> {
        results.get().set_walker(new_client(Bytes));
        Ok(())
    }
}

impl map::walker::Server<text::Owned, data::Owned> for Bytes {
    fn next(
        &self,
        _: map::walker::NextParams<text::Owned, data::Owned>,
        mut results: map::walker::NextResults<text::Owned, data::Owned>,
    ) -> Result<(), Error> {
        results.get().set_key("key")?;
        results.get().set_value(&b"value"[..])?;
        Ok(())
    }
}

impl text_map::Server for Bytes {
    fn size(
        &self,
        _: text_map::SizeParams,
        mut results: text_map::SizeResults,
    ) -> Result<(), Error> {
        results.get().set_n(u32::MAX);
        Ok(())
    }
}

fn check_map(client: &TextData) {
    let mut request = client.get_request();
    request.get().set_key("abc").unwrap();
    let promise = request.send();
    let mut again = promise.pipeline().get_map().get_request();
    again.get().set_key("xyz").unwrap();
    assert_eq!(again.call().unwrap().get().unwrap().get_value().unwrap(), b"xyz");
    assert_eq!(promise.wait().unwrap().get().unwrap().get_value().unwrap(), b"abc");

    let mut request = client.entry_request();
    request.get().set_key("k").unwrap();
    request.get().set_value(&b"v"[..]).unwrap();
    let response = request.call().unwrap();
    let entry = response.get().unwrap();
    assert_eq!(entry.get_key().unwrap(), b"v");
    assert_eq!(entry.get_value().unwrap(), "k");

    let mut request = client.key_only_request();
    request.get().set_value("k").unwrap();
    let response = request.call().unwrap();
    assert_eq!(response.get().unwrap().get_value().unwrap().get_value().unwrap(), "k");

    let walker = client.nested_request().send().pipeline().get_walker();
    let response = walker.next_request().call().unwrap();
    assert_eq!(response.get().unwrap().get_key().unwrap(), "key");
    assert_eq!(response.get().unwrap().get_value().unwrap(), b"value");
}

#[test]
fn interfaces_may_be_generic() {
    check_map(&new_client(Bytes));
}

#[test]
fn an_interface_may_extend_a_generic_one() {
    let client = text_map::Client::from_server(Bytes);
    assert_eq!(client.size_request().call().unwrap().get().unwrap().get_n(), u32::MAX);
    let mut request = client.get_request();
    request.get().set_key("inherited").unwrap();
    let response = request.call().unwrap();
    assert_eq!(response.get().unwrap().get_value().unwrap(), b"inherited");
    check_map(&client.into());
}

/// What `Leaf` is, three interfaces further up.
type FooBox = box_::Owned<foo::Owned>;

struct LeafServer;

impl map::Server<text::Owned, FooBox> for LeafServer {
    fn get(
        &self,
        params: map::GetParams<text::Owned, FooBox>,
        mut results: map::GetResults<text::Owned, FooBox>,
    ) -> Result<(), Error> {
        assert_eq!(params.get()?.get_key()?, "foo");
        results.get().init_value().set_value(foo::Client::from_server(LeafServer))?;
        Ok(())
    }
}

impl text_to::Server<FooBox> for LeafServer {}
impl cell::Server<foo::Owned> for LeafServer {
    fn load(
        &self,
        _: cell::LoadParams<foo::Owned>,
        mut results: cell::LoadResults<foo::Owned>,
    ) -> Result<(), Error> {
        results.get().set_value(foo::Client::from_server(LeafServer))?;
        Ok(())
    }
}
impl text_to_box::Server<foo::Owned> for LeafServer {
    fn last(
        &self,
        _: text_to_box::LastParams,
        mut results: text_to_box::LastResults<foo::Owned>,
    ) -> Result<(), Error> {
        results.get().set_value(foo::Client::from_server(LeafServer))?;
        Ok(())
    }
}
impl leaf::Server for LeafServer {}
impl foo::Server for LeafServer {
    fn foo(&self, _: foo::FooParams, mut results: foo::FooResults) -> Result<(), Error> {
        results.get().set_y(77);
        Ok(())
    }
}

fn check_foo(client: &foo::Client) {
    assert_eq!(client.foo_request().call().unwrap().get().unwrap().get_y(), 77);
}

#[test]
fn generic_interfaces_may_extend_generic_ones() {
    let client = leaf::Client::from_server(LeafServer);
    check_foo(&client.last_request().send().pipeline().get_value());
    check_foo(&client.load_request().send().pipeline().get_value());
    let mut request = client.get_request();
    request.get().set_key("foo").unwrap();
    let promise = request.send();
    check_foo(&promise.pipeline().get_value().get_value());
    let response = promise.wait().unwrap();
    check_foo(&response.get().unwrap().get_value().unwrap().get_value().unwrap());

    let up: text_to_box::Client<foo::Owned> = client.clone().into();
    let up: text_to::Client<FooBox> = up.into();
    let up: map::Client<text::Owned, FooBox> = up.into();
    let mut request = up.get_request();
    request.get().set_key("foo").unwrap();
    check_foo(&request.send().pipeline().get_value().get_value());
    let cell: cell::Client<foo::Owned> = client.into();
    check_foo(&cell.load_request().send().pipeline().get_value());
}

/// Gives back what it is given, whatever it is.
struct Identity;

impl generic::Server for Identity {
    fn id(&self, params: generic::IdParams, mut results: generic::IdResults) -> Result<(), Error> {
        let params = params.get()?;
        let value: any_pointer::Reader<'_> = params.get_value()?;
        results.get().set_value(value)?;
        Ok(())
    }

    fn pair(
        &self,
        params: generic::PairParams,
        mut results: generic::PairResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_b(params.get_b()?.get_value()?)?;
        results.init_a().set_value(params.get_a()?)?;
        Ok(())
    }

    fn named(
        &self,
        params: generic::NamedParams,
        mut results: generic::NamedResults,
    ) -> Result<(), Error> {
        results.get().set_value(params.get()?)?;
        Ok(())
    }

    fn push(&self, params: generic::PushParams) -> Result<(), Error> {
        let text: text::Reader<'_> = params.get()?.get_item()?.get_as()?;
        if text == "item" { Ok(()) } else { Err(Error::failed("another item")) }
    }
}

#[test]
fn methods_may_be_generic() {
    let client = generic::Client::from_server(Identity);

    let mut request = client.id_request::<text::Owned>();
    request.get().set_value("text").unwrap();
    assert_eq!(request.call().unwrap().get().unwrap().get_value().unwrap(), "text");

    let mut request = client.id_request::<foo::Owned>();
    request.get().set_value(foo::Client::from_server(LeafServer)).unwrap();
    check_foo(&request.send().pipeline().get_value());

    let mut request = client.pair_request::<text::Owned, data::Owned>();
    request.get().set_a("a").unwrap();
    request.get().init_b().set_value(&b"b"[..]).unwrap();
    let response = request.call().unwrap();
    assert_eq!(response.get().unwrap().get_b().unwrap(), b"b");
    assert_eq!(response.get().unwrap().get_a().unwrap().get_value().unwrap(), "a");

    let mut request = client.named_request::<text::Owned>();
    request.get().set_value("boxed").unwrap();
    let response = request.call().unwrap();
    assert_eq!(response.get().unwrap().get_value().unwrap().get_value().unwrap(), "boxed");

    let mut request = client.push_request::<text::Owned>();
    request.get().set_item("item").unwrap();
    request.send().unwrap();
}

impl generic_both::Server<text::Owned> for Identity {
    fn both(
        &self,
        params: generic_both::BothParams<text::Owned>,
        mut results: generic_both::BothResults<text::Owned>,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_u(params.get_u()?)?;
        results.set_t(params.get_t()?)?;
        Ok(())
    }
}

#[test]
fn methods_of_generic_interfaces_may_be_generic() {
    let client = generic_both::Client::<text::Owned>::from_server(Identity);
    let mut request = client.both_request::<data::Owned>();
    request.get().set_t("t").unwrap();
    request.get().set_u(&b"u"[..]).unwrap();
    let response = request.call().unwrap();
    assert_eq!(response.get().unwrap().get_t().unwrap(), "t");
    assert_eq!(response.get().unwrap().get_u().unwrap(), b"u");
}

struct Inside;

impl scope::inside::Server<text::Owned> for Inside {
    fn put(
        &self,
        params: scope::inside::PutParams<text::Owned>,
        mut results: scope::inside::PutResults<text::Owned>,
    ) -> Result<(), Error> {
        let mut scope = results.get().init_scope();
        scope.set_value(params.get()?.get_value()?)?;
        scope.set_cap(new_client(Inside));
        Ok(())
    }
}

#[test]
fn interfaces_may_lie_in_generic_structs() {
    let client: scope::inside::Client<text::Owned> = new_client(Inside);
    let mut request = client.put_request();
    request.get().set_value("value").unwrap();
    let response = request.call().unwrap();
    let scope = response.get().unwrap().get_scope().unwrap();
    assert_eq!(scope.get_value().unwrap(), "value");
    match scope.which().unwrap() {
        scope::Cap(client) => {
            client.unwrap().put_request().call().unwrap();
        }
        _ => panic!("another member"),
    }
}

/// A server that is generic itself: it passes everything on.
struct Forward<T>(cell::Client<T>);

impl<T: Owned + 'static> cell::Server<T> for Forward<T> {
    fn load(&self, _: cell::LoadParams<T>, mut results: cell::LoadResults<T>) -> Result<(), Error> {
        let response = self.0.load_request().call()?;
        results.get().set_value(response.get()?.get_value()?)?;
        Ok(())
    }
}

#[test]
fn servers_may_be_generic() {
    let inner: cell::Client<foo::Owned> = new_client(LeafServer);
    let outer = cell::Client::from_server(Forward(inner));
    check_foo(&outer.load_request().send().pipeline().get_value());
}

#[test]
fn generic_clients_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<map::Client<text::Owned, box_::Owned<foo::Owned>>>();
    crosses::<capnp_threads::Promise<map::get_results::Owned<text::Owned, data::Owned>>>();
    crosses::<capnp_threads::Detached<map::get_results::Owned<text::Owned, data::Owned>>>();
    crosses::<
        capnp_threads::typed::DeferredResults<map::get_results::Owned<text::Owned, data::Owned>>,
    >();
    crosses::<map::get_results::Pipeline<text::Owned, data::Owned>>();
    let client: base::Client = FromClient::from_client(capnp_threads::Client::null());
    drop(client.into_client_hook());
}
