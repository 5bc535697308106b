//! Capabilities in places for which the capnp crate has no typed methods.

use capnp::any_pointer;
use capnp::capability::FromClientHook;
use capnp::capability_list;

use crate::cap::from_client::FromClient;
use crate::cap::hook::Hook;

/// Puts capabilities into pointers whose type the schema leaves open.
pub trait AnyPointerExt {
    /// Lets the pointer lead to a capability. The reader's method to get it is
    /// `get_as_capability`.
    ///
    /// ```
    /// use capnp_threads_core::typed::{AnyPointerExt, CapabilityListExt};
    /// use rpc_schema::test_capnp::{test_interface, test_pipeline};
    ///
    /// /// Sends one object in all ways in which parameters can hold one.
    /// fn send(to: &test_pipeline::Client, object: &test_interface::Client) {
    ///     let mut request = to.test_pointers_request();
    ///     let mut params = request.get();
    ///     params.set_cap(object.clone());
    ///     params.reborrow().get_obj().set_client(object.clone());
    ///     params.init_list(1).set_client(0, object.clone());
    ///     let sent = request.get().into_reader();
    ///     assert!(sent.get_obj().get_as_capability::<test_interface::Client>().is_ok());
    ///     assert!(sent.get_list().is_ok_and(|list| list.get(0).is_ok()));
    /// }
    /// # struct Pipeline;
    /// # impl test_pipeline::Server for Pipeline {}
    /// # struct Object;
    /// # impl test_interface::Server for Object {}
    /// # let vat = capnp_threads_core::Vat::new();
    /// # send(&vat.export(Pipeline), &vat.export(Object));
    /// ```
    fn set_client(&mut self, client: impl FromClient);
}

impl AnyPointerExt for any_pointer::Builder<'_> {
    fn set_client(&mut self, client: impl FromClient) {
        self.set_as_capability(Hook::boxed(client.into_client()));
    }
}

/// Puts capabilities into lists of them.
pub trait CapabilityListExt {
    /// Sets one element.
    ///
    /// # Panics
    /// The list is not that long.
    fn set_client(&mut self, index: u32, client: impl FromClient);
}

impl<T: FromClientHook> CapabilityListExt for capability_list::Builder<'_, T> {
    fn set_client(&mut self, index: u32, client: impl FromClient) {
        self.set(index, Hook::boxed(client.into_client()));
    }
}
