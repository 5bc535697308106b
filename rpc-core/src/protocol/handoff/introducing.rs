//! The introducer: it provides a capability at the host, and gives the recipient the way
//! there and a vine.

use std::sync::{Arc, Weak};

use super::ability::Follower;
use super::provide::{Provide, ProvidesAt, State, Vine};
use super::{Introduction, MAX_EMBARGO};
use crate::budget::{Place, Places};
use crate::cap::client::Client;
use crate::cap::delivery::{Delivery, Lift};
use crate::cap::effects::Effect;
use crate::error::Error;
use crate::ids::{ExportId, QuestionId};
use crate::limits::Limits;
use crate::log::tell;
use crate::protocol::dest::{Dest, Pinned};
use crate::protocol::export::{self, Export};
use crate::protocol::releases::Released;
use crate::protocol::remote_promise::RemotePromise;
use crate::protocol::{Abort, Machine, Txn};
use crate::sync::atomic::Ordering;
use crate::wire::{self, AcceptEmbargo, Context, Descriptor, PromisedAnswer, Target, Token};

/// The share of [`Limits::exports`](crate::Limits::exports) that vines may take: what is
/// introduced to one vat at once. Beyond that, this vat stands in for the host.
const VINES: u32 = 8;

/// The share of [`Limits::answers`](crate::Limits::answers) that may be provided at one host at
/// once, whose limit is taken to be that of this side. So those to whom capabilities are given
/// cannot make this vat exceed what the host allows, which would end the connection. Beyond
/// [`Limits::provisions`], the host would keep nothing.
const PROVIDES: u32 = 4;

/// The places of what may be provided at a host at once. They are taken when it is described: one
/// message may name many capabilities, and the Provides follow it. They are free again when the
/// host is told that it is taken back, which may have to wait (`ability.rs`).
pub(in crate::protocol) fn places_at_host(limits: &Limits) -> Arc<Places> {
    Places::new(limits.provisions.min(limits.answers / PROVIDES) as usize)
}

impl ProvidesAt for Machine {
    fn not_needed(self: Arc<Self>, id: QuestionId, place: Place) {
        self.released(Released::Provide(id, place));
    }

    fn lift(self: Arc<Self>, id: QuestionId, embargo: AcceptEmbargo) {
        self.transact(|txn| txn.follow(Follower::Lift(id, embargo)));
    }
}

/// Sends what was described. Must not be called under a lock.
fn send(provide: &Arc<Provide>, dest: Dest, awaited: Token) {
    let host = Arc::clone(dest.machine());
    host.transact(|txn| {
        let id = txn.send_provide(provide, &dest, awaited);
        let before = provide.becomes(id.map_or(State::Void, State::Sent));
        if let (State::Unsent(embargoes), Some(id)) = (before, id) {
            for embargo in embargoes {
                txn.follow(Follower::Lift(id, embargo));
            }
        }
    });
}

/// What can be provided at the host of another connection.
enum HandedOff {
    /// An import, or what was described as a place of the host, whatever it has become.
    There(Dest),
    /// What the host will resolve.
    Promise(Arc<RemotePromise>),
}

impl HandedOff {
    fn of(client: &Client) -> Option<Self> {
        if let Some(import) = client.clone().into_kind_as() {
            return Some(HandedOff::There(Dest::Import(import)));
        }
        if let Some(pinned) = client.kind_as::<Pinned>() {
            return pinned.dest().ok().map(HandedOff::There);
        }
        client.clone().into_kind_as().map(HandedOff::Promise)
    }

    fn host(&self) -> &Arc<Machine> {
        match self {
            HandedOff::There(dest) => dest.machine(),
            HandedOff::Promise(promise) => promise.machine(),
        }
    }

    /// Whether it has a file descriptor, or may come to have one, which this vat can pass on
    /// and the host perhaps not.
    fn may_have_fd(&self) -> bool {
        match self {
            HandedOff::There(Dest::Import(import)) if import.is_settled() => import.has_fd(),
            _ => self.host().settings.fds > 0,
        }
    }

    /// The place that is provided, and the path to it: Note [described path]. `None` if it has
    /// resolved meanwhile.
    fn pinned(self, client: &Client) -> Option<(Dest, Client)> {
        match self {
            HandedOff::There(dest) => Some((dest, client.clone())),
            HandedOff::Promise(promise) => {
                let dest = promise.location().err()?;
                let path = promise.machine().pinned_if_open(&promise, &dest)?;
                Some((dest, path))
            }
        }
    }
}

