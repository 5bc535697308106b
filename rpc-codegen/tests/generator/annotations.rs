//! Annotations, and what types say of themselves at run time.

use capnp::dynamic_value;
use capnp::introspect::{Introspect, TypeVariant};
use capnp::schema::{AnnotationList, EnumSchema, StructSchema};

use crate::annotated_capnp::{Level, here, row};
use crate::prelude_capnp::{reader, reader_};
use crate::scopes_capnp::{box_, marked};
use crate::torture_capnp::{note, noted};

fn struct_schema<T: Introspect>() -> StructSchema {
    match T::introspect().which() {
        TypeVariant::Struct(schema) => schema.into(),
        other => panic!("{other:?}"),
    }
}

fn enum_schema<T: Introspect>() -> EnumSchema {
    match T::introspect().which() {
        TypeVariant::Enum(schema) => schema.into(),
        other => panic!("{other:?}"),
    }
}

/// The value of the only annotation.
fn only(annotations: capnp::Result<AnnotationList>) -> dynamic_value::Reader<'static> {
    let annotations = annotations.unwrap();
    assert_eq!(annotations.len(), 1);
    annotations.get(0).get_value().unwrap()
}

#[test]
fn annotations_have_their_values_and_types() {
    let schema = struct_schema::<noted::Owned>();
    assert_eq!(format!("{:?}", only(schema.get_annotations())), "\"about a struct\"");
    let field = schema.get_fields().unwrap().get(0);
    assert_eq!(format!("{:?}", only(field.get_annotations())), "\"about a field\"");
    assert_eq!(note::ID, schema.get_annotations().unwrap().get(0).get_id());
    assert_eq!(note::get_type().which(), TypeVariant::Text);
}

#[test]
fn annotations_may_be_structs_and_generic() {
    let schema = struct_schema::<here::Owned>();
    assert_eq!(format!("{:?}", only(schema.get_annotations())), "(id = 7, level = two, a = ())");
    let field = schema.get_fields().unwrap().get(0);
    assert_eq!(format!("{:?}", only(field.get_annotations())), "(id = 8, level = one, a = ())");

    let schema = struct_schema::<marked::Owned>();
    assert_eq!(format!("{:?}", only(schema.get_annotations())), "[small]");
    let field = schema.get_fields().unwrap().get(0);
    assert_eq!(format!("{:?}", only(field.get_annotations())), "[big, small]");
    let list = box_::mark::get_type();
    assert!(matches!(list.which(), TypeVariant::List(_)));
}

#[test]
fn annotations_of_types_without_code_are_left_to_those_who_know_them() {
    let schema = struct_schema::<row::Owned>();
    let annotations = schema.get_annotations().unwrap();
    assert_eq!(annotations.get(0).get_type().which(), TypeVariant::AnyPointer);
    // The schema itself has all that is needed.
    let raw = schema.get_proto().get_annotations().unwrap().get(0).get_value().unwrap();
    match raw.which().unwrap() {
        capnp::schema_capnp::value::Struct(pointer) => {
            // With a structure that happens to be the same.
            let table: here::Reader<'_> = pointer.get_as().unwrap();
            assert_eq!(table.get_here().unwrap(), "rows");
        }
        _ => panic!("not a struct"),
    }
    let level = enum_schema::<Level>();
    assert_eq!(level.get_annotations().unwrap().len(), 1);
    let one = level.get_enumerants().unwrap().get(0);
    assert_eq!(one.get_annotations().unwrap().len(), 1);
}

#[test]
fn an_annotation_leaves_its_name_to_a_struct() {
    assert_eq!(reader_::ID, 0xb8c6_f1e4_a3d2_0795);
    let schema = struct_schema::<reader::Owned>();
    assert_eq!(format!("{:?}", only(schema.get_annotations())), "\"a struct\"");
}

#[test]
fn fields_are_found_by_the_names_of_the_schema() {
    use crate::deep::down::moved_capnp::chosen::named_here;
    let schema = struct_schema::<named_here::Owned>();
    for field in schema.get_fields().unwrap() {
        let name = field.get_proto().get_name().unwrap().to_str().unwrap();
        let found = schema.find_field_by_name(name).unwrap();
        assert_eq!(found.map(|found| found.get_index()), Some(field.get_index()), "{name}");
    }
}
