//! Peers that abuse introductions: those who introduce, those who come, and those who send a
//! vat elsewhere.
//!
//! The vat is in a network of Unix sockets whose vats are introduced to each other. What its
//! peers say is made by hand.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use capnp_threads_core::network::{Introduction, Token};
use capnp_threads_core::{Concurrency, RpcSystem};
use capnp_threads_transport::introducing::{Introduce, bearer};
use capnp_threads_transport::{Address, SocketNetwork};

use super::siege::Own;
use super::target::{Method, target};
use super::{Attack, Bound, Ends, Seen, Siege};
use crate::support::LONG;
use crate::support::raw::{self, Outcome, RawPeer, Said, Target};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "tokens",
        about: "comes with tokens that are forged, replayed, foreign, expired or malformed",
        bounds: &[Bound::Budget],
        ends: Ends::Refused("was fetched before"),
        run: tokens,
    },
    Attack {
        name: "accepts-of-nothing",
        about: "comes for capabilities that nobody provides",
        bounds: &[Bound::Accepts],
        ends: Ends::Refused("Limits::accepts"),
        run: accepts_of_nothing,
    },
    Attack {
        name: "provisions-for-nobody",
        about: "provides capabilities for which nobody comes",
        bounds: &[Bound::Provisions],
        ends: Ends::Refused("Limits::provisions"),
        run: provisions_for_nobody,
    },
    Attack {
        name: "embargoes-of-nobody",
        about: "lifts embargoes of what it provides that nobody has named",
        bounds: &[Bound::Budget],
        ends: Ends::GoesOn,
        run: embargoes_of_nobody,
    },
    Attack {
        name: "contacts-that-lead-nowhere",
        about: "names capabilities of third vats that are not there, with tokens that are none",
        bounds: &[Bound::Budget],
        ends: Ends::GoesOn,
        run: contacts_that_lead_nowhere,
    },
    Attack {
        name: "contacts-to-dial",
        about: "sends the vat to very many addresses, where nobody ever answers",
        bounds: &[Bound::Budget, Bound::Introduced],
        ends: Ends::GoesOn,
        run: contacts_to_dial,
    },
];

/// The number of a name that no other socket of this process has.
fn fresh() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::SeqCst)
}

/// A Unix socket that listens under a name of its own.
struct Place {
    name: String,
}

impl Place {
    fn new() -> Self {
        Place { name: format!("siege-{}-{}", process::id(), fresh()) }
    }

    fn address(&self) -> Address {
        Address::UnixAbstract(self.name.clone())
    }

    fn socket(&self) -> SocketAddr {
        SocketAddr::from_abstract_name(&self.name).unwrap()
    }
}

/// The vat under attack, as a member of the network.
struct Victim {
    system: RpcSystem<SocketNetwork>,
    place: Place,
}

/// One that is connected to it, and says what the attack says.
struct Third {
    peer: RawPeer,
    object: u32,
    asked: u32,
    seen: Seen,
    _own: Own,
}

impl Victim {
    fn start(siege: &Siege) -> Self {
        let place = Place::new();
        let network = SocketNetwork::listening(place.address().listen().unwrap()).unwrap();
        let own = siege.vat.clone();
        let system = RpcSystem::builder(&siege.vat, network.introducing(Introduce::OnThisMachine))
            .bootstrap_factory(move |_| Some(target(&own, Concurrency::Concurrent)))
            .limits(siege.limits.clone())
            .accept_at_once(true)
            .introduction_timeout(LONG)
            .start()
            .unwrap();
        Victim { system, place }
    }

    fn third(&self, siege: &Siege) -> Third {
        let own = siege.own_with(2, 0);
        let stream = UnixStream::connect_addr(&self.place.socket()).unwrap();
        let mut peer = RawPeer::over(stream);
        let object = peer.bootstrapped(0);
        Third { peer, object, asked: 0, seen: Seen::default(), _own: own }
    }

    /// Ends it, when all attackers have left.
    fn end(self, siege: &Siege) {
        siege.look();
        siege.honest_goes_on();
        siege.until("the attackers to be gone", || self.system.connection_count() == 0);
        assert!(self.system.drain(LONG).unwrap(), "the network does not end");
    }
}

