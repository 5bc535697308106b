//! Objects that can be saved.

use std::any::Any;
use std::sync::Arc;

use crate::persistent_capnp::persistent;
use crate::sturdy_capnp::{owner, sturdy_ref};
use capnp_threads_core::typed::Described;
use capnp_threads_core::typed::FromServer;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{FromClient, Result};

use crate::persistence::Persistence;
use crate::reference::{Owner, SturdyRef};

/// The interface `Persistent` in this crate's realm.
pub(crate) type PersistentClient = persistent::Client<sturdy_ref::Owned, owner::Owned>;

const PERSISTENT: u64 = 0xc8cb_212f_cd9f_5691;

/// An object of which another one like it can be made later.
pub trait Savable: Send + Sync + 'static {
    /// The [kind](crate::PersistenceBuilder::kind) that restores it.
    fn kind(&self) -> &str;

    /// What it is restored from.
    ///
    /// The state is kept as it is when the object is saved. An object whose state goes
    /// on changing returns a name here, under which the application keeps that state
    /// itself.
    ///
    /// # Errors
    /// The object cannot be saved now; the caller is told.
    fn state(&self) -> Result<Vec<u8>>;
}

/// Saves an object, here or at a peer, for an owner, or for whoever has the reference.
/// Blocks until it is saved.
///
/// # Errors
/// `unimplemented` when the object cannot be saved; otherwise as
/// [`Persistence::save`].
pub fn save(object: &impl FromClient, owner: Option<&Owner>) -> Result<SturdyRef> {
    let object = PersistentClient::from_client(object.as_client().clone());
    let mut request = object.save_request();
    if let Some(owner) = owner {
        owner.write(request.get().init_seal_for());
    }
    let response = request.call()?;
    SturdyRef::read(response.get()?.get_sturdy_ref()?)
}

/// An object and what saves it. Calls of `Persistent` go to the saver, all others to
/// the object.
pub(crate) struct SavableObject<C, S> {
    pub(crate) server: Arc<S>,
    pub(crate) saver: Saver<S>,
    pub(crate) client: std::marker::PhantomData<fn() -> C>,
}

impl<C, S> Dispatch for SavableObject<C, S>
where
    C: FromServer<S>,
    S: Savable,
{
    fn dispatch(&self, call: IncomingCall) {
        if call.interface_id() == PERSISTENT {
            <PersistentClient as FromServer<Saver<S>>>::dispatch(&self.saver, call);
        } else {
            C::dispatch(&self.server, call);
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        &self.server
    }

    fn name(&self) -> Option<&str> {
        Some(C::interface().name())
    }

    fn method_name(&self, interface_id: u64, method_id: u16) -> Option<String> {
        let interface =
            if interface_id == PERSISTENT { PersistentClient::interface() } else { C::interface() };
        Some(interface.method(interface_id, method_id).to_string())
    }
}

pub(crate) struct Saver<S> {
    pub(crate) object: Arc<S>,
    pub(crate) persistence: Persistence,
}

impl<S: Savable> persistent::Server<sturdy_ref::Owned, owner::Owned> for Saver<S> {
    fn save(
        &self,
        params: persistent::SaveParams<sturdy_ref::Owned, owner::Owned>,
        mut results: persistent::SaveResults<sturdy_ref::Owned, owner::Owned>,
    ) -> Result<()> {
        let params = params.get()?;
        let owner =
            if params.has_seal_for() { Some(Owner::read(params.get_seal_for()?)?) } else { None };
        let reference = self.persistence.save(&*self.object, owner.as_ref())?;
        reference.write(results.get().init_sturdy_ref());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use capnp_threads_core::{Error, Vat};
    use rpc_schema::greeter_capnp::greeter;

    use super::*;
    use crate::MemoryStore;

    struct Clumsy;

    impl greeter::Server for Clumsy {
        fn greet(&self, _: greeter::GreetParams, _: greeter::GreetResults) -> Result<()> {
            panic!("on purpose");
        }
    }

    impl Savable for Clumsy {
        fn kind(&self) -> &'static str {
            "clumsy"
        }

        fn state(&self) -> Result<Vec<u8>> {
            panic!("on purpose, too");
        }
    }

    #[test]
    fn a_panic_is_told_with_the_names_of_the_schemas() {
        let persistence = Persistence::builder(&Vat::new(), MemoryStore::new())
            .kind("clumsy", |_, _| Err(Error::failed("there is none")))
            .build();
        let greeter: greeter::Client = persistence.export(Clumsy);
        let greeted = greeter.greet_request().call().map(drop).unwrap_err();
        assert_eq!(greeted.internal(), "greeter.capnp:Greeter.greet: on purpose");
        let saved = save(&greeter, Some(&Owner::new("alice"))).unwrap_err();
        let expected = "greeter.capnp:Greeter: persistent.capnp:Persistent.save: on purpose, too";
        assert_eq!(saved.internal(), expected);
    }
}
