//! What vats tell each other when one introduces another to a third.

use capnp_threads_core::network::{
    Completion, Introduced, Introduction, Introductions, Uses, VatNetwork,
};
use capnp_threads_transport::introducing::Introduce;

use super::keys::key;
use super::*;

fn vat(id: &str) -> EndpointNetwork {
    EndpointNetwork::listening(id, "127.0.0.1", 0, parameters(Dialect::default())).unwrap()
}

fn keyed_vat() -> EndpointNetwork {
    let key = key();
    let parameters = Parameters { key: Some(key.clone()), ..parameters(Dialect::default()) };
    EndpointNetwork::listening(&key.id().to_string(), "127.0.0.1", 0, parameters).unwrap()
}

fn far(id: &str) -> EndpointVat {
    format!("{id}@10.0.0.1:7000:0").parse().unwrap()
}

#[test]
fn the_tokens_of_one_introduction_lead_to_one_key() {
    let keyed = [(); 3].map(|()| keyed_vat());
    let unkeyed = ["alice", "bob", "carol"].map(vat);
    for ([alice, bob, carol], uses) in [(keyed, Uses::Any), (unkeyed, Uses::Once)] {
        let [a, b, c] = [&alice, &bob, &carol].map(EndpointNetwork::this_vat);
        let Introduction { contact, awaited } = alice.introduce(&c, &b).unwrap();
        let Introduced { host, completion } = carol.connect_to_introduced(&a, &contact).unwrap();
        assert_eq!((host.clone(), host.hints()), (b.clone(), b.hints()));
        let key = bob.await_third_party(&a, &awaited).unwrap();
        let shown = bob.complete_third_party(&c, &completion).unwrap();
        assert_eq!(shown, Completion { introducer: Some(a.clone()), key: key.clone(), uses });
        // Nobody provides anything in the name of another vat.
        assert_ne!(bob.await_third_party(&c, &awaited).unwrap(), key);
        // Who is found nowhere is not introduced.
        let lost = EndpointVat::new(&b.id().replace(['a', 'b', 'c', 'd', '1'], "e")).unwrap();
        assert_eq!(alice.introduce(&c, &lost), None);
        assert_eq!(alice.introduce(&c, &lost.at("undialable-7")), None);
    }
}

#[test]
fn the_recipient_of_a_network_with_keys_is_told_by_its_key() {
    let [alice, bob, carol] = [(); 3].map(|()| keyed_vat());
    let [a, b, c] = [&alice, &bob, &carol].map(EndpointNetwork::this_vat);
    let Introduction { contact, awaited } = alice.introduce(&c, &b).unwrap();
    let shown = carol.connect_to_introduced(&a, &contact).unwrap().completion;
    let key = bob.await_third_party(&a, &awaited).unwrap();
    assert_ne!(bob.complete_third_party(&a, &shown).unwrap().key, key);
    // The tokens of one kind are none of the other.
    let [one, two] = ["one", "two"].map(vat);
    let bearer = one.introduce(&two.this_vat(), &far("x")).map(|made| made.contact);
    assert!(bearer.is_none());
    assert!(two.connect_to_introduced(&one.this_vat(), &contact).is_err());
    let near = one.introduce(&one.this_vat(), &two.this_vat()).unwrap();
    assert!(alice.connect_to_introduced(&b, &near.contact).is_err());
    // Keys need no care for where the others are.
    assert!(alice.introduce(&far(c.id()), &far(b.id())).is_some());
}

/// A secret is not sent where others see it, and nobody from elsewhere sends a vat to
/// addresses of its own machine.
#[test]
fn secrets_stay_on_this_machine_unless_the_program_says_otherwise() {
    let everywhere = Parameters {
        external_host: Some("127.0.0.1".to_owned()),
        ..parameters(Dialect::default())
    };
    let open = || EndpointNetwork::listening("open", "*", 0, everywhere.clone()).unwrap();
    let [careful, near] = ["careful", "near"].map(vat);
    let near = near.this_vat();
    let other: EndpointVat = "other@127.0.0.1:1:0".parse().unwrap();
    assert_eq!(careful.introduce(&far("far"), &near), None);
    assert_eq!(careful.introduce(&other, &far("far")), None);
    // It says that it is here, and may be elsewhere.
    assert_eq!(open().introduce(&other, &near), None);
    assert!(
        open()
            .await_third_party(&other, &careful.introduce(&other, &near).unwrap().awaited)
            .is_err()
    );

    // Of the addresses of a host, a vat is told those that are of use to it.
    let both = near.clone().at("10.0.0.1:7000:0");
    let told = careful.introduce(&other, &both).unwrap();
    let found = careful.connect_to_introduced(&other, &told.contact).unwrap();
    assert_eq!(found.host.hints(), near.hints());
    let generous = vat("generous").introducing(Introduce::Anywhere);
    let told_far = generous.introduce(&far("far"), &both).unwrap();
    let found = generous.connect_to_introduced(&far("far"), &told_far.contact).unwrap();
    assert_eq!(found.host.hints(), far("x").hints());
    assert!(generous.connect_to_introduced(&far("far"), &told.contact).is_err());
    assert!(careful.connect_to_introduced(&far("far"), &told.contact).is_err());
    assert!(careful.connect_to_introduced(&other, &told_far.contact).is_err());
    assert!(careful.complete_third_party(&far("far"), &found.completion).is_err());
    assert!(generous.complete_third_party(&far("far"), &found.completion).is_ok());
    assert!(vat("nobody").introducing(Introduce::Nobody).introductions().is_none());
    assert!(careful.introductions().is_some());
}

#[test]
fn the_addresses_in_a_contact_are_bounded() {
    let alice = vat("alice");
    let many = (1..400).map(|port| EndpointAddress::new("127.0.0.1", port, 0));
    let many = many.fold(EndpointVat::new("bob").unwrap(), EndpointVat::at);
    let carol: EndpointVat = "carol@127.0.0.1:1:0".parse().unwrap();
    let told = alice.introduce(&carol, &many).unwrap();
    let found = alice.connect_to_introduced(&carol, &told.contact).unwrap();
    assert_eq!(found.host.hints(), &many.hints()[..16]);
}
