//! Conversions between this library's capabilities and the capnp crate's.
//!
//! Generated code of the capnp crate keeps capabilities in a table of
//! `Box<dyn ClientHook>`, which may not leave its thread. This library's capabilities
//! cross threads as [`Client`]s; a thread wraps them into hooks while it reads or
//! builds a message.

use std::cell::{Cell, RefCell};

use capnp::capability::FromClientHook;
use capnp::private::capability::ClientHook;

use super::client::Client;
pub use super::indices::CapTable;
use super::indices::{hook_without_calls, refusal};
use crate::error::Error;

/// A table to imbue a reader with: every index leads to its client, and null
/// clients stay null.
pub fn table_of(caps: &[Client]) -> CapTable {
    caps.iter().map(|client| (!client.is_null()).then(|| Hook::boxed(client.clone()))).collect()
}

/// The clients behind a table that a builder was imbued with, by index.
///
/// A hook that is not this library's becomes a client that fails every call and
/// says so.
pub fn clients_of(table: CapTable) -> Vec<Client> {
    if table.is_empty() {
        return Vec::new();
    }
    let mut caps: Vec<Client> = table
        .into_iter()
        .map(|hook| hook.map_or_else(Client::null, |hook| client_of(&*hook)))
        .collect();
    // Capability fields that were overwritten leave null entries behind; those
    // at the end need not travel.
    while caps.last().is_some_and(Client::is_null) {
        caps.pop();
    }
    caps
}

/// The client inside a hook.
pub fn client_of(hook: &dyn ClientHook) -> Client {
    reveal(hook).unwrap_or_else(|| {
        Client::broken(Error::failed(
            "this capability belongs to another RPC library; wrap it in a server of your own",
        ))
    })
}

/// A capability of this library in the form that the capnp crate's readers and builders
/// handle.
#[derive(Clone)]
pub struct Hook(Client);

impl Hook {
    /// Wraps a client.
    pub fn new(client: Client) -> Self {
        Hook(client)
    }

    /// Wraps a client for a capability table.
    pub fn boxed(client: Client) -> Box<dyn ClientHook> {
        Box::new(Hook(client))
    }

    /// The wrapped client.
    pub fn client(&self) -> &Client {
        &self.0
    }

    /// Unwraps the client.
    pub fn into_client(self) -> Client {
        self.0
    }
}

// Note [reveal]
//
// `dyn ClientHook` has no downcast. To get a client back out of a hook, the thread is
// marked as asking and the hook is asked for its brand. Only this library's hook reacts
// to the mark, and leaves its client in the thread's slot. No unsafe code and no global
// registry are needed, and a foreign hook simply leaves nothing.
thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
    static SLOT: RefCell<Option<Client>> = const { RefCell::new(None) };
}

fn reveal(hook: &dyn ClientHook) -> Option<Client> {
    ASKING.set(true);
    hook.get_brand();
    ASKING.set(false);
    SLOT.take()
}

/// The address of this is the brand of this library's hooks: it differs from every
/// other hook's brand.
static BRAND: u8 = 0;

hook_without_calls! {
    Hook, this,
    add_ref: Box::new(this.clone()),
    get_brand: this.answer(),
    get_ptr: this.0.identity(),
    broken: broken_hook
}

impl Hook {
    /// Returns the brand, and leaves the client in the slot if this thread is asking
    /// for it.
    fn answer(&self) -> usize {
        if ASKING.get() {
            SLOT.set(Some(self.0.clone()));
        }
        std::ptr::from_ref(&BRAND) as usize
    }
}

fn broken_hook() -> Box<dyn ClientHook> {
    Hook::boxed(Client::broken(refusal().into()))
}

// The untyped client can be put into messages and read out of them as the
// generated ones can.

impl FromClientHook for Client {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        client_of(&*hook)
    }

    fn into_client_hook(self) -> Box<dyn ClientHook> {
        Hook::boxed(self)
    }

    fn as_client_hook(&self) -> &dyn ClientHook {
        self
    }
}

hook_without_calls! {
    Client, this,
    add_ref: Hook::boxed(this.clone()),
    get_brand: Hook::new(this.clone()).answer(),
    get_ptr: this.identity(),
    broken: broken_hook
}
