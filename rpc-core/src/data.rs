//! What generated data types are made of. For generated code only.
//!
//! The code generator prints the fields of a struct and leaves what is the same for all
//! structs to the macros of this module. In generated code the name `__rt` stands for
//! this module or, where there are interfaces, for [`generated`](crate::generated),
//! which adds what they need.
//!
//! Names in generated modules come from schemas, and such a name may be `Some`, `From`
//! or `Option`. The macros therefore write every path in full.

use ::capnp::dynamic_struct;
use ::capnp::dynamic_value;
use ::capnp::introspect::{
    TypeVariant, panic_invalid_annotation_indices, panic_invalid_field_index,
};
use ::capnp::private::layout::{StructBuilder, StructReader};
use ::capnp::schema::StructSchema;
use ::capnp::traits::FromPointerReader;

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

/// The whole of a generated file. It compiles only if a matching generator made it: one
/// of the same minor version, or of the same major version from 1.0 on.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_file {
    ("0.1", $file:literal; $($item:item)*) => { $(
        #[allow(
            clippy::all,
            clippy::nursery,
            clippy::pedantic,
            nonstandard_style,
            single_use_lifetimes,
            unreachable_pub,
            unused,
            unused_qualifications
        )]
        $item
    )* };
    ($version:literal, $file:literal; $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the code of ", $file, " was made by capnp-threads-codegen ", $version,
            ", which does not fit the capnp-threads 0.1 that it is compiled with: generate it \
             again, with capnp-threads-codegen 0.1"
        ));
    };
}

