//! The capnp crate as generated code sees it.
//!
//! Code that `capnp-threads-codegen` writes names `::capnp_threads_core::capnp`
//! wherever upstream's generator names `::capnp`. Nearly everything here is the capnp
//! crate's own, so readers, builders and messages are the same types everywhere. Only
//! what concerns calls is different: pipelines and the untyped client are this
//! library's, which threads may share.
//!
//! Programs that need nothing else of the capnp crate can use it through this path and
//! do without a dependency of their own.

pub use ::capnp::*;

/// Pointers whose type the schema leaves open.
pub mod any_pointer {
    pub use crate::typed::Pipeline;
    pub use ::capnp::any_pointer::{Builder, Owned, Reader};
}

/// What generated data types need to know of capabilities.
pub mod capability {
    pub use crate::cap::client::Client;
    pub use crate::typed::FromTypelessPipeline;
    pub use ::capnp::capability::{DynClientHook, FromClientHook};
}

/// The capnp crate's traits, with pipelines that threads may share.
pub mod traits {
    pub use crate::typed::Pipelined;
    pub use ::capnp::traits::*;
}
