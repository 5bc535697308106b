//! Names that Rust does not allow, or that generated code has itself.

use capnp_threads::{Error, ErrorKind};

use crate::deep::down::moved_capnp::{chosen, moved};
use crate::torture_capnp::{clashes, foo, from_afar, keywords, number, words};

/// Answers every method of `Keywords` with the method's number.
struct Numbers;

macro_rules! numbered {
    ($($method:ident $params:ident $results:ident $number:literal;)*) => {$(
        fn $method(
            &self,
            _: keywords::$params,
            mut results: keywords::$results,
        ) -> Result<(), Error> {
            results.get().set_n($number);
            Ok(())
        }
    )*};
}

impl keywords::Server for Numbers {
    fn async_(
        &self,
        params: keywords::AsyncParams,
        mut results: keywords::AsyncResults,
    ) -> Result<(), Error> {
        let mut results = results.get();
        results.set_try(params.get()?.get_dyn());
        results.set_self("me");
        Ok(())
    }

    fn clone(
        &self,
        _: keywords::CloneParams,
        mut results: keywords::CloneResults,
    ) -> Result<(), Error> {
        results.get().set_clone(keywords::Client::from_server(Numbers));
        Ok(())
    }

    fn crate_(
        &self,
        params: keywords::CrateParams,
        mut results: keywords::CrateResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let sum =
            params.get_params() + params.get_results() + params.get_server() + params.get_call();
        results.get().set_n(sum);
        Ok(())
    }

    numbered! {
        dyn_ DynParams DynResults 1;
        try_ TryParams TryResults 2;
        await_ AwaitParams AwaitResults 3;
        gen_ GenParams GenResults 4;
        self_ SelfParams SelfResults 6;
        super_ SuperParams SuperResults 7;
        type_ TypeParams TypeResults 8;
        drop DropParams DropResults 9;
        dispatch DispatchParams DispatchResults 10;
        from_server FromServerParams FromServerResults 11;
        cast_to CastToParams CastToResults 12;
        box_ BoxParams BoxResults 14;
    }
}

#[test]
fn methods_may_be_called_as_keywords() {
    let client = keywords::Client::from_server(Numbers);

    let mut request = client.async_request();
    request.get().set_dyn(5);
    let response = request.call().unwrap();
    let results = response.get().unwrap();
    assert_eq!(results.get_try(), 5);
    assert_eq!(results.get_self().unwrap(), "me");

    let mut request = client.crate_request();
    let mut params = request.get();
    params.set_params(1);
    params.set_results(10);
    params.set_server(100);
    params.set_call(1000);
    assert_eq!(request.call().unwrap().get().unwrap().get_n(), 1111);

    let n = |request: capnp_threads::Request<number::Owned, number::Owned>| {
        request.call().unwrap().get().unwrap().get_n()
    };
    assert_eq!(n(client.dyn_request()), 1);
    assert_eq!(n(client.try_request()), 2);
    assert_eq!(n(client.await_request()), 3);
    assert_eq!(n(client.gen_request()), 4);
    assert_eq!(n(client.self_request()), 6);
    assert_eq!(n(client.super_request()), 7);
    assert_eq!(n(client.drop_request()), 9);
    assert_eq!(n(client.dispatch_request()), 10);
    assert_eq!(n(client.from_server_request()), 11);
    assert_eq!(n(client.cast_to_request()), 12);
    assert_eq!(n(client.box_request()), 14);
    assert_eq!(client.type_request().call().unwrap().get().unwrap().get_n(), 8);

    // Through two pipelines, without waiting.
    let clone = client.clone_request().send().pipeline().get_clone();
    let clone = clone.clone_request().send().pipeline().get_clone();
    assert_eq!(n(clone.gen_request()), 4);
}

#[test]
fn fields_may_be_called_as_keywords() {
    let mut message = capnp::message::Builder::new_default();
    let mut words = message.init_root::<words::Builder<'_>>();
    words.set_dyn("dyn");
    words.set_self(3);
    match words.reborrow_as_reader().which().unwrap() {
        words::Self_(n) => assert_eq!(n, 3),
        _ => panic!("another member"),
    }
    words.reborrow().init_type().set_fn(9);
    match words.reborrow_as_reader().which().unwrap() {
        words::Type(group) => assert_eq!(group.get_fn(), 9),
        _ => panic!("another member"),
    }
    words.set_reader("text");
    match words.reborrow_as_reader().which().unwrap() {
        words::Reader_(text) => assert_eq!(text.unwrap(), "text"),
        _ => panic!("another member"),
    }
    words.reborrow().init_async().set_await(1);
    words.reborrow().init_gen(1).get(0).set_try(2);
    assert_eq!(words.reborrow_as_reader().get_gen().unwrap().get(0).get_try(), 2);
    // What a schema calls a field is what people see.
    let text = format!("{:?}", words.reborrow_as_reader());
    assert!(text.contains("dyn = \"dyn\""), "{text}");
    assert!(text.contains("async = (await = 1)"), "{text}");
}

