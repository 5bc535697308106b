//! Schemas that no schema compiler makes.

#![allow(clippy::unwrap_used)]

use capnp::message::Builder;
use capnp::schema_capnp::{code_generator_request, node};

use super::Schema;

const OUTER: u64 = 0x8000_0000_0000_0001;
const GROUP: u64 = 0x8000_0000_0000_0002;

/// A struct of one word and one pointer, with a number, a text and a group with another
/// number; and what a test makes of it.
fn request(change: impl FnOnce(code_generator_request::Builder<'_>)) -> Vec<u8> {
    let mut message = Builder::new_default();
    let mut request = message.init_root::<code_generator_request::Builder<'_>>();
    let mut nodes = request.reborrow().init_nodes(2);
    for (at, id, name, scope) in
        [(0, OUTER, "a.capnp:Outer", 0), (1, GROUP, "a.capnp:Outer.g", OUTER)]
    {
        let mut node = nodes.reborrow().get(at);
        node.set_id(id);
        node.set_display_name(name);
        node.set_scope_id(scope);
        let mut layout = node.init_struct();
        layout.set_data_word_count(1);
        layout.set_pointer_count(1);
        let mut fields = layout.init_fields(if id == OUTER { 3 } else { 1 });
        let mut number = fields.reborrow().get(0);
        number.set_name("number");
        let mut slot = number.init_slot();
        slot.set_offset(u32::from(id != OUTER));
        slot.reborrow().init_type().set_uint32(());
        slot.init_default_value().set_uint32(7);
        if id == OUTER {
            let mut text = fields.reborrow().get(1);
            text.set_name("text");
            let mut slot = text.init_slot();
            slot.reborrow().init_type().set_text(());
            slot.init_default_value().set_text("");
            let mut group = fields.get(2);
            group.set_name("g");
            group.init_group().set_type_id(GROUP);
        }
    }
    change(request);
    capnp::serialize::write_message_to_words(&message)
}

fn layout(request: code_generator_request::Builder<'_>, at: u32) -> node::struct_::Builder<'_> {
    match request.get_nodes().unwrap().get(at).which().unwrap() {
        node::Struct(layout) => layout,
        _ => panic!("it is a struct"),
    }
}

/// Why it is refused, both from a file and from a server.
fn refused(change: fn(code_generator_request::Builder<'_>)) -> String {
    let bytes = request(change);
    let refused = Schema::read(&bytes).err().unwrap().to_string();
    assert_eq!(Schema::of_peer(&bytes).err().unwrap().to_string(), refused);
    refused
}

#[test]
fn a_schema_as_it_should_be_is_read() {
    let bytes = request(|_| ());
    assert_eq!(Schema::read(&bytes).unwrap().label(OUTER), "a.capnp:Outer");
    assert_eq!(Schema::of_peer(&bytes).unwrap().label(GROUP), "a.capnp:Outer.g");
}

#[test]
fn fields_that_do_not_lie_within_their_struct_are_refused() {
    let outside = "the schema is malformed: it does not lie within its struct";
    let moved = refused(|request| slot_of(request, 0).set_offset(2));
    assert_eq!(moved, format!("a.capnp:Outer: number: {outside}"));
    let moved = refused(|request| slot_of(request, 0).set_offset(u32::MAX));
    assert_eq!(moved, format!("a.capnp:Outer: number: {outside}"));
    let moved = refused(|request| slot_of(request, 1).set_offset(1));
    assert_eq!(moved, format!("a.capnp:Outer: text: {outside}"));
    let tagged = refused(|request| {
        let mut layout = layout(request, 0);
        layout.set_discriminant_count(2);
        layout.set_discriminant_offset(4);
    });
    assert_eq!(tagged, format!("a.capnp:Outer: {outside}"));
    let smaller = refused(|request| layout(request, 1).set_pointer_count(2));
    assert_eq!(smaller, format!("a.capnp:Outer: g: {outside}"));
}

fn slot_of(
    request: code_generator_request::Builder<'_>,
    at: u32,
) -> capnp::schema_capnp::field::slot::Builder<'_> {
    let field = layout(request, 0).get_fields().unwrap().get(at);
    match field.which().unwrap() {
        capnp::schema_capnp::field::Slot(slot) => slot,
        capnp::schema_capnp::field::Group(_) => panic!("it is a slot"),
    }
}

#[test]
fn defaults_of_another_type_are_refused() {
    // The default decides how it is written.
    let text = refused(|request| slot_of(request, 0).init_default_value().set_void(()));
    assert_eq!(
        text,
        "a.capnp:Outer: number: the schema is malformed: its default is of another type"
    );
}

#[test]
fn groups_within_themselves_are_refused() {
    let strange = refused(|request| {
        let mut nodes = request.get_nodes().unwrap();
        nodes.reborrow().get(1).set_scope_id(0);
    });
    assert!(strange.ends_with("it is no group of its struct"), "{strange}");
    // Each is declared in the other.
    let circle = refused(|request| {
        let mut nodes = request.get_nodes().unwrap();
        nodes.reborrow().get(0).set_scope_id(GROUP);
    });
    assert!(circle.ends_with("it is declared within itself"), "{circle}");
}

#[test]
fn names_that_steer_a_terminal_are_refused() {
    let named = refused(|request| {
        request.get_nodes().unwrap().get(0).set_display_name("a.capnp:\u{1b}[31mOuter");
    });
    assert!(named.starts_with("a declaration: ") && !named.contains('\u{1b}'), "{named}");
    let field = refused(|request| {
        let fields = layout(request, 0).get_fields().unwrap();
        fields.get(1).set_name("\u{202e}txet");
    });
    assert!(field.starts_with("a.capnp:Outer: ") && !field.contains('\u{202e}'), "{field}");
}

#[test]
fn lists_of_nothing_do_not_count_as_nothing() {
    // One segment: a root without data whose first pointer is to a list of composites, of
    // which the tag claims as many as can be, each without content.
    let words: [u64; 4] = [3 << 32, 1 << 48, 1 | (7 << 32), ((1 << 29) - 1) << 2];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(Schema::of_peer(&bytes).is_err());
}
