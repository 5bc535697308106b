//! How capabilities get out of messages.

use std::sync::{Arc, Weak};

use crate::budget::Kind;
use crate::cap::client::Client;
use crate::error::Error;
use crate::ids::ImportId;
use crate::protocol::dest::Dest;
use crate::protocol::handoff::Introduced;
use crate::protocol::import::{self, Import, ImportRef, Resolution};
use crate::protocol::named::{Hosted, Named};
use crate::protocol::remote_promise::RemotePromise;
use crate::protocol::{Abort, Machine, Txn, costs};
use crate::wire::{Descriptor, Descriptors};

impl Txn<'_> {
    /// Looks up what the descriptors of a message name.
    pub(in crate::protocol) fn import_all(
        &mut self,
        caps: &Descriptors,
    ) -> Result<Vec<Named>, Abort> {
        let descriptors = caps.descriptors.iter().enumerate();
        descriptors.map(|(index, descriptor)| self.import(descriptor, index)).collect()
    }

    /// Looks up what the descriptor at an index names. A capability that the peer hosts
    /// is counted, and keeps the file descriptor that came with it.
    pub(in crate::protocol) fn import(
        &mut self,
        descriptor: &Descriptor,
        index: usize,
    ) -> Result<Named, Abort> {
        Ok(match descriptor {
            Descriptor::None => Named::Theirs(Client::null()),
            Descriptor::ThirdPartyHosted(id, Some(contact)) if self.machine.neighbour.is_some() => {
                let import = self.import_settled(ImportId(*id))?;
                if let Some(fd) = self.arrived.take(index) {
                    // The host would have to be reached by a transport that passes it, too.
                    import.keep_fd(fd);
                    return Ok(Named::Theirs(Client::of(import)));
                }
                let charge = self.charge(Kind::Content, costs::contact(contact))?;
                let vine = Client::of(import);
                Named::Introduced(Introduced {
                    vine,
                    contact: contact.clone(),
                    charge: Arc::new(charge),
                })
            }
            Descriptor::SenderHosted(id) | Descriptor::ThirdPartyHosted(id, _) => {
                let import = self.import_settled(ImportId(*id))?;
                if let Some(fd) = self.arrived.take(index) {
                    import.keep_fd(fd);
                }
                Named::Theirs(Client::of(import))
            }
            Descriptor::SenderPromise(id) => Named::Theirs(self.import_promise(ImportId(*id))?),
            Descriptor::ReceiverHosted(id) => {
                if let Some((whole, vine)) = self.passed_on(*id) {
                    return Ok(Named::Reflected(whole, vine));
                }
                Named::Ours(self.export_place(*id).unwrap_or_else(|| {
                    Hosted::client(Client::broken(Error::failed(format!(
                        "the peer sent us our export {id}, which does not exist"
                    ))))
                }))
            }
            Descriptor::ReceiverAnswer(answer) => {
                let found = self.field_place(answer);
                Named::Ours(found.unwrap_or_else(|error| Hosted::client(Client::broken(error))))
            }
            Descriptor::Unknown(tag) => {
                let error = Error::unimplemented(format!(
                    "the peer named a capability in a way ({tag}) that is not known here"
                ));
                Named::Theirs(Client::broken(error))
            }
        })
    }

    fn import_settled(&mut self, id: ImportId) -> Result<Arc<ImportRef>, Abort> {
        let machine = self.machine;
        let known = machine.imports.with(id, |import| {
            if !matches!(import.kind, import::Kind::Settled) {
                return Err(Abort::new(format!(
                    "import {id} came as senderHosted, but before that as a promise"
                )));
            }
            import.count()?;
            Ok(import.handle(machine, id))
        });
        match known {
            Some(handle) => handle,
            None => self.insert_import(id, import::Kind::Settled),
        }
    }

    fn import_promise(&mut self, id: ImportId) -> Result<Client, Abort> {
        let machine = self.machine;
        let known = machine.imports.with(id, |import| {
            let import::Kind::Promised { node, resolution, .. } = &import.kind else {
                return Err(Abort::new(format!(
                    "import {id} came as a promise, but before that as senderHosted"
                )));
            };
            let (node, resolution) = (node.upgrade(), *resolution);
            import.count()?;
            Ok((node, resolution, import.handle(machine, id)))
        });
        let handle = match known {
            None => self.insert_import(
                id,
                import::Kind::Promised {
                    node: Weak::new(),
                    pinned: Weak::new(),
                    resolution: Resolution::Pending { called: false },
                },
            )?,
            Some(known) => match known? {
                (Some(node), _, _) => return Ok(Client::of(node)),
                (None, Resolution::Pending { .. }, handle) => handle,
                // The peer has told what it became to those who do not refer to it any
                // more, and does not tell it twice. But until the import is released it
                // passes on to that what it gets. (C++ sends what was rejected again.)
                (None, Resolution::Resolved, handle) => return Ok(Client::of(handle)),
            },
        };
        let promise = RemotePromise::new(Arc::clone(machine), Dest::Import(handle));
        machine.imports.with(id, |import| {
            if let import::Kind::Promised { node, pinned, .. } = &mut import.kind {
                *node = Arc::downgrade(&promise);
                pinned.upgrade().inspect(|pinned| pinned.stand_for(&promise));
            }
        });
        Ok(Client::of(promise))
    }

    fn insert_import(&mut self, id: ImportId, kind: import::Kind) -> Result<Arc<ImportRef>, Abort> {
        let charge = self.charge(Kind::Entry, costs::IMPORT)?;
        let handle = ImportRef::new(Arc::clone(self.machine), id);
        let import = Import { refs: 1, handle: Arc::downgrade(&handle), kind, charge };
        self.machine.imports.insert(id, import);
        Ok(handle)
    }
}

impl Import {
    fn count(&mut self) -> Result<(), Abort> {
        self.refs = self
            .refs
            .checked_add(1)
            .ok_or_else(|| Abort::new("a capability was sent 2^32 times without a release"))?;
        Ok(())
    }

    /// The handle that clients share. A new one is made if the last one was dropped and
    /// its release has not been processed yet.
    fn handle(&mut self, machine: &Arc<Machine>, id: ImportId) -> Arc<ImportRef> {
        self.handle.upgrade().unwrap_or_else(|| {
            let handle = ImportRef::new(Arc::clone(machine), id);
            self.handle = Arc::downgrade(&handle);
            handle
        })
    }
}