impl Third {
    /// A question of its own.
    fn ask(&mut self) -> u32 {
        self.asked += 1;
        self.asked
    }

    /// Waits until the vat has looked at everything that was sent, and notes what it says.
    /// `false` if it has ended the connection.
    fn sync(&mut self) -> bool {
        let mark = self.ask();
        self.peer.bootstrap(mark);
        loop {
            match self.peer.receive() {
                None => return false,
                Some(Said::Return { answer, .. }) if answer == mark => break,
                Some(said) => self.seen.note(&said),
            }
        }
        self.peer.finish(mark, true);
        true
    }

    /// Waits for the answer to a question.
    fn outcome(&mut self, question: u32) -> Outcome {
        let outcome = self.peer.outcome(question);
        self.seen.note(&Said::Return { answer: question, outcome: outcome.clone() });
        self.peer.finish(question, true);
        outcome
    }

    fn accept(&mut self, completion: Option<&Token>) -> u32 {
        let question = self.ask();
        self.peer.bytes(&raw::accept(question, completion));
        question
    }

    fn provide(&mut self, awaited: &Token) -> u32 {
        let question = self.ask();
        self.peer.bytes(&raw::provide(question, &Target::Import(self.object), awaited));
        question
    }

    /// Gives the vat a capability of a third vat, which it keeps as long as the call is under
    /// way.
    fn give(&mut self, method: Method, contact: Option<&Token>) -> u32 {
        let (question, object) = (self.ask(), Target::Import(self.object));
        self.peer.bytes(&raw::call_with_contact(question, &object, method as u16, contact));
        question
    }

    fn leave(mut self) -> Seen {
        self.peer.end();
        while let Some(said) = self.peer.receive() {
            self.seen.note(&said);
        }
        self.seen
    }
}

fn changed(token: &Token, change: impl FnOnce(&mut Vec<u8>)) -> Token {
    let mut bytes = token.bytes().unwrap();
    change(&mut bytes);
    Token::of_bytes(&bytes).unwrap()
}

/// An introduction to wherever, with what the recipient shows.
fn introduction() -> (Introduction, Token) {
    let made = bearer::introduce(["unix:/nowhere".to_owned()]).unwrap();
    let completion = bearer::directions("", &made.contact).unwrap().completion;
    (made, completion)
}

fn tokens(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let [mut introducer, mut recipient] = [victim.third(siege), victim.third(siege)];
    let mut fetched = 0;
    for _ in 0..20 {
        let (made, completion) = introduction();
        let provision = introducer.provide(&made.awaited);
        // What nothing was provided for waits, and what is no token is refused.
        let one_bit = changed(&completion, |bytes| bytes[10] ^= 1);
        let named = changed(&completion, |bytes| bytes.push(b'x'));
        let waiting = [recipient.accept(Some(&one_bit)), recipient.accept(Some(&named))];
        let expired = changed(&completion, |bytes| bytes[18..26].fill(0));
        let short = changed(&completion, |bytes| bytes.truncate(20));
        let keyed = changed(&completion, |bytes| bytes[0] = 1);
        let others = [&expired, &short, &keyed, &made.contact, &made.awaited].map(Some);
        for token in others.into_iter().chain([None]) {
            let question = recipient.accept(token);
            let outcome = recipient.outcome(question);
            assert!(matches!(outcome, Outcome::Exception(_)), "{outcome:?} for a bad token");
        }
        // Provided before or after: it is fetched once, by whoever has the secret.
        assert!(introducer.sync());
        let outcomes = [(); 3].map(|()| {
            let question = recipient.accept(Some(&completion));
            recipient.outcome(question)
        });
        fetched += outcomes.iter().filter(|one| matches!(one, Outcome::Results(_))).count();
        for question in waiting {
            recipient.peer.finish(question, true);
        }
        introducer.peer.finish(provision, true);
        siege.look();
    }
    assert!(recipient.sync());
    assert_eq!(fetched, 20, "a secret is good for one use");
    introducer.leave();
    let seen = recipient.leave();
    victim.end(siege);
    seen
}

/// Sends something so many times, and looks at the vat from time to time.
fn over_and_over(siege: &Siege, count: u32, third: &mut Third, send: impl Fn(&mut Third)) {
    for number in 1..=count {
        send(third);
        if number % 64 == 0 {
            siege.look();
            if !third.sync() {
                return;
            }
        }
    }
    third.sync();
    siege.look();
}

