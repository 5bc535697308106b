//! Objects to be called, most of which implement the interfaces of
//! `schema/test.capnp`.

mod any;
mod echo;
mod foo;
mod keeper;
mod membrane;
mod more_stuff;
mod order;
mod pipeline;
mod streaming;
mod tail;
mod threads;
mod values;

pub use self::any::any;
pub use self::echo::{Echo, Gate, Quick};
pub use self::foo::{
    Foo, FooPromise, FooResponse, Interface, answer_foo, call_foo, foo, foo_request, foo_with,
    plain, require_x,
};
pub use self::keeper::{Keeper, Keeping};
pub use self::membrane::{Inside, Intercepts, TestMembrane, Thing};
pub use self::more_stuff::{Calling, Host, MoreStuff, leave_open};
pub use self::order::{CallOrder, Order, OrderedReference, Sequence};
pub use self::pipeline::Pipeline;
pub use self::streaming::Streaming;
pub use self::tail::{TailCallee, TailCaller};
pub use self::threads::Threads;
pub use self::values::{full_message, require_full_message};
