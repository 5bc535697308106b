//! How vats on sockets introduce each other: with the tokens of [`bearer`], because nothing
//! proves who is at the other end.

use std::path;

use capnp_threads_core::network::{
    Completion, Introduced, Introduction, Introductions, Token, Uses,
};
use capnp_threads_core::{Error, Result};

use super::{SocketNetwork, SocketVat};
use crate::Address;
use crate::introducing::{self, bearer};

/// Whether whoever is at an address is on this machine.
fn is_here(address: &Address) -> bool {
    match address {
        Address::Tcp { host, .. } => introducing::is_loopback(host),
        Address::Unix(_) | Address::UnixAbstract(_) => true,
        Address::Tls { .. } => false,
    }
}

/// An address as others have to write it, who may be in another folder.
fn place(address: &Address) -> Option<String> {
    let address = match address {
        Address::Unix(path) => Address::Unix(path::absolute(path).ok()?),
        other => other.clone(),
    };
    let text = address.to_string();
    // Some paths are no text.
    (text.parse() == Ok(address)).then_some(text)
}

impl SocketNetwork {
    /// Whether a peer is on this machine. Clients are, if the vat can be reached in no other
    /// way.
    fn peer_is_here(&self, peer: &SocketVat) -> bool {
        match peer {
            SocketVat::At(address) => is_here(address),
            SocketVat::Client(_) => self.address.as_ref().is_some_and(is_here),
        }
    }

    /// # Errors
    /// Nothing may come from a peer, or be sent to it.
    fn check(&self, peer: &SocketVat) -> Result<()> {
        let is_allowed = self.introduce.with(self.peer_is_here(peer));
        if is_allowed { Ok(()) } else { Err(introducing::not_here()) }
    }
}

impl Introductions<SocketVat> for SocketNetwork {
    fn introduce(&self, recipient: &SocketVat, host: &SocketVat) -> Option<Introduction> {
        // Clients cannot be reached.
        let SocketVat::At(address) = host else { return None };
        if !self.introduce.leads(self.peer_is_here(recipient), is_here(address)) {
            return None;
        }
        bearer::introduce(place(address))
    }

    fn connect_to_introduced(
        &self,
        introducer: &SocketVat,
        contact: &Token,
    ) -> Result<Introduced<SocketVat>> {
        self.check(introducer)?;
        let found = bearer::directions("", contact)?;
        let address: Option<Address> = match &found.places[..] {
            [place] => place.parse().ok(),
            _ => None,
        };
        let address = address.ok_or_else(|| Error::failed("a contact names no address"))?;
        if !self.introduce.leads(self.peer_is_here(introducer), is_here(&address)) {
            return Err(introducing::not_here());
        }
        Ok(Introduced { host: SocketVat::At(address), completion: found.completion })
    }

    fn await_third_party(&self, introducer: &SocketVat, awaited: &Token) -> Result<Vec<u8>> {
        self.check(introducer)?;
        bearer::provided("", awaited)
    }

