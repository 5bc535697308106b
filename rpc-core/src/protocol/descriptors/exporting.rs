//! How capabilities get into messages.

use std::sync::{Arc, Weak};

use super::view::View;
use crate::cap::client::Client;
use crate::cap::watch::{ExportWatcher, WatchKey, Watcher};
use crate::error::Error;
use crate::fd::SharedFd;
use crate::ids::{ExportId, Serial};
use crate::memory::GiveBack;
use crate::protocol::dest::{Dest, Pinned};
use crate::protocol::export::{self, Export, ExportSlot};
use crate::protocol::remote_promise::RemotePromise;
use crate::protocol::{Abort, Machine, Txn, import, question};
use crate::wire::{self, Attached, Descriptor};

/// Number of exports for which the search by capability may keep memory.
const KEPT: usize = 256;

/// A capability as a message will name it.
pub(in crate::protocol) struct Described {
    pub(in crate::protocol) descriptor: Descriptor,
    /// The path of calls that the peer sends through it: Note [described path].
    pub(in crate::protocol) path: Client,
    /// The file descriptor that travels with it.
    pub(in crate::protocol) fd: Option<SharedFd>,
}

/// What a description is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum DescribedFor {
    /// Parameters: the path is that of a new place, if it is one of this side's.
    Params,
    /// A place of this side, to which something may be on its way: a field of results, or a
    /// promise that has resolved. The path becomes that of the place.
    Place,
}

impl Described {
    fn new(descriptor: Descriptor, path: Client) -> Self {
        Described { descriptor, path, fd: None }
    }

    /// The export that the descriptor counted up.
    pub(in crate::protocol) fn export(&self) -> Option<ExportId> {
        exported(&self.descriptor)
    }
}

