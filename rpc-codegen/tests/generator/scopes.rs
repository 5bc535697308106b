//! What is declared inside of something generic, and constants.

use capnp::text;
use capnp_threads::Result;
use capnp_threads::typed::new_client;

use crate::scopes_capnp::{bakery, box_, shop, values, void2};

type Loaf = box_::Owned<text::Owned>;

struct Bakery;

impl shop::Server<Loaf> for Bakery {
    fn sell(
        &self,
        params: shop::SellParams<Loaf>,
        mut results: shop::SellResults<Loaf>,
    ) -> Result<()> {
        let params = params.get()?;
        let loaf = params.get_item()?;
        assert_eq!(loaf.get_kind()?, box_::Kind::Big);
        assert_eq!(loaf.get_kinds()?.get(0)?, box_::Kind::Small);
        assert_eq!(loaf.get_twice()?.get(0)?.get(1)?, box_::Kind::Big);
        assert_eq!(loaf.get_inner()?.get_value()?, "rye");
        let mut results = results.get();
        results.set_size(params.get_size()?);
        let mut order = results.init_order();
        order.set_size(shop::Size::Small);
        order.set_item(loaf)?;
        Ok(())
    }
}

impl bakery::Server for Bakery {}

#[test]
fn enums_may_be_declared_in_generic_scopes() {
    let bakery: bakery::Client = new_client(Bakery);
    let mut request = bakery.sell_request();
    let mut loaf = request.get().init_item();
    loaf.set_kinds(&[box_::Kind::Small][..]).unwrap();
    let mut kinds = loaf.reborrow().init_twice(1).init(0, 2);
    kinds.set(0, box_::Kind::Small);
    kinds.set(1, box_::Kind::Big);
    loaf.init_inner().set_value("rye").unwrap();
    let response = request.call().unwrap();
    let results = response.get().unwrap();
    assert_eq!(results.get_size().unwrap(), shop::Size::Large);
    let order = results.get_order().unwrap();
    assert_eq!(order.get_item().unwrap().get_inner().unwrap().get_value().unwrap(), "rye");
    let text = format!("{order:?}");
    assert!(text.contains("kinds = [small], inner = ("), "{text}");
}

#[test]
fn constants_may_be_declared_in_generic_scopes() {
    assert_eq!(box_::FAVOURITE, box_::Kind::Big);
    assert_eq!(box_::NAMES.get().unwrap().get(1).unwrap(), "b");
    let boxes = box_::BOXES.get().unwrap();
    assert_eq!(boxes.get(0).get_value().unwrap(), "one");
    assert_eq!(boxes.get(1).get_kind().unwrap(), box_::Kind::Small);
    assert_eq!(box_::OPEN.get().unwrap().get(0).get_kind().unwrap(), box_::Kind::Small);
}

#[test]
fn constants_have_their_values() {
    assert!(values::NAN.is_nan());
    assert!(values::FAR.is_infinite() && values::FAR < 0.0);
    assert_eq!(values::LOW, i64::MIN);
    assert_eq!(values::BYTES, b"\0\"\\\xff\n");
    assert_eq!(values::QUOTED, "\"\\\n\t\0\u{fc}");
    let any: values::words::Reader<'_> = values::ANY.get().unwrap().get_as().unwrap();
    assert_eq!(any.get_text().unwrap(), "pointed at");
    assert_eq!(values::TEXT.get().unwrap().get_text().unwrap(), "pointed at");
}

#[test]
fn fields_have_their_defaults() {
    let mut message = capnp::message::Builder::new_default();
    let mut words = message.init_root::<values::words::Builder<'_>>();
    let check = |words: values::words::Reader<'_>| {
        assert_eq!(words.get_text().unwrap(), "default");
        assert_eq!(words.get_data().unwrap(), [1, 2]);
        assert!(words.get_float().is_nan());
        assert!((words.get_double() + 0.5).abs() < f64::EPSILON);
        assert!(words.get_yes());
        assert_eq!(words.get_tiny(), i8::MIN);
        assert_eq!(words.get_huge(), u64::MAX);
        assert_eq!(words.get_words().unwrap().get(0).get_text().unwrap(), "nested");
        assert_eq!(words.get_words().unwrap().get(1).get_tiny(), 5);
        assert_eq!(words.get_word().unwrap().get_data().unwrap(), [3]);
        assert_eq!(words.get_lists().unwrap().len(), 0);
        assert!(words.get_any().is_null());
    };
    check(words.reborrow_as_reader());
    // What is read by default is copied by whoever builds it, so that it can be changed.
    assert_eq!(words.reborrow().get_words().unwrap().len(), 2);
    words.reborrow().get_word().unwrap();
    assert!(words.has_words() && words.has_word() && !words.has_text());
    words.set_yes(true);
    words.set_tiny(i8::MIN);
    words.set_huge(u64::MAX);
    words.set_float(f32::NAN);
    words.set_double(-0.5);
    check(words.reborrow_as_reader());
    words.set_yes(false);
    words.set_tiny(1);
    assert!(!words.reborrow().get_yes());
    assert_eq!(words.get_tiny(), 1);
}

#[test]
fn an_enum_may_have_no_enumerants() {
    let mut message = capnp::message::Builder::new_default();
    let void = message.init_root::<void2::Builder<'_>>();
    assert!(void.get_nothing().is_err());
}
