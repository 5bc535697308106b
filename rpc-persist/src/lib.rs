//! References to objects that outlive connections and processes: level 2 of the
//! protocol.
//!
//! An object that can be saved implements [`Savable`]: it tells its kind, and the state
//! that it is restored from. [`Persistence`] exports it, answers `Persistent.save` for
//! it, and restores it:
//!
//! ```
//! use capnp_threads_core::{FromClient, Result, Vat};
//! use capnp_threads_persist::{MemoryStore, Owner, Persistence, Savable};
//! use rpc_schema::greeter_capnp::greeter;
//!
//! struct Greeter {
//!     greeting: String,
//! }
//!
//! impl greeter::Server for Greeter {
//!     fn greet(&self, params: greeter::GreetParams, mut results: greeter::GreetResults) -> Result<()> {
//!         let name = params.get()?.get_name()?.to_str()?;
//!         results.get().set_greeting(format!("{}, {name}!", self.greeting));
//!         Ok(())
//!     }
//! }
//!
//! impl Savable for Greeter {
//!     fn kind(&self) -> &str {
//!         "greeter"
//!     }
//!     fn state(&self) -> Result<Vec<u8>> {
//!         Ok(self.greeting.clone().into_bytes())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! // A store that lasts is FolderStore.
//! let persistence = Persistence::builder(&Vat::new(), MemoryStore::new())
//!     .kind("greeter", |persistence, state| {
//!         let greeting = String::from_utf8(state.to_vec())?;
//!         let greeter: greeter::Client = persistence.export(Greeter { greeting });
//!         Ok(greeter.into_client())
//!     })
//!     .build();
//! let greeter: greeter::Client = persistence.export(Greeter { greeting: "Good evening".into() });
//!
//! // Whoever has the object saves it; for themselves, if they are wise.
//! let alice = Owner::new("alice");
//! let reference = capnp_threads_persist::save(&greeter, Some(&alice))?;
//!
//! // Another day: alice, and nobody else, gets it back.
//! let greeter: greeter::Client = persistence.restore(&reference, Some(&alice))?;
//! let mut request = greeter.greet_request();
//! request.get().set_name("Alice");
//! assert_eq!(request.call()?.get()?.get_greeting()?, "Good evening, Alice!");
//! assert!(persistence.restore::<greeter::Client>(&reference, Some(&Owner::new("eve"))).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Secrets
//!
//! A [`SturdyRef`] is 256 random bits, which nobody can guess. The store keeps only a
//! hash of them, so that a copy of the store gives no access. A reference is sealed for
//! an [`Owner`] and restored for that owner only, so that a stolen reference gives no
//! access either. How somebody proves to be an owner is up to the application, which
//! then gives them their [`restorer`](Persistence::restorer).
//!
//! # Limits
//!
//! [`Quotas`] limit how much is saved for each owner and in all: whoever can call an
//! object that can be saved can save it as often as they like.

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

/// Generated from the protocol's `persistent.capnp`: objects that can be saved, and
/// gateways between realms.
#[rustfmt::skip]
#[path = "generated/persistent_capnp.rs"]
pub mod persistent_capnp;
/// Generated from `sturdy.capnp`: this crate's references and owners, and who restores
/// what was saved.
#[rustfmt::skip]
#[path = "generated/sturdy_capnp.rs"]
pub mod sturdy_capnp;

mod folder;
/// What a target in `fuzz/` calls.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod persistence;
mod quota;
mod reference;
mod savable;
mod store;

pub use folder::FolderStore;
pub use persistence::{Persistence, PersistenceBuilder, Unsealed};
pub use quota::{Quota, Quotas};
pub use reference::{Owner, SturdyRef};
pub use savable::{Savable, save};
pub use store::{Key, MemoryStore, Record, SturdyStore};
