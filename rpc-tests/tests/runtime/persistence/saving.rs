//! Saving over connections, also to peers that are written with something else.

use capnp_threads_core::offer::NamedExports;
use capnp_threads_core::{ConnConfig, FromClient, Result, Vat};
use capnp_threads_persist::{MemoryStore, Owner, Persistence, Savable, SturdyRef};
use capnp_threads_transport::Address;
use rpc_schema::test_capnp::test_interface;
use rpc_tests::peers::{Library, cxx_extras, or_skip};
use rpc_tests::support::Watchdog;

/// Answers with its name, which is its state.
struct Named(String);

impl test_interface::Server for Named {
    fn foo(
        &self,
        _: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<()> {
        results.get().set_x(&*self.0);
        Ok(())
    }
}

impl Savable for Named {
    fn kind(&self) -> &'static str {
        "named"
    }

    fn state(&self) -> Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }
}

fn persistence(vat: &Vat) -> Persistence {
    Persistence::builder(vat, MemoryStore::new())
        .kind("named", |persistence, state| {
            let name = String::from_utf8(state.to_vec())?;
            Ok(persistence.export::<test_interface::Client, _>(Named(name)).into_client())
        })
        .build()
}

fn x_of(client: &test_interface::Client) -> Result<String> {
    Ok(client.foo_request().call()?.get()?.get_x()?.to_string()?)
}

#[test]
fn cxx_saves_an_object_of_ours() {
    for library in Library::ALL {
        let Some(mut cxx) = or_skip(cxx_extras(library)) else { continue };
        let _watchdog = Watchdog::start();
        let vat = Vat::new();
        let persistence = persistence(&vat);
        let exports = NamedExports::new();
        let object: test_interface::Client = persistence.export(Named("saved by C++".into()));
        exports.export("object", object);
        let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
        let address = listener.local_address().unwrap().to_string();
        let serving = std::thread::spawn(move || {
            let config = ConnConfig::new().restorer(exports);
            vat.connect(listener.accept().unwrap(), config).unwrap().join().unwrap();
        });
        let output = cxx.args(["save", &address, "object", "alice"]).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        serving.join().unwrap();
        let secret = output.trim().strip_prefix("secret: ").unwrap_or_else(|| panic!("{output}"));
        let reference: SturdyRef = secret.parse().unwrap();
        let restored: test_interface::Client =
            persistence.restore(&reference, Some(&Owner::new("alice"))).unwrap();
        assert_eq!(x_of(&restored).unwrap(), "saved by C++");
        persistence.restore::<test_interface::Client>(&reference, None).unwrap_err();
    }
}
