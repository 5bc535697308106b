//! What capabilities are to a connection.

use std::sync::Arc;

use crate::cap::client::Client;
use crate::cap::connection;
use crate::error::Error;
use crate::protocol::dest::{Dest, Pinned};
use crate::protocol::import::{self, ImportRef, Resolution};
use crate::protocol::remote_promise::RemotePromise;
use crate::protocol::{Machine, Txn, question};

/// What a capability is to this connection.
pub(in crate::protocol) enum View<'a> {
    Null,
    Broken(&'a Error),
    /// An object of this peer.
    Import(&'a ImportRef),
    /// A promise of this peer.
    Remote(Arc<RemotePromise>),
    /// What this peer has behind one place: see Note [described path].
    Pinned(&'a Pinned),
    /// Another capability that will not resolve any further.
    Settled,
    /// Another capability that may still resolve.
    Promise,
}

impl Txn<'_> {
    /// What a capability is to this connection. It has been shortened.
    pub(in crate::protocol) fn view<'c>(&self, client: &'c Client) -> View<'c> {
        if let Some(error) = client.broken_by() {
            return View::Broken(error);
        }
        if client.connection().is_some_and(|own| connection::is_same(own, &**self.machine)) {
            if let Some(import) = client.kind_as() {
                return View::Import(import);
            }
            if let Some(pinned) = client.kind_as() {
                return View::Pinned(pinned);
            }
            if let Some(promise) = client.clone().into_kind_as() {
                return View::Remote(promise);
            }
        }
        match client {
            client if client.is_null_or_broken() => View::Null,
            client if client.is_promise() => View::Promise,
            _ => View::Settled,
        }
    }

    pub(in crate::protocol) fn is_own(&self, machine: &Arc<Machine>) -> bool {
        Arc::ptr_eq(self.machine, machine)
    }

    /// Records that something was sent towards a place that may be a promise. See
    /// Note [embargo].
    pub(in crate::protocol) fn mark_called(&mut self, dest: &Dest) {
        match dest {
            Dest::Import(import) => {
                self.machine.imports.with(import.id(), |import| {
                    if let import::Kind::Promised {
                        resolution: Resolution::Pending { called },
                        ..
                    } = &mut import.kind
                    {
                        *called = true;
                    }
                });
            }
            Dest::Answer(question, path) => {
                self.machine.questions.with(question.id(), |entry| {
                    if entry.serial == question.serial()
                        && let question::State::Asked(asked) = &mut entry.state
                        && let Some(field) = asked.fields.get_mut(path)
                    {
                        field.called = true;
                    }
                });
            }
        }
    }
}