/// The export of the sender that a descriptor names.
pub(in crate::protocol) fn exported(descriptor: &Descriptor) -> Option<ExportId> {
    match descriptor {
        Descriptor::SenderHosted(id)
        | Descriptor::SenderPromise(id)
        | Descriptor::ThirdPartyHosted(id, _) => Some(ExportId(*id)),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ExportAs {
    Settled,
    Promise,
    Broken,
}

impl Machine {
    /// What stands for a promise of the peer, at `dest`, where it was described: one
    /// capability, shared while it is referred to.
    pub(in crate::protocol) fn pinned(&self, promise: &Arc<RemotePromise>, dest: Dest) -> Client {
        let open = self.pinned_if_open(promise, &dest);
        open.unwrap_or_else(|| Client::of(Pinned::new(dest, promise)))
    }

    /// The same, for those who do not hold the order lock: `None` if the place is not open any
    /// more, so that nobody would give it up. Looking and entering are one step. If two threads
    /// could enter something for one place, then only one of these would be given up, and the
    /// other would keep the question as long as it exists.
    pub(in crate::protocol) fn pinned_if_open(
        &self,
        promise: &Arc<RemotePromise>,
        dest: &Dest,
    ) -> Option<Client> {
        self.with_pinned(dest, |known| {
            Client::of(known.upgrade().unwrap_or_else(|| {
                let pinned = Pinned::new(dest.clone(), promise);
                *known = Arc::downgrade(&pinned);
                pinned
            }))
        })
    }

    /// Runs `step` on what stands for an open place of the peer.
    fn with_pinned<R>(&self, dest: &Dest, step: impl FnOnce(&mut Weak<Pinned>) -> R) -> Option<R> {
        match dest {
            Dest::Import(import) => {
                self.imports.with(import.id(), |entry| match &mut entry.kind {
                    import::Kind::Promised { pinned, .. } => Some(step(pinned)),
                    import::Kind::Settled => None,
                })?
            }
            Dest::Answer(question, path) => {
                self.questions.with(question.id(), |entry| match &mut entry.state {
                    question::State::Asked(asked) if entry.serial == question.serial() => {
                        asked.fields.get_mut(path).map(|field| step(&mut field.pinned))
                    }
                    _ => None,
                })?
            }
        }
    }
}

impl Txn<'_> {
    // ---- Out

    /// Names several capabilities: all of them, or none.
    pub(in crate::protocol) fn describe_all(
        &mut self,
        caps: &[Client],
        what: DescribedFor,
    ) -> Result<Vec<Described>, Error> {
        let mut described: Vec<Described> = Vec::with_capacity(caps.len());
        let mut fds = 0;
        for client in caps {
            match self.describe(client, what) {
                Ok(mut one) => {
                    if one.fd.is_some() {
                        // The peer keeps one file descriptor for each capability.
                        let again = |other: &Described| {
                            other.fd.is_some() && other.export() == one.export()
                        };
                        if fds == self.machine.settings.fds || described.iter().any(again) {
                            one.fd = None;
                        } else {
                            fds += 1;
                        }
                    }
                    described.push(one);
                }
                Err(error) => {
                    self.withdraw(described.iter().filter_map(Described::export));
                    return Err(error);
                }
            }
        }
        Ok(described)
    }

    /// Takes back descriptions that are not going to be sent.
    pub(in crate::protocol) fn withdraw(&mut self, exports: impl Iterator<Item = ExportId>) {
        self.trailing.clear();
        for id in exports {
            // The exports were counted up just now, under the same lock.
            let _ = self.release_export(id, 1);
        }
    }

    /// Names a capability, and counts it if it is exported.
    ///
    /// # Errors
    /// Too many are exported.
    pub(in crate::protocol) fn describe(
        &mut self,
        client: &Client,
        what: DescribedFor,
    ) -> Result<Described, Error> {
        let may_fix_path = self.may_fix_path(what);
        loop {
            let client = client.shortened();
            return Ok(match self.view(&client) {
                View::Null => Described::new(Descriptor::None, client),
                View::Broken(error) => self.describe_broken(error.clone())?,
                View::Import(import) => {
                    let descriptor = Descriptor::ReceiverHosted(import.id().0);
                    Described::new(descriptor, client)
                }
                View::Pinned(pinned) => {
                    let Ok(dest) = pinned.dest() else { continue };
                    if let Err(error) = self.nameable(&dest) {
                        return self.describe_broken(error);
                    }
                    self.mark_called(&dest);
                    Described::new(dest.descriptor(), client)
                }
                View::Remote(promise) if may_fix_path => {
                    let Err(dest) = promise.location() else { continue };
                    let descriptor = dest.descriptor();
                    self.mark_called(&dest);
                    Described::new(descriptor, self.machine.pinned(&promise, dest))
                }
                View::Settled => {
                    if let Some((descriptor, path)) = self.introduce(&client)? {
                        return Ok(Described::new(descriptor, path));
                    }
                    let id = self.export(&client, ExportAs::Settled)?;
                    let fd = if self.machine.settings.fds > 0 { client.fd() } else { None };
                    Described { descriptor: Descriptor::SenderHosted(id.0), path: client, fd }
                }
                View::Remote(_) | View::Promise => {
                    if may_fix_path
                        && let Some((descriptor, path)) = self.hand_off_promise(&client)?
                    {
                        return Ok(Described::new(descriptor, path));
                    }
                    let id = self.export(&client, ExportAs::Promise)?;
                    let Some(slot) = self.slot_of(id) else {
                        // The promise has resolved in the meantime: name what it has
                        // resolved to.
                        let _ = self.release_export(id, 1);
                        continue;
                    };
                    Described::new(Descriptor::SenderPromise(id.0), Client::of(slot))
                }
            });
        }
    }

    /// Whether a promise may be named so that calls which are still to come take another path
    /// than those that are in hand: Note [in hand].
    fn may_fix_path(&self, what: DescribedFor) -> bool {
        what == DescribedFor::Params || !self.has_in_hand()
    }

    /// Names what may still resolve as a capability of a third vat, if it can be called there.
    ///
    /// # Errors
    /// Too many capabilities are exported.
    fn hand_off_promise(&mut self, client: &Client) -> Result<Option<(Descriptor, Client)>, Error> {
        match self.pass_on(client)? {
            Some(passed_on) => Ok(Some(passed_on)),
            None => self.introduce(client),
        }
    }

    /// Names a broken capability: it travels as a promise that resolves to the error.
    fn describe_broken(&mut self, error: Error) -> Result<Described, Error> {
        let client = Client::broken(error.clone());
        let id = self.export(&client, ExportAs::Broken)?;
        self.trailing.push(wire::Message::Resolve(wire::Resolve {
            promise: id.0,
            resolution: Err(error),
            fds: Attached::default(),
        }));
        Ok(Described::new(Descriptor::SenderPromise(id.0), client))
    }

    /// The place of the peer to which a described `target` is pinned; `None` if
    /// `target` is not behind the peer.
    pub(in crate::protocol) fn place_of(&self, target: &Client) -> Option<Client> {
        let target = target.shortened();
        match self.view(&target) {
            View::Null | View::Broken(_) | View::Import(_) => Some(target),
            View::Remote(promise) => Some(self.machine.pinned(&promise, promise.location().err()?)),
            _ => None,
        }
    }

    fn slot_of(&self, id: ExportId) -> Option<Arc<ExportSlot>> {
        self.machine.exports.with(id, |export| match &export.kind {
            export::Kind::Pending(slot) => Some(Arc::clone(slot)),
            export::Kind::Settled(_) | export::Kind::Resolved(_) | export::Kind::Vine(..) => None,
        })?
    }

    /// Counts an export up, or makes one.
    fn export(&mut self, client: &Client, how: ExportAs) -> Result<ExportId, Error> {
        let machine = self.machine;
        let key = (how != ExportAs::Broken).then(|| client.address());
        if let Some(id) = key.and_then(|key| self.order.exported.get(&key).copied()) {
            let counted = machine.exports.with(id, |export| {
                export.refs.checked_add(1).map(|refs| export.refs = refs).is_some()
            });
            if counted == Some(true) {
                return Ok(id);
            }
            return Err(Error::overloaded("a capability was sent too often without a release"));
        }
        let id = self.free_export()?;
        let serial = self.serial();
        let kind = match how {
            ExportAs::Settled => export::Kind::Settled(client.clone()),
            ExportAs::Broken => export::Kind::Resolved(ExportSlot::new(client.clone())),
            ExportAs::Promise => {
                let slot = ExportSlot::new(client.clone());
                if self.watch(client, id, serial).is_ok() {
                    export::Kind::Pending(slot)
                } else {
                    export::Kind::Resolved(slot)
                }
            }
        };
        machine.exports.insert(id, Export { serial, refs: 1, kind, key });
        if let Some(key) = key {
            self.order.exported.insert(key, id);
        }
        Ok(id)
    }

    /// Takes an id for one more export.
    ///
    /// # Errors
    /// Too many are exported.
    pub(in crate::protocol) fn free_export(&mut self) -> Result<ExportId, Error> {
        if self.machine.exports.len() >= self.limits().exports as usize {
            return Err(Error::overloaded(format!(
                "{} capabilities are exported on this connection; \
                 raise Limits::exports or have the peer release some",
                self.limits().exports
            )));
        }
        let id = self.order.export_ids.allocate().map(ExportId);
        id.ok_or_else(|| Error::overloaded("no export id is free"))
    }

    fn watch(&self, promise: &Client, id: ExportId, serial: Serial) -> Result<(), Watcher> {
        let connection = Arc::downgrade(self.machine) as _;
        promise.watch(Watcher::Export(ExportWatcher { connection, id, serial }))
    }

    /// Tells the peer that an exported promise has resolved.
    pub(in crate::protocol) fn resolve_export(&mut self, id: ExportId, serial: Serial) {
        let machine = self.machine;
        let entry = machine.exports.with(id, |export| match &export.kind {
            export::Kind::Pending(slot) if export.serial == serial => {
                Some((Arc::clone(slot), export.key.take()))
            }
            _ => None,
        });
        let Some((slot, key)) = entry.flatten() else { return };
        if let Some(key) = key {
            self.order.exported.remove(&key);
        }
        let may_fix_path = self.may_fix_path(DescribedFor::Place);
        loop {
            let target = slot.target().shortened();
            let elsewhere = matches!(self.view(&target), View::Promise)
                && !self.order.exported.contains_key(&target.address());
            let passed_on = if elsewhere && may_fix_path {
                self.hand_off_promise(&target).transpose()
            } else {
                None
            };
            if elsewhere && passed_on.is_none() {
                // The target is another promise that this peer does not have: the entry
                // goes on with it.
                if self.watch(&target, id, serial).is_err() {
                    continue;
                }
                let key = target.address();
                self.order.exported.insert(key, id);
                machine.exports.with(id, |export| export.key = Some(key));
                slot.redirect(target);
                return;
            }
            let mut fd = None;
            let (resolution, path) = match (passed_on, self.view(&target)) {
                (Some(Ok((descriptor, path))), _) => (Ok(descriptor), path),
                (Some(Err(error)), _) => (Err(error.clone()), Client::broken(error)),
                (None, View::Broken(error)) => (Err(error.clone()), target.clone()),
                // Peers treat a Resolve to `none` as a mistake.
                (None, View::Null) => {
                    (Err(Error::failed("the promise turned out to be null")), target.clone())
                }
                (None, _) => match self.describe(&target, DescribedFor::Place) {
                    Ok(described) => {
                        fd = described.fd;
                        (Ok(described.descriptor), described.path)
                    }
                    Err(error) => (Err(error.clone()), Client::broken(error)),
                },
            };
            self.send_with_trailing(wire::Message::Resolve(wire::Resolve {
                promise: id.0,
                resolution,
                fds: Attached::to_only(fd),
            }));
            slot.redirect(path);
            machine.exports.with(id, |export| {
                export.kind = export::Kind::Resolved(Arc::clone(&slot));
            });
            return;
        }
    }

    /// Counts an export down, and removes it at zero.
    pub(in crate::protocol) fn release_export(
        &mut self,
        id: ExportId,
        count: u32,
    ) -> Result<(), Abort> {
        let machine = self.machine;
        let left = machine.exports.with(id, |export| {
            let left = export.refs.checked_sub(count)?;
            export.refs = left;
            Some(left)
        });
        match left {
            None => Err(Abort::new(format!("Release of export {id}, which does not exist"))),
            Some(None) => {
                Err(Abort::new(format!("Release of export {id} more often than it was sent")))
            }
            Some(Some(0)) => {
                if let Some(export) = machine.exports.remove(id) {
                    self.order.export_ids.release(id.0);
                    self.bury_export(id, export);
                }
                Ok(())
            }
            Some(Some(_)) => Ok(()),
        }
    }

    /// Undoes the links to an export that has left the table.
    pub(in crate::protocol) fn bury_export(&mut self, id: ExportId, export: Export) {
        if let Some(key) = export.key
            && self.order.exported.get(&key) == Some(&id)
        {
            self.order.exported.remove(&key);
            self.order.exported.give_back(KEPT);
        }
        if let export::Kind::Pending(slot) = &export.kind {
            let connection = Arc::downgrade(self.machine) as _;
            let watcher = ExportWatcher { connection, id, serial: export.serial };
            slot.target().unwatch(&WatchKey::Export(&watcher));
        }
        if let export::Kind::Vine(..) = &export.kind {
            self.order.vines -= 1;
        }
        drop(export);
    }
}
