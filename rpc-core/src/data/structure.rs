//! The macros that make the types of a struct, and what it shares with interfaces.

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
        $crate::__data_owned! { [$($param),*] "type" $label }

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

/// What names a struct or an interface where a type argument is expected: `kind` says
/// which of the two in its documentation.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_owned {
    ([$($param:ident),*] $kind:literal $label:literal) => {
        #[doc = ::core::concat!("The ", $kind, " `", $label, "`, as a type argument.")]
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
    };
}
