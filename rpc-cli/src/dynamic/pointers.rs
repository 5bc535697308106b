//! The capnp crate's pointers and structs without types, through the traits by which
//! generated code gets at them.

use capnp::introspect::{Introspect, Type, TypeVariant};
use capnp::private::layout::{
    PointerBuilder, PointerReader, StructBuilder, StructReader, StructSize,
};
use capnp::traits::{
    FromPointerBuilder, FromPointerReader, HasStructSize, IntoInternalStructReader, OwnedStruct,
    SetterInput,
};
use capnp::{Result, Word, any_pointer};

/// A pointer to anything, to be read.
pub(super) struct Pointer<'a>(pub(super) PointerReader<'a>);

impl<'a> FromPointerReader<'a> for Pointer<'a> {
    fn get_from_pointer(reader: &PointerReader<'a>, _: Option<&'a [Word]>) -> Result<Self> {
        Ok(Pointer(*reader))
    }
}

/// The pointer inside a reader of an open type.
pub(super) fn of_reader(reader: any_pointer::Reader<'_>) -> Result<PointerReader<'_>> {
    reader.get_as::<Pointer<'_>>().map(|pointer| pointer.0)
}

/// A pointer to anything, to be written.
pub(super) struct Target<'a>(pub(super) PointerBuilder<'a>);

impl<'a> FromPointerBuilder<'a> for Target<'a> {
    fn init_pointer(builder: PointerBuilder<'a>, _: u32) -> Self {
        Target(builder)
    }

    fn get_from_pointer(builder: PointerBuilder<'a>, _: Option<&'a [Word]>) -> Result<Self> {
        Ok(Target(builder))
    }
}

/// The pointer inside a builder of an open type.
pub(super) fn of_builder(builder: any_pointer::Builder<'_>) -> Result<PointerBuilder<'_>> {
    builder.get_as::<Target<'_>>().map(|pointer| pointer.0)
}

/// A struct of any size, as an element of lists.
pub(super) struct AnyStruct;

pub(super) struct Element<'a>(pub(super) StructReader<'a>);

pub(super) struct ElementBuilder<'a>(pub(super) StructBuilder<'a>);

impl Introspect for AnyStruct {
    fn introspect() -> Type {
        // Nobody asks: only generated code does, and this is not in any.
        TypeVariant::AnyPointer.into()
    }
}

impl OwnedStruct for AnyStruct {
    type Reader<'a> = Element<'a>;
    type Builder<'a> = ElementBuilder<'a>;
}

impl<'a> From<StructReader<'a>> for Element<'a> {
    fn from(reader: StructReader<'a>) -> Self {
        Element(reader)
    }
}

impl<'a> IntoInternalStructReader<'a> for Element<'a> {
    fn into_internal_struct_reader(self) -> StructReader<'a> {
        self.0
    }
}

impl SetterInput<AnyStruct> for Element<'_> {
    fn set_pointer_builder(
        mut pointer: PointerBuilder<'_>,
        input: Self,
        canonicalize: bool,
    ) -> Result<()> {
        pointer.set_struct(&input.0, canonicalize)
    }
}

impl<'a> From<StructBuilder<'a>> for ElementBuilder<'a> {
    fn from(builder: StructBuilder<'a>) -> Self {
        ElementBuilder(builder)
    }
}

impl HasStructSize for ElementBuilder<'_> {
    /// The least size that elements have: lists are made before, with their own.
    const STRUCT_SIZE: StructSize = StructSize { data: 0, pointers: 0 };
}