/// The types of a struct, without its fields, its union and its pipeline:
///
/// ```text
/// structure! {
///     [T] "file.capnp:Box" 0x1234 data 1 pointers 1
///     node words([…])
///     members [0] [] [0]        // outside the union, by discriminant, by name
///     types [T, u32]            // of the fields
///     annotations [1 0 u32]     // member + 1, position there, type
/// }
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __data_structure {
    (
        [$($param:ident),*] $label:literal $id:literal data $data:literal pointers $pointers:literal
        node $node:expr;
        members $plain:expr, $union:expr, $named:expr;
        types [$($field:ty),*]
        annotations [$($child:literal $index:literal $value:ty),*]
    ) => {
        #[doc = ::core::concat!("The type `", $label, "`, as a type argument.")]
        pub struct Owned<$($param),*> {
            types: ::core::marker::PhantomData<fn() -> ($($param,)*)>,
        }

        impl<$($param),*> ::core::marker::Copy for Owned<$($param),*> {}

        impl<$($param),*> ::core::clone::Clone for Owned<$($param),*> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param),*> ::core::fmt::Debug for Owned<$($param),*> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str($label)
            }
        }

        const _: () = {
            #[allow(long_running_const_eval)]
            static NODE: &[$crate::data::Word] = &$node;
            static ARENA: $crate::data::Arena = $crate::data::Arena::new(NODE);
            static SCHEMA: $crate::data::upstream::introspect::RawStructSchema =
                $crate::data::upstream::introspect::RawStructSchema::new(
                    &ARENA, &$plain, &$union, &$named,
                );

            fn field_type<$($param: $crate::data::Owned + 'static),*>(
                index: u16,
            ) -> $crate::data::Type {
                $crate::data::field_type(
                    index,
                    &[$(<$field as $crate::data::Introspect>::introspect),*],
                )
            }

            fn annotation_type<$($param: $crate::data::Owned + 'static),*>(
                child: ::core::option::Option<u16>,
                index: u32,
            ) -> $crate::data::Type {
                $crate::data::annotation_type(
                    child,
                    index,
                    &[$(($child, $index, <$value as $crate::data::Introspect>::introspect)),*],
                )
            }

            impl<$($param: $crate::data::Owned + 'static),*> $crate::data::Introspect
                for Owned<$($param),*>
            {
                fn introspect() -> $crate::data::Type {
                    $crate::data::upstream::introspect::TypeVariant::Struct(
                        $crate::data::upstream::introspect::RawBrandedStructSchema {
                            generic: &SCHEMA,
                            field_types: field_type::<$($param),*>,
                            annotation_types: annotation_type::<$($param),*>,
                            type_id: ::core::any::TypeId::of::<Self>(),
                        },
                    )
                    .into()
                }
            }
        };

        impl<$($param: $crate::data::Owned + 'static),*> $crate::data::Owned
            for Owned<$($param),*>
        {
            type Reader<'a> = Reader<'a, $($param),*>;
            type Builder<'a> = Builder<'a, $($param),*>;
        }

        impl<$($param: $crate::data::Owned + 'static),*> $crate::data::upstream::traits::OwnedStruct
            for Owned<$($param),*>
        {
            type Reader<'a> = Reader<'a, $($param),*>;
            type Builder<'a> = Builder<'a, $($param),*>;
        }

        #[doc = ::core::concat!("A `", $label, "` that is read.")]
        pub struct Reader<'a, $($param),*> {
            reader: $crate::data::upstream::private::layout::StructReader<'a>,
            types: ::core::marker::PhantomData<fn() -> ($($param,)*)>,
        }

        impl<$($param),*> ::core::marker::Copy for Reader<'_, $($param),*> {}

        impl<$($param),*> ::core::clone::Clone for Reader<'_, $($param),*> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param: $crate::data::Owned + 'static),*> ::core::fmt::Debug
            for Reader<'_, $($param),*>
        {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(
                    &$crate::data::dynamic_reader::<Owned<$($param),*>>(self.reader),
                    f,
                )
            }
        }

        impl<$($param),*> $crate::data::upstream::traits::HasTypeId for Reader<'_, $($param),*> {
            const TYPE_ID: u64 = $id;
        }

        impl<'a, $($param),*>
            ::core::convert::From<$crate::data::upstream::private::layout::StructReader<'a>>
            for Reader<'a, $($param),*>
        {
            fn from(
                reader: $crate::data::upstream::private::layout::StructReader<'a>,
            ) -> Self {
                Self { reader, types: ::core::marker::PhantomData }
            }
        }

        impl<'a, $($param: $crate::data::Owned + 'static),*>
            ::core::convert::From<Reader<'a, $($param),*>>
            for $crate::data::upstream::dynamic_value::Reader<'a>
        {
            fn from(reader: Reader<'a, $($param),*>) -> Self {
                $crate::data::dynamic_reader::<Owned<$($param),*>>(reader.reader)
            }
        }

        impl<'a, $($param),*> $crate::data::upstream::traits::FromPointerReader<'a>
            for Reader<'a, $($param),*>
        {
            fn get_from_pointer(
                reader: &$crate::data::upstream::private::layout::PointerReader<'a>,
                default: ::core::option::Option<&'a [$crate::data::Word]>,
            ) -> $crate::data::ReadResult<Self> {
                ::core::result::Result::map(reader.get_struct(default), ::core::convert::From::from)
            }
        }

        impl<'a, $($param),*> $crate::data::upstream::traits::IntoInternalStructReader<'a>
            for Reader<'a, $($param),*>
        {
            fn into_internal_struct_reader(
                self,
            ) -> $crate::data::upstream::private::layout::StructReader<'a> {
                self.reader
            }
        }

        impl<'a, $($param),*> $crate::data::upstream::traits::Imbue<'a>
            for Reader<'a, $($param),*>
        {
            fn imbue(
                &mut self,
                caps: &'a $crate::data::upstream::private::layout::CapTable,
            ) {
                self.reader.imbue(
                    $crate::data::upstream::private::layout::CapTableReader::from_ref(caps),
                );
            }
        }

        impl<$($param: $crate::data::Owned + 'static),*>
            $crate::data::SetterInput<Owned<$($param),*>> for Reader<'_, $($param),*>
        {
            fn set_pointer_builder(
                mut pointer: $crate::data::upstream::private::layout::PointerBuilder<'_>,
                value: Self,
                canonicalize: bool,
            ) -> $crate::data::ReadResult<()> {
                pointer.set_struct(&value.reader, canonicalize)
            }
        }

        impl<$($param),*> Reader<'_, $($param),*> {
            /// The same reader with a shorter lifetime.
            pub fn reborrow(&self) -> Reader<'_, $($param),*> {
                *self
            }

            /// The size of everything that can be read from here.
            ///
            /// # Errors
            /// The message is malformed.
            pub fn total_size(
                &self,
            ) -> $crate::data::ReadResult<$crate::data::upstream::MessageSize> {
                self.reader.total_size()
            }
        }

        #[doc = ::core::concat!("A `", $label, "` that is being built.")]
        pub struct Builder<'a, $($param),*> {
            builder: $crate::data::upstream::private::layout::StructBuilder<'a>,
            types: ::core::marker::PhantomData<fn() -> ($($param,)*)>,
        }

        impl<$($param: $crate::data::Owned + 'static),*> ::core::fmt::Debug
            for Builder<'_, $($param),*>
        {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.reborrow_as_reader(), f)
            }
        }

        impl<$($param),*> $crate::data::upstream::traits::HasStructSize
            for Builder<'_, $($param),*>
        {
            const STRUCT_SIZE: $crate::data::upstream::private::layout::StructSize =
                $crate::data::upstream::private::layout::StructSize {
                    data: $data,
                    pointers: $pointers,
                };
        }

        impl<$($param),*> $crate::data::upstream::traits::HasTypeId for Builder<'_, $($param),*> {
            const TYPE_ID: u64 = $id;
        }

        impl<'a, $($param),*>
            ::core::convert::From<$crate::data::upstream::private::layout::StructBuilder<'a>>
            for Builder<'a, $($param),*>
        {
            fn from(
                builder: $crate::data::upstream::private::layout::StructBuilder<'a>,
            ) -> Self {
                Self { builder, types: ::core::marker::PhantomData }
            }
        }

        impl<'a, $($param: $crate::data::Owned + 'static),*>
            ::core::convert::From<Builder<'a, $($param),*>>
            for $crate::data::upstream::dynamic_value::Builder<'a>
        {
            fn from(builder: Builder<'a, $($param),*>) -> Self {
                $crate::data::dynamic_builder::<Owned<$($param),*>>(builder.builder)
            }
        }

        impl<'a, $($param),*> $crate::data::upstream::traits::ImbueMut<'a>
            for Builder<'a, $($param),*>
        {
            fn imbue_mut(
                &mut self,
                caps: &'a mut $crate::data::upstream::private::layout::CapTable,
            ) {
                self.builder.imbue(
                    $crate::data::upstream::private::layout::CapTableBuilder::from_ref(caps),
                );
            }
        }

        impl<'a, $($param),*> $crate::data::FromPointerBuilder<'a> for Builder<'a, $($param),*> {
            fn init_pointer(
                builder: $crate::data::upstream::private::layout::PointerBuilder<'a>,
                _size: u32,
            ) -> Self {
                ::core::convert::From::from(builder.init_struct(
                    <Self as $crate::data::upstream::traits::HasStructSize>::STRUCT_SIZE,
                ))
            }

            fn get_from_pointer(
                builder: $crate::data::upstream::private::layout::PointerBuilder<'a>,
                default: ::core::option::Option<&'a [$crate::data::Word]>,
            ) -> $crate::data::ReadResult<Self> {
                ::core::result::Result::map(
                    builder.get_struct(
                        <Self as $crate::data::upstream::traits::HasStructSize>::STRUCT_SIZE,
                        default,
                    ),
                    ::core::convert::From::from,
                )
            }
        }

        impl<'a, $($param),*> Builder<'a, $($param),*> {
            /// A reader of what was built.
            pub fn into_reader(self) -> Reader<'a, $($param),*> {
                ::core::convert::From::from(self.builder.into_reader())
            }

            /// The same builder with a shorter lifetime.
            pub fn reborrow(&mut self) -> Builder<'_, $($param),*> {
                ::core::convert::From::from(self.builder.reborrow())
            }

            /// A reader of what was built so far.
            pub fn reborrow_as_reader(&self) -> Reader<'_, $($param),*> {
                ::core::convert::From::from(self.builder.as_reader())
            }

            /// The size of everything that was built so far.
            ///
            /// # Errors
            /// The message is malformed, which is possible if parts of it were copied
            /// from elsewhere.
            pub fn total_size(
                &self,
            ) -> $crate::data::ReadResult<$crate::data::upstream::MessageSize> {
                self.builder.as_reader().total_size()
            }
        }
    };
}

