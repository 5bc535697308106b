//! Elements that are called as what Rust programs find without a path.

use capnp_threads::typed::{new_client, unwrap_server};

use crate::prelude_capnp::{
    self, From, derived, mover, reader, shelf, slot, source, span, span::Unit,
};

struct Mover;

impl mover::Server for Mover {
    fn move_(
        &self,
        params: mover::MoveParams,
        mut results: mover::MoveResults,
    ) -> capnp_threads::Result<()> {
        let params = params.get()?;
        assert_eq!(params.get_option()?, prelude_capnp::Option::None);
        assert_eq!(params.get_result()?, prelude_capnp::Result::Error);
        assert_eq!(params.get_clone()?, prelude_capnp::Clone::Hash);
        results.get().set_from(params.get_from()?);
        Ok(())
    }
}

#[test]
fn enums_may_be_called_as_traits_and_types() {
    let client: mover::Client = new_client(Mover);
    let mut request = client.move_request();
    request.get().set_from(From::There);
    request.get().set_option(prelude_capnp::Option::None);
    request.get().set_result(prelude_capnp::Result::Error);
    request.get().set_clone(prelude_capnp::Clone::Hash);
    assert_eq!(request.call().unwrap().get().unwrap().get_from().unwrap(), From::There);
    assert!(From::try_from(2).is_err());
    assert_eq!(u16::from(From::There), 1);
}

#[test]
fn members_of_unions_may_be_called_as_derived_traits() {
    let mut message = capnp::message::Builder::new_default();
    let mut builder = message.init_root::<derived::Builder<'_>>();
    builder.set_eq(derived::Kind::Default);
    let kind = match builder.into_reader().which().unwrap() {
        derived::Eq(kind) => kind.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind.clone(), derived::Kind::Default);
    assert!(kind > derived::Kind::Clone);
}

#[test]
fn members_of_unions_may_be_called_so() {
    let mut message = capnp::message::Builder::new_default();
    let mut builder = message.init_root::<span::Builder<'_>>();
    builder.set_unit(Unit::Self_);
    builder.set_from(7);
    assert_eq!(format!("{builder:?}"), "(unit = self, from = 7)");
    builder.set_some("some");
    match builder.reborrow_as_reader().which().unwrap() {
        span::Some(text) => assert_eq!(text.unwrap(), "some"),
        _ => panic!("another member"),
    }
    builder.set_ok(&[Unit::From][..]).unwrap();
    let mut into = builder.reborrow().init_into();
    into.set_try_from("text");
    into.init_box().set_none(());
    let reader = builder.reborrow_as_reader();
    assert!(reader.get_note().unwrap().is_none());
    match reader.which().unwrap() {
        span::Into(into) => assert_eq!(into.get_try_from().unwrap(), "text"),
        _ => panic!("another member"),
    }
    let text = format!("{reader:?}");
    assert_eq!(text, "(unit = self, into = (tryFrom = \"text\", box = (unit = metre, none = ())))");
    assert_eq!(span::DEFAULT, Unit::Second);
    assert_eq!(span::OK2.get().unwrap().get(1).unwrap(), Unit::From);
    assert_eq!(prelude_capnp::READER2, "constant");
    let _: fn(reader::Reader<'_>) = |reader| drop(reader.get_reader());
}

#[test]
fn type_parameters_may_be_called_as_those_of_the_generator() {
    use capnp::{data, text};
    type Slot = slot::Owned<text::Owned, data::Owned, shelf::Owned>;
    struct Shelf;
    impl shelf::Server for Shelf {
        fn slot(
            &self,
            _: shelf::SlotParams,
            mut results: shelf::SlotResults,
        ) -> capnp_threads::Result<()> {
            results.get().init_slot().set_source(new_client(Shelf));
            Ok(())
        }
    }
    impl source::Server<text::Owned> for Shelf {}

    let shelf: shelf::Client = new_client(Shelf);
    let response = shelf.slot_request().call().unwrap();
    let slot: <Slot as capnp::traits::Owned>::Reader<'_> =
        response.get().unwrap().get_slot().unwrap();
    match slot.which().unwrap() {
        slot::Source(source) => assert!(unwrap_server::<Shelf>(&source.unwrap()).is_some()),
        _ => panic!("another member"),
    }
}