impl Txn<'_> {
    /// Names a capability as one of a third vat, if its host can be introduced to this peer.
    /// It leads to an import of another connection.
    ///
    /// # Errors
    /// Too many capabilities are exported.
    pub(in crate::protocol) fn introduce(
        &mut self,
        client: &Client,
    ) -> Result<Option<(Descriptor, Client)>, Error> {
        let Some(handed_off) = HandedOff::of(client) else { return Ok(None) };
        let Some(place) = handed_off.host().may_provide.take() else { return Ok(None) };
        let Some(Introduction { contact, awaited }) = self.introduction(&handed_off) else {
            return Ok(None);
        };
        let Some((dest, path)) = handed_off.pinned(client) else { return Ok(None) };
        let provide = Provide::new(Arc::clone(dest.machine()) as _, place);
        let id = self.free_export()?;
        let serial = self.serial();
        let vine = Vine::Root { provide: Arc::clone(&provide), lifts: 0 };
        let vine = export::Kind::Vine(vine, path.clone());
        self.machine.exports.insert(id, Export { serial, refs: 1, kind: vine, key: None });
        self.order.vines += 1;
        // Another connection's lock: see Note [handoff].
        self.effect(Effect::Do(Box::new(move || send(&provide, dest, awaited))));
        Ok(Some((Descriptor::ThirdPartyHosted(id.0, Some(contact)), path)))
    }

    fn introduction(&self, handed_off: &HandedOff) -> Option<Introduction> {
        let host = handed_off.host();
        if handed_off.may_have_fd() || !self.may_send_vine(host) {
            return None;
        }
        self.machine.neighbour.as_ref()?.introduce_to(&**host.neighbour.as_ref()?)
    }

    /// Whether a vine may be sent that leads to the peer of another connection.
    pub(super) fn may_send_vine(&self, other: &Machine) -> bool {
        let able = |machine: &Machine| {
            !machine.has_border
                && !machine.refused_handoffs.load(Ordering::SeqCst)
                && !machine.room().is_closed()
        };
        let room = self.order.vines < (self.limits().exports / VINES) as usize;
        room && able(self.machine) && able(other)
    }

    /// Sends a Provide for a capability of the peer, and returns its id.
    fn send_provide(
        &mut self,
        provide: &Arc<Provide>,
        dest: &Dest,
        awaited: Token,
    ) -> Option<QuestionId> {
        if self.dead().is_some() {
            return None;
        }
        let id = self.unreturned_question()?;
        self.sends_what_may_be_unknown();
        self.machine.provides.insert(id, Arc::downgrade(provide));
        let target = match self.nameable(dest) {
            Ok(()) => dest.target(),
            // The results had no capabilities, and their id may be another question's. A field
            // of the Provide itself does not exist either, so whoever comes is told so.
            Err(_) => {
                Target::PromisedAnswer(PromisedAnswer { question: id.0, path: Some([].into()) })
            }
        };
        self.send(wire::Message::Provide(wire::Provide {
            question: id.0,
            target,
            recipient: Some(awaited),
        }));
        Some(id)
    }

    /// The recipient wants an embargo to be lifted behind its earlier calls.
    ///
    /// Of one vine, so many are lifted as an honest recipient needs: the host would have to
    /// remember them, and would hold it against this vat. Those that are left wait at the host
    /// until their time is over.
    pub(in crate::protocol) fn lift_at_vine(
        &mut self,
        id: u32,
        embargo: AcceptEmbargo,
    ) -> Result<(), Abort> {
        let vine = self.machine.exports.with(ExportId(id), |entry| match &mut entry.kind {
            export::Kind::Vine(vine, client) => {
                let may_lift = vine.may_lift() && embargo.len() <= MAX_EMBARGO;
                let provided = match vine {
                    Vine::Root { provide, .. } => Some(Arc::clone(provide) as _),
                    Vine::Forwarded(_) => None,
                };
                Some((client.clone(), provided, may_lift))
            }
            _ => None,
        });
        let Some((client, provided, may_lift)) = vine.flatten() else {
            return Err(Abort::new(format!(
                "Disembargo of an Accept for export {id}, which is no vine"
            )));
        };
        if !may_lift {
            tell!(DEBUG, "the peer lifts embargoes without end; this one is not lifted");
            self.effect(Effect::drop((client, provided)));
            return Ok(());
        }
        let lift = Delivery::Lift(Lift::new(provided, embargo));
        self.hand_over(crate::protocol::named::Hosted::client(client), lift, 0);
        Ok(())
    }

    /// Sends the end of an embargo on behind the calls before it, which were sent to `dest`: to
    /// that vine of another vat or, where this vat has introduced, to the host.
    pub(in crate::protocol) fn pass_lift_on(&mut self, dest: &Dest, lift: Lift) {
        if let Some(embargo) = lift.at_vine() {
            let context = Context::Accept(embargo.clone());
            self.send(wire::Message::Disembargo(wire::Disembargo {
                target: dest.target(),
                context,
            }));
        }
    }

    /// The vine of a Provide is gone.
    pub(in crate::protocol) fn provide_released(&mut self, id: QuestionId, place: Place) {
        if self.machine.provides.remove(id).is_some() {
            self.follow(Follower::Finish(id, place));
        }
    }

    /// The host does not know what a Provide is.
    pub(in crate::protocol) fn provide_refused(&mut self, id: QuestionId) {
        self.machine.refused_handoffs.store(true, Ordering::SeqCst);
        let provide: Option<Weak<Provide>> = self.machine.provides.remove(id);
        if let Some(provide) = provide.and_then(|provide| provide.upgrade()) {
            provide.becomes(State::Void);
            self.effect(Effect::drop(provide));
        }
    }
}

#[cfg(test)]
impl RemotePromise {
    /// The place of a promise of a peer that has not resolved.
    pub(crate) fn place(client: &Client) -> Option<Dest> {
        client.shortened().into_kind_as::<RemotePromise>()?.location().err()
    }
}

#[cfg(test)]
impl Machine {
    /// Provides what is, or was, at a place of the peer, for a vine that is gone at once.
    pub(crate) fn provides(self: &Arc<Self>, dest: Dest) {
        let Some(place) = self.may_provide.take() else { return };
        let provide = Provide::new(Arc::clone(self) as _, place);
        // Whom it is for makes no difference here.
        let Ok(nobody) = Token::of_bytes(b"nobody") else { return };
        send(&provide, dest, nobody);
    }
}
