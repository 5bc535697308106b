//! What generated data types are made of. For generated code only.
//!
//! The code generator prints the fields of a struct and leaves what is the same for all
//! structs to the macros of this module. In generated code the name `__rt` stands for
//! this module or, where there are interfaces, for [`generated`](crate::generated),
//! which adds what they need.
//!
//! Names in generated modules come from schemas, and such a name may be `Some`, `From`
//! or `Option`. The macros therefore write every path in full.

mod enumeration;
mod file;
mod structure;

use ::capnp::dynamic_struct;
use ::capnp::dynamic_value;
use ::capnp::introspect::{
    TypeVariant, panic_invalid_annotation_indices, panic_invalid_field_index,
};
use ::capnp::private::layout::{StructBuilder, StructReader};
use ::capnp::schema::StructSchema;
use ::capnp::traits::FromPointerReader;

// A member of a union may have the name of one of these traits.
pub use ::core::clone::Clone;
pub use ::core::cmp::{Eq, Ord, PartialEq, PartialOrd};
pub use ::core::fmt::Debug;
pub use ::core::hash::Hash;
pub use ::core::marker::Copy;

pub use ::capnp::introspect::{Introspect, Type};
pub use ::capnp::private::arena::GeneratedCodeArena as Arena;
pub use ::capnp::traits::{FromPointerBuilder, Owned, SetterInput};
pub use ::capnp::{
    NotInSchema, Result as ReadResult, Word, any_pointer, any_pointer_list, capability_list,
    constant, data, data_list, enum_list, list_list, primitive_list, struct_list, text, text_list,
};

// For the macros, which may be expanded where the name `capnp` means something else.
pub use ::capnp as upstream;

pub use crate::{
    __data_enumeration as enumeration, __data_file as file, __data_structure as structure,
};

// ---- messages as constants

/// The words of a message, given as numbers in the byte order of the wire.
pub const fn words<const LEN: usize>(numbers: [u64; LEN]) -> [Word; LEN] {
    let mut words = [::capnp::word(0, 0, 0, 0, 0, 0, 0, 0); LEN];
    let mut index = 0;
    while index < LEN {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = numbers[index].to_le_bytes();
        words[index] = ::capnp::word(b0, b1, b2, b3, b4, b5, b6, b7);
        index += 1;
    }
    words
}

/// The words of a message that is too large to be written as numbers in the code.
pub const fn words_of_bytes<const LEN: usize>(bytes: &[u8]) -> [Word; LEN] {
    assert!(bytes.len() == LEN * 8, "the file is not the one that was generated");
    let mut words = [::capnp::word(0, 0, 0, 0, 0, 0, 0, 0); LEN];
    let mut index = 0;
    while index < LEN {
        let at = index * 8;
        words[index] = ::capnp::word(
            bytes[at],
            bytes[at + 1],
            bytes[at + 2],
            bytes[at + 3],
            bytes[at + 4],
            bytes[at + 5],
            bytes[at + 6],
            bytes[at + 7],
        );
        index += 1;
    }
    words
}

// ---- types at run time

/// The type of a field. `types` has one function for each field of the struct.
pub fn field_type(index: u16, types: &[fn() -> Type]) -> Type {
    match types.get(usize::from(index)) {
        Some(introspect) => introspect(),
        None => panic_invalid_field_index(index),
    }
}

/// The type of an annotation's value, with the position of the annotated member,
/// counted from 1, or 0 for the declaration itself; and with the position of the
/// annotation among those of the same element.
pub type AnnotationType = (u32, u32, fn() -> Type);

/// The type of an annotation's value.
pub fn annotation_type(child: Option<u16>, index: u32, types: &[AnnotationType]) -> Type {
    let place = (child.map_or(0, |child| u32::from(child) + 1), index);
    match types.iter().find(|known| (known.0, known.1) == place) {
        Some(known) => known.2(),
        None => panic_invalid_annotation_indices(child, index),
    }
}

/// The type of a field that is declared with a type parameter, where the argument is
/// `T`. The schema's default value for such a field is a pointer of unknown type, and
/// with such a default the capnp crate does not print a capability.
#[derive(Debug)]
pub struct Argument<T>(std::marker::PhantomData<T>);

impl<T: Introspect> Introspect for Argument<T> {
    fn introspect() -> Type {
        let argument = T::introspect();
        match argument.which() {
            TypeVariant::Capability => TypeVariant::AnyPointer.into(),
            _ => argument,
        }
    }
}

/// The schema of `T`, which is the `Owned` of a generated struct.
fn schema_of<T: Introspect>() -> StructSchema {
    match T::introspect().which() {
        TypeVariant::Struct(schema) => schema.into(),
        other => unreachable!("`structure!` makes structs, and not {other:?}"),
    }
}

