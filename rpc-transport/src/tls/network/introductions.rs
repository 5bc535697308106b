//! How vats with keys introduce each other: with the tokens of [`keyed`].

use capnp_threads_core::Result;
use capnp_threads_core::network::{
    Completion, Introduced, Introduction, Introductions, Token, Uses,
};

use super::name::TlsVat;
use super::{MAX_HINTS, TlsNetwork};
use crate::introducing::keyed;

impl Introductions<TlsVat> for TlsNetwork {
    fn introduce(&self, recipient: &TlsVat, host: &TlsVat) -> Option<Introduction> {
        let addresses = self.shared.state.lock().addresses(host);
        let known = addresses.into_iter().fold(TlsVat::new(host.id()), TlsVat::with);
        keyed::introduce(self.id(), recipient.id(), host.id(), known.places())
    }

    fn connect_to_introduced(
        &self,
        introducer: &TlsVat,
        contact: &Token,
    ) -> Result<Introduced<TlsVat>> {
        let found = keyed::directions(self.id(), introducer.id(), contact)?;
        let hints = TlsVat::new(found.host).with_places(found.hints.iter().map(String::as_str));
        let hints = hints.hints().iter().take(MAX_HINTS).cloned();
        let host = hints.fold(TlsVat::new(found.host), TlsVat::with);
        Ok(Introduced { host, completion: found.completion })
    }

    fn await_third_party(&self, introducer: &TlsVat, awaited: &Token) -> Result<Vec<u8>> {
        keyed::provided(introducer.id(), awaited)
    }

    fn complete_third_party(
        &self,
        recipient: &TlsVat,
        completion: &Token,
    ) -> Result<Completion<TlsVat>> {
        let (introducer, key) = keyed::shown(recipient.id(), completion)?;
        Ok(Completion { introducer: Some(TlsVat::new(introducer)), key, uses: Uses::Any })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::VatKey;
    use super::*;

    fn networks<const COUNT: usize>() -> [TlsNetwork; COUNT] {
        std::array::from_fn(|_| {
            let key = VatKey::generate().unwrap();
            TlsNetwork::listening(&key, &"127.0.0.1:0".parse().unwrap()).unwrap()
        })
    }

    #[test]
    fn the_tokens_of_one_introduction_lead_to_one_key() {
        let [alice, bob, carol] = networks();
        let [a, b, c] = [&alice, &bob, &carol].map(TlsNetwork::this_vat);
        let Introduction { contact, awaited } = alice.introduce(&c, &b).unwrap();
        let Introduced { host, completion } = carol.connect_to_introduced(&a, &contact).unwrap();
        assert_eq!((host.clone(), host.hints()), (b.clone(), b.hints()));
        let expected = bob.await_third_party(&a, &awaited).unwrap();
        let shown = bob.complete_third_party(&c, &completion).unwrap();
        assert_eq!((shown.introducer, shown.key), (Some(a.clone()), expected.clone()));
        assert_eq!(shown.uses, Uses::Any);

        // Somebody else who shows it, and something else that was provided, are another
        // matter.
        assert_ne!(bob.complete_third_party(&a, &completion).unwrap().key, expected);
        assert_ne!(bob.await_third_party(&c, &awaited).unwrap(), expected);
        let again = alice.introduce(&c, &b).unwrap();
        assert_ne!(bob.await_third_party(&a, &again.awaited).unwrap(), expected);
    }

    #[test]
    fn who_cannot_be_reached_is_not_introduced() {
        let [alice, carol] = networks();
        let hidden = TlsVat::new(VatKey::generate().unwrap().id());
        assert_eq!(alice.introduce(&carol.this_vat(), &hidden), None);
    }

    /// Wherever a peer says that a host is, only the host is taken for it; and it says no
    /// more than fits.
    #[test]
    fn the_addresses_in_a_contact_are_bounded() {
        let [alice, bob, carol] = networks();
        let mut far = bob.this_vat();
        for port in 1..400 {
            far = far.at("a-host-with-a-long-name.example", port);
        }
        let Introduction { contact, .. } = alice.introduce(&carol.this_vat(), &far).unwrap();
        let found = carol.connect_to_introduced(&alice.this_vat(), &contact).unwrap();
        assert_eq!(found.host.hints(), &far.hints()[..MAX_HINTS]);
        // Somebody else may say more.
        let many = (1..150).map(|port| format!("h:{port}"));
        let told = keyed::introduce(alice.id(), carol.id(), bob.id(), many).unwrap();
        let found = carol.connect_to_introduced(&alice.this_vat(), &told.contact).unwrap();
        assert_eq!(found.host.hints().len(), MAX_HINTS);
    }
}
