//! The macro around the code of a file.

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