#[test]
fn declarations_of_one_name_live_side_by_side() {
    let mut message = capnp::message::Builder::new_default();
    let mut clash = message.init_root::<clashes::Builder<'_>>();
    clash.set_kind(clashes::Kind_::Bad);
    match clash.reborrow_as_reader().which().unwrap() {
        clashes::Kind(kind) => assert_eq!(kind.unwrap(), clashes::Kind_::Bad),
        clashes::Call(_) => panic!("another member"),
    }
    let call: clashes::call::Builder<'_> = clash.init_call();
    let mut made: clashes::call_::Builder<'_> = call.init_made();
    made.set_depth(clashes::KINDS);
}

struct FooServer;

impl foo::Server for FooServer {
    fn foo(&self, params: foo::FooParams, mut results: foo::FooResults) -> Result<(), Error> {
        results.get().set_y(params.get()?.get_x() + 1);
        Ok(())
    }

    fn bar(&self, params: foo::BarParams, mut results: foo::BarResults) -> Result<(), Error> {
        results.get().set_yours(params.get()?.get_mine()?);
        Ok(())
    }
}

#[test]
fn nested_structs_may_be_called_as_those_of_methods() {
    let client = foo::Client::from_server(FooServer);
    let mut request = client.foo_request();
    request.get().set_x(1);
    assert_eq!(request.call().unwrap().get().unwrap().get_y(), 2);

    let mut request = client.bar_request();
    let mut params: foo::foo_params::Builder<'_> = request.get();
    params.set_mine("text");
    let response = request.call().unwrap();
    let results: foo::foo_results::Reader<'_> = response.get().unwrap();
    assert_eq!(results.get_yours().unwrap(), "text");

    let mut request = client.baz_request();
    request.get().set_params(foo::BarParams_::B);
    request.get().set_client(foo::Client_::C);
    let error = request.call().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert_eq!(error.reason(), "this object does not implement torture.capnp:Foo.baz");
}

struct Afar;

impl chosen::Server for Afar {
    fn pick(
        &self,
        params: chosen::PickParams,
        mut results: chosen::PickResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_taken(params.get_given()?)?;
        results.init_many(1).set(0, chosen::Height::Bottom);
        Ok(())
    }
}

impl from_afar::Server for Afar {
    fn afar(
        &self,
        params: from_afar::AfarParams,
        mut results: from_afar::AfarResults,
    ) -> Result<(), Error> {
        if params.get()?.get_new()? != "new" {
            return Err(Error::failed("another text"));
        }
        results.get().set_moved(moved::Client::from_server(Afar));
        Ok(())
    }
}

impl moved::Server for Afar {
    fn where_(&self, _: moved::WhereParams, mut results: moved::WhereResults) -> Result<(), Error> {
        results.get().set_text(module_path!());
        Ok(())
    }
}

#[test]
fn a_schema_can_choose_names_and_places() {
    let client = from_afar::Client::from_server(Afar);

    let mut request = client.pick_request();
    let mut given: chosen::named_here::Builder<'_> = request.get().init_given();
    given.set_new("text");
    given.set_level(chosen::Height::High);
    given.set_the_first(1);
    given.init_the_second().set_x(2);
    let response = request.call().unwrap();
    let taken = response.get().unwrap().get_taken().unwrap();
    assert_eq!(taken.get_new().unwrap(), "text");
    assert_eq!(taken.get_level().unwrap(), chosen::Height::High);
    assert!(taken.get_maybe().unwrap().is_none());
    match taken.which().unwrap() {
        chosen::named_here::TheSecond(group) => assert_eq!(group.get_x(), 2),
        chosen::named_here::TheFirst(_) => panic!("another member"),
    }
    let many = response.get().unwrap().get_many().unwrap();
    assert_eq!(many.get(0).unwrap(), chosen::Height::Bottom);

    let mut request = client.afar_request();
    request.get().set_new("new");
    let moved = request.send().pipeline().get_moved();
    let response = moved.where_request().call().unwrap();
    assert_eq!(response.get().unwrap().get_text().unwrap(), module_path!());
}
