//! Promises of the peer that resolve, and the embargoes that keep the order of calls.

use std::sync::Arc;

use crate::budget::Kind;
use crate::cap::client::Client;
use crate::cap::delivery::{Delivery, Echo};
use crate::cap::local_promise::LocalPromise;
use crate::error::Error;
use crate::ids::{EmbargoId, ImportId};
use crate::protocol::descriptors::view::View;
use crate::protocol::embargo::Embargo;
use crate::protocol::handoff::Earlier;
use crate::protocol::import::{self, Resolution};
use crate::protocol::named::{Hosted, Named};
use crate::protocol::remote_promise::RemotePromise;
use crate::protocol::{Abort, Txn, costs};
use crate::wire::{self, Context, Descriptor, Target};

impl Txn<'_> {
    pub(super) fn receive_resolve(&mut self, resolve: wire::Resolve) -> Result<(), Abort> {
        let machine = self.machine;
        let id = ImportId(resolve.promise);
        let before = machine.imports.with(id, |import| match &mut import.kind {
            import::Kind::Settled => {
                Err(Abort::new(format!("Resolve of {id}, which is no promise")))
            }
            import::Kind::Promised { node, resolution, .. } => match *resolution {
                Resolution::Resolved => {
                    Err(Abort::new(format!("a second Resolve of promise {id}")))
                }
                Resolution::Pending { called } => {
                    *resolution = Resolution::Resolved;
                    Ok((node.upgrade(), called))
                }
            },
        });
        if let Ok(Descriptor::None) = resolve.resolution {
            return Err(Abort::new(format!("Resolve of promise {id} to `none`")));
        }
        let (node, called) = match before {
            Some(before) => before?,
            None => (None, false),
        };
        let target = match resolve.resolution {
            Err(error) => {
                let charge = self.charge(Kind::Content, error.size() as u64)?;
                Client::broken(error.charged(charge))
            }
            Ok(descriptor) => {
                // The target is looked up even if it is not wanted, because this side
                // has to release its references.
                let named = self.import(&descriptor, 0)?;
                let dest = || wire::Target::ImportedCap(id.0);
                self.settled_target(named, called && node.is_some(), dest)
            }
        };
        self.resolve_node(node, target);
        Ok(())
    }

    /// What a promise of the peer resolves to: the capability that the peer named, or
    /// an embargo in front of it. See Note [embargo].
    pub(super) fn settled_target(
        &mut self,
        named: Named,
        called: bool,
        promise: impl FnOnce() -> wire::Target,
    ) -> Client {
        let mut named = match named {
            // What was sent through the promise is on its way to the host.
            Named::Introduced(introduced) => {
                let earlier = if called { Earlier::Calls } else { Earlier::None };
                return self.deferred(introduced, earlier);
            }
            Named::Deferred(client, _) => return client,
            // What was sent through the promise comes back by the vine.
            Named::Reflected(_, vine) if called => Named::Ours(vine),
            named @ Named::Reflected(..) => return self.reference_at_once(named),
            named @ (Named::Theirs(_) | Named::Ours(_)) => named,
        };
        let target = match &mut named {
            Named::Introduced(_) | Named::Deferred(..) | Named::Reflected(..) => Client::null(),
            Named::Theirs(client) => client.shortened(),
            Named::Ours(place) => self.settled_now(place).shortened(),
        };
        let promise = promise();
        if let View::Pinned(pinned) = self.view(&target)
            && *pinned.target() == promise
        {
            // See Note [cycles]. This holds even if the promise is no longer referred
            // to.
            let broken = Client::broken(Error::failed("a promise was resolved to itself"));
            pinned.give_up(broken.clone());
            return broken;
        }
        if !called {
            return self.reference_at_once(named);
        }
        let way = match (named, self.view(&target)) {
            (_, View::Null | View::Broken(_))
            | (Named::Introduced(_) | Named::Deferred(..) | Named::Reflected(..), _)
            | (Named::Theirs(_), View::Import(_) | View::Pinned(_)) => return target,
            (Named::Theirs(_), View::Remote(next)) => {
                // From one promise of the peer to the next: what was sent through the
                // first one counts for the second one.
                if let Err(dest) = next.location() {
                    self.mark_called(&dest);
                }
                return target;
            }
            // Either this side hosts the target, or the promise that the peer named has
            // already resolved to a capability of this side. In the end the embargo
            // leads to the path that the earlier calls took when they came back, even
            // if a shorter one is known by then: see Note [described path].
            (Named::Theirs(client), _) => Hosted::client(client),
            (Named::Ours(place), _) => place,
        };
        self.embargo(way, promise)
    }

    fn embargo(&mut self, mut target: Hosted, promise: wire::Target) -> Client {
        if self.machine.embargoes.len() >= self.limits().embargoes as usize {
            return Client::broken(Error::overloaded(format!(
                "more than {} promises wait for their embargo; raise Limits::embargoes",
                self.limits().embargoes
            )));
        }
        let Some(id) = self.order.embargo_ids.allocate() else {
            return Client::broken(Error::overloaded("no embargo id is free"));
        };
        let ahead = self.settled_now(&mut target);
        let gate = LocalPromise::before_embargoed(Arc::downgrade(self.machine) as _, ahead);
        self.machine
            .embargoes
            .insert(EmbargoId(id), Embargo { promise: Arc::clone(&gate), target });
        self.send(wire::Message::Disembargo(wire::Disembargo {
            target: promise,
            context: Context::SenderLoopback(id),
        }));
        Client::of(gate)
    }

    pub(super) fn receive_disembargo(&mut self, disembargo: wire::Disembargo) -> Result<(), Abort> {
        match disembargo.context {
            Context::ReceiverLoopback(id) => {
                let embargo = self.machine.embargoes.remove(EmbargoId(id)).ok_or_else(|| {
                    Abort::new(format!("Disembargo for embargo {id}, which does not exist"))
                })?;
                self.order.embargo_ids.release(id);
                self.lift(embargo.promise, embargo.target);
                Ok(())
            }
            Context::SenderLoopback(embargo) => {
                let target = match &disembargo.target {
                    Target::ImportedCap(id) => self.export_place(*id).ok_or_else(|| {
                        Abort::new(format!("Disembargo of export {id}, which does not exist"))
                    })?,
                    Target::PromisedAnswer(answer) => self
                        .field_place(answer)
                        .map_err(|error| Abort::new(format!("Disembargo: {}", error.reason())))?,
                    Target::Unknown => {
                        return Err(Abort(Error::unimplemented(
                            "Disembargo of a target that is not known here",
                        )));
                    }
                };
                let charge = self.charge(Kind::Content, costs::disembargo(&disembargo.target))?;
                let echo = Echo::new(Arc::clone(self.machine) as _, embargo, charge);
                self.hand_over(target, Delivery::Disembargo(echo), 0);
                if !self.machine.embargoes.is_empty() {
                    // It may wait for what this Disembargo ends: Note [flow limit].
                    self.deliver_all_held();
                }
                Ok(())
            }
            Context::Accept(_) if self.machine.neighbour.is_none() => {
                self.echo(wire::Message::Disembargo(disembargo))
            }
            Context::Accept(embargo) => match &disembargo.target {
                Target::ImportedCap(vine) => self.lift_at_vine(*vine, embargo),
                Target::PromisedAnswer(answer) => self.lift_provision(answer, embargo),
                Target::Unknown => Err(Abort(Error::unimplemented(
                    "Disembargo of a target that is not known here",
                ))),
            },
            Context::Unknown => Ok(()),
        }
    }

    /// Resolves a promise of the peer, unless nothing refers to it any more.
    pub(in crate::protocol) fn resolve_node(
        &mut self,
        node: Option<Arc<RemotePromise>>,
        target: Client,
    ) {
        if let Some(node) = node {
            for effect in node.resolve(target) {
                self.effect(effect);
            }
        }
    }
}
