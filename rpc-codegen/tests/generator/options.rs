//! Fields that are read as `Option`.

use capnp::capability::FromClientHook;
use capnp_threads::typed::new_client;
use capnp_threads::{Error, FromClient, Result};

use crate::options_capnp::{machine, setup, sink};

struct Log;

impl sink::Server for Log {
    fn put(&self, _: sink::PutParams, _: sink::PutResults) -> Result<()> {
        Err(Error::failed("this is the log"))
    }
}

fn log() -> sink::Client {
    new_client(Log)
}

fn is_log(client: &sink::Client) -> bool {
    client.put_request().call().unwrap_err().reason() == "this is the log"
}

/// Gives back what it is given, if that is complete.
struct Machine;

impl machine::Server for Machine {
    fn start(
        &self,
        params: machine::StartParams,
        mut results: machine::StartResults,
    ) -> Result<()> {
        let setup = params.get()?.get_setup()?;
        assert_eq!(setup.get_text()?.unwrap(), "text");
        assert_eq!(setup.get_data()?.unwrap(), b"data");
        assert_eq!(setup.get_list()?.unwrap().get(0), 7);
        assert_eq!(setup.get_structs()?.unwrap().len(), 1);
        assert!(setup.get_setup()?.unwrap().get_text()?.is_none());
        assert!(is_log(&setup.get_log()?.unwrap()));
        assert!(is_log(&setup.get_any().unwrap().get_as_capability()?));
        assert!(is_log(&setup.get_capability().unwrap().get_as_capability()?));
        assert!(is_log(&setup.get_parameter()?.unwrap()));
        match setup.which()? {
            setup::Some(client) => assert!(is_log(&client?.unwrap())),
            _ => panic!("another member"),
        }
        results.get().set_setup(setup)?;
        Ok(())
    }
}

#[test]
fn what_is_set_is_there() {
    let client: machine::Client = new_client(Machine);
    let mut request = client.start_request();
    let mut setup = request.get().init_setup();
    setup.set_text("text");
    setup.set_data(b"data");
    setup.reborrow().init_list(1).set(0, 7);
    setup.reborrow().init_structs(1);
    setup.reborrow().init_setup();
    setup.set_log(log());
    let untyped = || log().into_client().into_client_hook();
    setup.reborrow().init_any().set_as_capability(untyped());
    setup.reborrow().init_capability().set_as_capability(untyped());
    setup.set_parameter(log()).unwrap();
    setup.set_some(log());
    assert!(is_log(&setup.get_log().unwrap().unwrap()));
    let promise = request.send();
    assert!(is_log(&promise.pipeline().get_setup().get_log()));
    promise.wait().unwrap();
}

#[test]
fn what_is_not_set_is_not_there() {
    let mut message = capnp::message::Builder::new_default();
    let setup: setup::Reader<'_, sink::Owned> =
        message.init_root::<setup::Builder<'_, _>>().into_reader();
    assert!(setup.get_text().unwrap().is_none());
    assert!(setup.get_data().unwrap().is_none());
    assert!(setup.get_list().unwrap().is_none());
    assert!(setup.get_structs().unwrap().is_none());
    assert!(setup.get_setup().unwrap().is_none());
    assert!(setup.get_log().unwrap().is_none());
    assert!(setup.get_any().is_none());
    assert!(setup.get_capability().is_none());
    assert!(setup.get_parameter().unwrap().is_none());

    let mut setup = message.get_root::<setup::Builder<'_, sink::Owned>>().unwrap();
    assert!(setup.reborrow().get_list().unwrap().is_none());
    assert!(setup.reborrow().get_any().is_none());
    setup.reborrow().init_other();
    match setup.which().unwrap() {
        setup::Other(other) => assert!(other.is_none()),
        _ => panic!("another member"),
    }
}
