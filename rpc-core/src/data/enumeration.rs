//! The macro that makes what an enum can do.

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
