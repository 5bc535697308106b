//! Capabilities out of results that are still to come.

use capnp::capability::FromClientHook;
use capnp::traits::{Owned, OwnedStruct};

use crate::cap::client::Client;
use crate::cap::pipeline::Pipeline;

/// Types that say what their values' pipelines look like.
pub trait Pipelined {
    /// For a struct its generated `Pipeline`, for an interface its `Client`.
    type Pipeline: FromTypelessPipeline;
}

impl Pipelined for ::capnp::any_pointer::Owned {
    type Pipeline = Pipeline;
}

/// The pipeline of what holds no capability, or none that can be pipelined.
///
/// Nothing can be done with it. It is there so that generic types have pipelines
/// whatever their parameters are.
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

// Everything that can be a type argument, but structs, interfaces and pointers.
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

/// Pipelines by what they lead to.
pub trait FromTypelessPipeline {
    /// Takes what is at a place for a value of this type.
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
