//! Capabilities out of results that are still to come.

use capnp::capability::FromClientHook;
use capnp::traits::{Owned, OwnedStruct};

use crate::cap::client::Client;
use crate::cap::pending::Pending;

/// A place in the results of a call, whether they have arrived or not.
///
/// Generated `Pipeline` types wrap one and have a method for every field that
/// leads to a capability. For a pointer whose type the schema leaves open this
/// is what they end in: [`as_cap`](Self::as_cap) takes it for a capability.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pending: Pending,
    path: Vec<u16>,
}

impl Pipeline {
    pub(crate) fn new(pending: Pending) -> Self {
        Pipeline { pending, path: Vec::new() }
    }

    /// The capability at this place. Calls to it are sent without waiting for
    /// the results; if there turns out to be none, they fail.
    pub fn as_cap(&self) -> Client {
        self.pending.pipelined(&self.path)
    }

    /// The place that the pointer field of this index leads to.
    #[must_use]
    pub fn get_pointer_field(&self, index: u16) -> Self {
        let mut path = Vec::with_capacity(self.path.len() + 1);
        path.extend_from_slice(&self.path);
        path.push(index);
        Pipeline { pending: self.pending.clone(), path }
    }

    /// The same place, for a group of fields.
    #[must_use]
    pub fn noop(&self) -> Self {
        self.clone()
    }
}

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