    fn complete_third_party(
        &self,
        recipient: &SocketVat,
        completion: &Token,
    ) -> Result<Completion<SocketVat>> {
        self.check(recipient)?;
        // A host knows its clients by numbers of its own, so no token can name one.
        let (_, key) = bearer::shown(completion)?;
        Ok(Completion { introducer: None, key, uses: Uses::Once })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use capnp_threads_core::network::VatNetwork as _;

    use super::*;
    use crate::introducing::Introduce;

    fn listening(at: &str, introduce: Introduce) -> SocketNetwork {
        let listener = at.parse::<Address>().unwrap().listen().unwrap();
        SocketNetwork::listening(listener).unwrap().introducing(introduce)
    }

    fn at(text: &str) -> SocketVat {
        SocketVat::At(text.parse().unwrap())
    }

    const CLIENT: SocketVat = SocketVat::Client(1);

    #[test]
    fn the_tokens_of_one_introduction_lead_to_one_key() {
        let [alice, bob] = [(); 2].map(|()| listening("127.0.0.1:0", Introduce::OnThisMachine));
        let carol = SocketNetwork::client().introducing(Introduce::OnThisMachine);
        for host in ["127.0.0.1:7000", "unix:/run/a,b", "unix-abstract:c"].map(at) {
            let Introduction { contact, awaited } = alice.introduce(&CLIENT, &host).unwrap();
            let alices = SocketVat::At(alice.local_address().unwrap().clone());
            let found = carol.connect_to_introduced(&alices, &contact).unwrap();
            assert_eq!(found.host, host);
            let provided = bob.await_third_party(&CLIENT, &awaited).unwrap();
            let shown = bob.complete_third_party(&SocketVat::Client(2), &found.completion).unwrap();
            assert_eq!(shown, Completion { introducer: None, key: provided, uses: Uses::Once });
        }
    }

    #[test]
    fn who_cannot_be_reached_is_not_introduced() {
        let alice = listening("127.0.0.1:0", Introduce::Anywhere);
        assert_eq!(alice.introduce(&at("127.0.0.1:1"), &CLIENT), None);
        assert!(alice.introduce(&CLIENT, &at("127.0.0.1:1")).is_some());
    }

    /// Paths mean the same wherever they are read.
    #[test]
    fn paths_are_sent_in_full() {
        let alice = listening("127.0.0.1:0", Introduce::OnThisMachine);
        let carol = SocketNetwork::client().introducing(Introduce::OnThisMachine);
        let Introduction { contact, .. } = alice.introduce(&CLIENT, &at("unix:socket")).unwrap();
        let found = carol.connect_to_introduced(&at("127.0.0.1:1"), &contact).unwrap();
        let path = std::env::current_dir().unwrap().join("socket");
        assert_eq!(found.host, SocketVat::At(Address::Unix(path)));
    }

    /// A secret is not sent where others see it, and nobody from elsewhere sends a vat to
    /// addresses of its own machine.
    #[test]
    fn secrets_stay_on_this_machine_unless_the_program_says_otherwise() {
        let (here, there) = (at("127.0.0.1:7000"), at("10.0.0.1:7000"));
        let careful = listening("127.0.0.1:0", Introduce::OnThisMachine);
        // Clients may come from anywhere.
        let open = listening("*:0", Introduce::OnThisMachine);
        assert_eq!(careful.introduce(&there, &here), None);
        assert_eq!(careful.introduce(&here, &there), None);
        assert_eq!(open.introduce(&CLIENT, &here), None);
        assert!(open.introduce(&at("unix:/a"), &here).is_some());

        let generous = listening("*:0", Introduce::Anywhere);
        let near = careful.introduce(&CLIENT, &here).unwrap();
        let far = generous.introduce(&CLIENT, &there).unwrap();
        assert_eq!(generous.introduce(&there, &here), None);
        for (network, introducer, contact, expected) in [
            (&careful, &here, &near.contact, true),
            (&careful, &there, &near.contact, false),
            (&careful, &here, &far.contact, false),
            (&generous, &there, &near.contact, false),
            (&generous, &here, &near.contact, true),
            (&generous, &there, &far.contact, true),
        ] {
            let found = network.connect_to_introduced(introducer, contact);
            assert_eq!(found.is_ok(), expected, "{introducer:?}");
        }
        let shown = generous.connect_to_introduced(&here, &near.contact).unwrap().completion;
        for (network, expected) in [(&careful, true), (&open, false), (&generous, true)] {
            assert_eq!(network.await_third_party(&CLIENT, &near.awaited).is_ok(), expected);
            assert_eq!(network.complete_third_party(&CLIENT, &shown).is_ok(), expected);
        }
        assert!(SocketNetwork::client().introductions().is_none());
        assert!(careful.introductions().is_some());
    }
}
