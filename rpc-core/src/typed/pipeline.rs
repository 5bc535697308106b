//! Capabilities in results that have not arrived yet.

use capnp::capability::FromClientHook;
use capnp::traits::{Owned, OwnedStruct};

use crate::cap::client::Client;
use crate::cap::pipeline::Pipeline;

/// Types whose values have a pipeline.
pub trait Pipelined {
    /// For a struct, its generated `Pipeline`; for an interface, its `Client`.
    type Pipeline: FromTypelessPipeline;
}

impl Pipelined for ::capnp::any_pointer::Owned {
    type Pipeline = Pipeline;
}

/// The pipeline of a value that holds no capability, or none that can be pipelined.
///
/// This type has no methods. It exists so that generic types have pipelines whatever
/// their parameters are.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no content")]
pub struct NoPipeline;

impl FromTypelessPipeline for NoPipeline {
    fn new(_: Pipeline) -> Self {
        NoPipeline
    }
}

macro_rules! without_pipeline {
    ($([$($parameter:tt)*] $owned:ty;)*) => {$(
        impl<$($parameter)*> Pipelined for $owned {
            type Pipeline = NoPipeline;
        }
    )*};
}

// Everything that can be a type argument, except structs, interfaces and pointers.
without_pipeline! {
    [] capnp::text::Owned;
    [] capnp::data::Owned;
    [] capnp::text_list::Owned;
    [] capnp::data_list::Owned;
    [] capnp::any_pointer_list::Owned;
    [T] capnp::primitive_list::Owned<T>;
    [T] capnp::enum_list::Owned<T>;
    [T: OwnedStruct] capnp::struct_list::Owned<T>;
    [T: Owned] capnp::list_list::Owned<T>;
    [T: FromClientHook] capnp::capability_list::Owned<T>;
}

/// Pipelines that can be made from an untyped one.
pub trait FromTypelessPipeline {
    /// Makes the pipeline of a place in the results where a value of this type is
    /// expected.
    fn new(typeless: Pipeline) -> Self;
}

impl FromTypelessPipeline for Pipeline {
    fn new(typeless: Pipeline) -> Self {
        typeless
    }
}

impl FromTypelessPipeline for Client {
    fn new(typeless: Pipeline) -> Self {
        typeless.as_cap()
    }
}
