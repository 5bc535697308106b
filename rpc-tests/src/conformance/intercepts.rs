//! The membrane of the conformance interfaces, on whichever side it stands.

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::{
    Client, Error, FromClient, Membrane, MembranePolicy, Passage, Result, Vat,
};
use rpc_schema::test_capnp::test_handle;
use rpc_schema::test_capnp::test_membrane::thing;

/// The ordinal of `TestMembrane.Thing.intercept`.
const INTERCEPT: u16 = 1;

/// Has `intercept` answered by things of its own.
pub(super) struct Intercepts {
    inbound: thing::Client,
    outbound: thing::Client,
}

impl Intercepts {
    pub(super) fn new(vat: &Vat) -> Self {
        Intercepts { inbound: vat.export(Says("inbound")), outbound: vat.export(Says("outbound")) }
    }
}

impl MembranePolicy for Intercepts {
    fn inbound_call(&self, interface: u64, method: u16, _: &Client) -> Result<Passage> {
        Ok(instead(interface, method, &self.inbound))
    }

    fn outbound_call(&self, interface: u64, method: u16, _: &Client) -> Result<Passage> {
        Ok(instead(interface, method, &self.outbound))
    }
}

fn instead(interface: u64, method: u16, thing: &thing::Client) -> Passage {
    if interface == thing::Client::TYPE_ID && method == INTERCEPT {
        Passage::Redirect(thing.as_client().clone())
    } else {
        Passage::Through
    }
}

struct Says(&'static str);

impl thing::Server for Says {
    fn intercept(
        &self,
        _: thing::InterceptParams,
        mut results: thing::InterceptResults,
    ) -> Result<()> {
        results.get().set_text(self.0);
        Ok(())
    }
}

/// Revokes a membrane when it is dropped.
pub(super) struct Revokes(pub(super) Membrane);

impl test_handle::Server for Revokes {}

impl Drop for Revokes {
    fn drop(&mut self) {
        self.0.revoke(Error::failed("the membrane was revoked"));
    }
}
