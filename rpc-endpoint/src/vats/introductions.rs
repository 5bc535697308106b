//! How vats of endpoints introduce each other: those with keys by the tokens of [`keyed`],
//! and others by those of [`bearer`].

use capnp_threads_core::network::{
    Completion, Introduced, Introduction, Introductions, Token, Uses,
};
use capnp_threads_core::{Error, Result};
use capnp_threads_transport::VatId;
use capnp_threads_transport::introducing::{self, bearer, keyed};

use super::{EndpointNetwork, EndpointVat, Shared};
use crate::EndpointAddress;

/// The most addresses that are tried of those that an introducer names.
const MAX_HINTS: usize = 16;

/// The id of a vat in a network with keys.
fn id_of(vat: &EndpointVat) -> Result<VatId> {
    vat.id().parse().map_err(|_| Error::failed("the vat has no key"))
}

fn named(id: &str) -> Result<EndpointVat> {
    EndpointVat::new(id).map_err(|error| Error::failed(error.to_string()))
}

/// Whether whoever is at an address is on this machine. Whoever cannot be dialled may be
/// anywhere.
fn is_here(address: &EndpointAddress) -> bool {
    address.parts().is_some_and(|parts| introducing::is_loopback(parts.host))
}

impl Shared {
    /// The addresses of a vat at which others can dial it, too.
    fn dialable(&self, vat: &EndpointVat) -> Vec<EndpointAddress> {
        let mut addresses = self.addresses(self.state.lock().peers.get(vat.id()), vat);
        addresses.retain(|address| address.parts().is_some());
        addresses
    }

    /// Whether a vat that is connected is on this machine. If nobody from elsewhere can dial
    /// this vat, all others are there where this one has dialled them.
    fn peer_is_here(&self, peer: &EndpointVat) -> bool {
        self.endpoint.local().network.is_here() && self.dialable(peer).iter().all(is_here)
    }
}

impl EndpointNetwork {
    /// # Errors
    /// No secret may come from a peer, or be sent to it.
    fn check(&self, peer: &EndpointVat) -> Result<()> {
        let is_allowed = self.introduce.with(self.shared.peer_is_here(peer));
        if is_allowed { Ok(()) } else { Err(introducing::not_here()) }
    }

    fn own_key(&self) -> Option<VatId> {
        self.shared.endpoint.local().network.vat()
    }
}

impl Introductions<EndpointVat> for EndpointNetwork {
    fn introduce(&self, recipient: &EndpointVat, host: &EndpointVat) -> Option<Introduction> {
        let addresses = self.shared.dialable(host).into_iter();
        let place = |address: EndpointAddress| address.place().to_owned();
        if let Some(own) = self.own_key() {
            let [to, at] = [recipient, host].map(id_of);
            return keyed::introduce(own, to.ok()?, at.ok()?, addresses.map(place));
        }
        let here = self.shared.peer_is_here(recipient);
        let leads = |address: &EndpointAddress| self.introduce.leads(here, is_here(address));
        let mut places = addresses.filter(leads).map(place).peekable();
        // Nobody else could reach it.
        places.peek()?;
        bearer::introduce(std::iter::once(host.id().to_owned()).chain(places))
    }

    fn connect_to_introduced(
        &self,
        introducer: &EndpointVat,
        contact: &Token,
    ) -> Result<Introduced<EndpointVat>> {
        let to = |host: EndpointVat, hints: Vec<EndpointAddress>| {
            hints.into_iter().take(MAX_HINTS).fold(host, EndpointVat::at)
        };
        if let Some(own) = self.own_key() {
            let found = keyed::directions(own, id_of(introducer)?, contact)?;
            let hints = found.hints.iter().map(|hint| EndpointAddress::from(&**hint)).collect();
            let host = to(named(&found.host.to_string())?, hints);
            return Ok(Introduced { host, completion: found.completion });
        }
        self.check(introducer)?;
        let found = bearer::directions(introducer.id(), contact)?;
        let (id, places) =
            found.places.split_first().ok_or_else(|| Error::failed("a contact names no vat"))?;
        let host = named(id)?;
        let here = self.shared.peer_is_here(introducer);
        let hints = places.iter().map(|place| EndpointAddress::from(&**place));
        let hints: Vec<_> =
            hints.filter(|hint| self.introduce.leads(here, is_here(hint))).collect();
        if hints.is_empty() {
            return Err(introducing::not_here());
        }
        Ok(Introduced { host: to(host, hints), completion: found.completion })
    }

    fn await_third_party(&self, introducer: &EndpointVat, awaited: &Token) -> Result<Vec<u8>> {
        if self.shared.is_keyed() {
            return keyed::provided(id_of(introducer)?, awaited);
        }
        self.check(introducer)?;
        bearer::provided(introducer.id(), awaited)
    }

    fn complete_third_party(
        &self,
        recipient: &EndpointVat,
        completion: &Token,
    ) -> Result<Completion<EndpointVat>> {
        if self.shared.is_keyed() {
            let (introducer, key) = keyed::shown(id_of(recipient)?, completion)?;
            let introducer = Some(named(&introducer.to_string())?);
            return Ok(Completion { introducer, key, uses: Uses::Any });
        }
        self.check(recipient)?;
        let (introducer, key) = bearer::shown(completion)?;
        Ok(Completion { introducer: Some(named(&introducer)?), key, uses: Uses::Once })
    }
}