fn accepts_of_nothing(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let mut third = victim.third(siege);
    over_and_over(siege, 4 * siege.sizes.limits.accepts, &mut third, |third| {
        let (_, completion) = introduction();
        third.accept(Some(&completion));
    });
    let seen = third.leave();
    victim.end(siege);
    seen
}

fn provisions_for_nobody(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let [mut introducer, mut recipient] = [victim.third(siege), victim.third(siege)];
    over_and_over(siege, 4 * siege.sizes.limits.provisions, &mut introducer, |introducer| {
        let (made, _) = introduction();
        introducer.provide(&made.awaited);
    });
    // Only who comes sees that it was too much.
    let (made, completion) = introduction();
    introducer.provide(&made.awaited);
    assert!(introducer.sync());
    let question = recipient.accept(Some(&completion));
    recipient.outcome(question);
    introducer.leave();
    let seen = recipient.leave();
    victim.end(siege);
    seen
}

fn embargoes_of_nobody(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let mut third = victim.third(siege);
    let (made, _) = introduction();
    let provision = third.provide(&made.awaited);
    for name in 0..10_000_u32 {
        third.peer.send(|message| {
            let mut disembargo = message.init_disembargo();
            let target = Target::Answer(provision, Vec::new());
            raw::write_target(disembargo.reborrow().init_target(), &target);
            disembargo.get_context().set_accept(&name.to_be_bytes());
        });
        if name % 64 == 0 && !third.sync() {
            break;
        }
    }
    siege.look();
    let seen = third.leave();
    victim.end(siege);
    seen
}

fn contacts_that_lead_nowhere(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let mut third = victim.third(siege);
    let (good, completion) = introduction();
    let place = |text: &str| bearer::introduce([text.to_owned()]).unwrap().contact;
    let contacts = [
        None,
        Some(Token::of_bytes(&[]).unwrap()),
        Some(good.awaited.clone()),
        Some(completion),
        Some(changed(&good.contact, |bytes| bytes[18..26].fill(0))),
        Some(changed(&good.contact, |bytes| bytes.truncate(26))),
        Some(place("nonsense")),
        Some(place("10.0.0.1:7000")),
        Some(place("tls:nobody@127.0.0.1:1")),
        // Nobody listens there.
        Some(good.contact.clone()),
    ];
    let itself = place(&victim.place.address().to_string());
    for _ in 0..20 {
        for contact in &contacts {
            let question = third.give(Method::Pass, contact.as_ref());
            // However bad it is, the vat calls the vine.
            third.peer.receive_until("a call of the vine", |said| match said {
                Said::Call { target: Target::Import(vine), .. } => {
                    (*vine == question).then_some(())
                }
                _ => None,
            });
            third.peer.finish(question, true);
        }
        // It waits for what nobody provides.
        let question = third.give(Method::Pass, Some(&itself));
        assert!(third.sync());
        third.peer.finish(question, true);
        siege.look();
    }
    let seen = third.leave();
    victim.end(siege);
    seen
}

fn contacts_to_dial(siege: &Siege) -> Seen {
    let victim = Victim::start(siege);
    let mut third = victim.third(siege);
    let most = u64::from(siege.sizes.limits.introduced);
    let count = 2 * most;
    let _own = siege.own_with(count, 0);
    let hosts: Vec<UnixListener> = (0..count)
        .map(|number| {
            let place = Place::new();
            let listener = UnixListener::bind_addr(&place.socket()).unwrap();
            let contact = bearer::introduce([place.address().to_string()]).unwrap().contact;
            third.give(Method::Pass, Some(&contact));
            if number % 8 == 0 {
                siege.look();
            }
            listener
        })
        .collect();
    // Calls to those to whom the vat is connected wait for an answer there, and the others come
    // back.
    let mut back = 0;
    third.peer.receive_until("calls of those vines that are used", |said| {
        back += u64::from(matches!(said, Said::Call { .. }));
        (back == most).then_some(())
    });
    siege.look();
    siege.honest_goes_on();
    assert!(victim.system.connection_count() as u64 <= most + 1, "too many were dialled");
    let seen = third.leave();
    drop(hosts);
    victim.end(siege);
    seen
}