pub fn dynamic_reader<T: Introspect>(reader: StructReader<'_>) -> dynamic_value::Reader<'_> {
    dynamic_struct::Reader::new(reader, schema_of::<T>()).into()
}

pub fn dynamic_builder<T: Introspect>(builder: StructBuilder<'_>) -> dynamic_value::Builder<'_> {
    dynamic_struct::Builder::new(builder, schema_of::<T>()).into()
}

// ---- fields

/// A pointer field that is read.
#[inline]
pub fn read<'a, T: FromPointerReader<'a>>(reader: StructReader<'a>, field: usize) -> ReadResult<T> {
    T::get_from_pointer(&reader.get_pointer_field(field), None)
}

/// A pointer field that is read, with a default value for a null pointer.
#[inline]
pub fn read_or<'a, T: FromPointerReader<'a>>(
    reader: StructReader<'a>,
    field: usize,
    default: &'static [Word],
) -> ReadResult<T> {
    T::get_from_pointer(&reader.get_pointer_field(field), Some(default))
}

/// A pointer field that is read; `None` where it is null.
#[inline]
pub fn read_option<'a, T: FromPointerReader<'a>>(
    reader: StructReader<'a>,
    field: usize,
) -> ReadResult<Option<T>> {
    if reader.is_pointer_field_null(field) { Ok(None) } else { read(reader, field).map(Some) }
}

/// A pointer field whose type the schema leaves open.
#[inline]
pub fn read_any(reader: StructReader<'_>, field: usize) -> any_pointer::Reader<'_> {
    any_pointer::Reader::new(reader.get_pointer_field(field))
}

/// A pointer field that is read and whose type the schema leaves open; `None` where it
/// is null.
#[inline]
pub fn read_any_option(reader: StructReader<'_>, field: usize) -> Option<any_pointer::Reader<'_>> {
    (!reader.is_pointer_field_null(field)).then(|| read_any(reader, field))
}

/// An enumerant, from its number.
#[inline]
pub fn enumerant<T: TryFrom<u16, Error = NotInSchema>>(number: u16) -> Result<T, NotInSchema> {
    T::try_from(number)
}

/// A pointer field that is being built.
#[inline]
pub fn get<'a, T: FromPointerBuilder<'a>>(
    builder: StructBuilder<'a>,
    field: usize,
) -> ReadResult<T> {
    T::get_from_pointer(builder.get_pointer_field(field), None)
}

/// A pointer field that is being built, with a default that is copied into it where it
/// is null.
#[inline]
pub fn get_or<'a, T: FromPointerBuilder<'a>>(
    builder: StructBuilder<'a>,
    field: usize,
    default: &'static [Word],
) -> ReadResult<T> {
    T::get_from_pointer(builder.get_pointer_field(field), Some(default))
}

/// A pointer field that is being built; `None` where it is null.
#[inline]
pub fn get_option<'a, T: FromPointerBuilder<'a>>(
    builder: StructBuilder<'a>,
    field: usize,
) -> ReadResult<Option<T>> {
    if builder.is_pointer_field_null(field) { Ok(None) } else { get(builder, field).map(Some) }
}

/// A pointer field whose type the schema leaves open.
#[inline]
pub fn get_any(builder: StructBuilder<'_>, field: usize) -> any_pointer::Builder<'_> {
    any_pointer::Builder::new(builder.get_pointer_field(field))
}

/// A pointer field that is being built and whose type the schema leaves open; `None`
/// where it is null.
#[inline]
pub fn get_any_option(
    builder: StructBuilder<'_>,
    field: usize,
) -> Option<any_pointer::Builder<'_>> {
    (!builder.is_pointer_field_null(field)).then(|| get_any(builder, field))
}

/// Initialises a pointer field, with room for `size` elements if its type has elements.
#[inline]
pub fn init<'a, T: FromPointerBuilder<'a>>(
    builder: StructBuilder<'a>,
    field: usize,
    size: u32,
) -> T {
    T::init_pointer(builder.get_pointer_field(field), size)
}

/// Sets a pointer field to null whose type the schema leaves open.
#[inline]
pub fn init_any(builder: StructBuilder<'_>, field: usize) -> any_pointer::Builder<'_> {
    let mut pointer = get_any(builder, field);
    pointer.clear();
    pointer
}

/// Copies a value into a pointer field of type `T`.
#[inline]
pub fn set<T>(
    builder: StructBuilder<'_>,
    field: usize,
    value: impl SetterInput<T>,
) -> ReadResult<()> {
    SetterInput::set_pointer_builder(builder.get_pointer_field(field), value, false)
}

/// Copies text into a field.
#[inline]
pub fn set_text(builder: StructBuilder<'_>, field: usize, value: impl SetterInput<text::Owned>) {
    if let Err(error) = set(builder, field, value) {
        unreachable!("text is copied without reading a message: {error}")
    }
}

/// Copies bytes into a field.
#[inline]
pub fn set_data(builder: StructBuilder<'_>, field: usize, value: &[u8]) {
    builder.get_pointer_field(field).set_data(value);
}

/// Sets the number of an enumerant. The number is stored in a form in which the default
/// is zero.
#[inline]
pub fn set_enum(builder: &StructBuilder<'_>, field: usize, value: impl Into<u16>, default: u16) {
    builder.set_data_field_mask::<u16>(field, value.into(), default);
}

/// Sets a pointer field to null.
#[inline]
pub fn clear(builder: StructBuilder<'_>, field: usize) {
    builder.get_pointer_field(field).clear();
}