/// What an enum can do:
///
/// ```text
/// const _: () = {
///     enumeration! {
///         Colour 0x1234 [Red 0, Green 1]
///         node words([…]);
///         annotations [1 0 u32]
///     }
/// };
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __data_enumeration {
    (
        $name:ident $id:literal [$($enumerant:ident $number:literal),*]
        node $node:expr;
        annotations [$($child:literal $index:literal $value:ty),*]
    ) => {
        #[allow(long_running_const_eval)]
        static NODE: &[$crate::data::Word] = &$node;
        static ARENA: $crate::data::Arena = $crate::data::Arena::new(NODE);

        fn annotation_type(
            child: ::core::option::Option<u16>,
            index: u32,
        ) -> $crate::data::Type {
            $crate::data::annotation_type(
                child,
                index,
                &[$(($child, $index, <$value as $crate::data::Introspect>::introspect)),*],
            )
        }

        impl $crate::data::Introspect for $name {
            fn introspect() -> $crate::data::Type {
                $crate::data::upstream::introspect::TypeVariant::Enum(
                    $crate::data::upstream::introspect::RawEnumSchema::new(
                        &ARENA,
                        annotation_type,
                    ),
                )
                .into()
            }
        }

        impl ::core::convert::From<$name>
            for $crate::data::upstream::dynamic_value::Reader<'_>
        {
            fn from(value: $name) -> Self {
                $crate::data::upstream::dynamic_value::Enum::new(
                    ::core::convert::Into::into(value),
                    $crate::data::upstream::introspect::RawEnumSchema::new(
                        &ARENA,
                        annotation_type,
                    )
                    .into(),
                )
                .into()
            }
        }

        impl ::core::convert::From<$name> for u16 {
            fn from(value: $name) -> u16 {
                match value {
                    $($name::$enumerant => $number,)*
                }
            }
        }

        impl ::core::convert::TryFrom<u16> for $name {
            type Error = $crate::data::NotInSchema;

            fn try_from(
                value: u16,
            ) -> ::core::result::Result<Self, $crate::data::NotInSchema> {
                match value {
                    $($number => ::core::result::Result::Ok($name::$enumerant),)*
                    other => ::core::result::Result::Err($crate::data::NotInSchema(other)),
                }
            }
        }

        impl $crate::data::upstream::traits::HasTypeId for $name {
            const TYPE_ID: u64 = $id;
        }
    };
}
