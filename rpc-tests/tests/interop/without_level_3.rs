//! Peers that do not know level 3: what each answers to its messages, and that vats of this
//! library call through one another then.

use std::os::unix::net::UnixStream;

use capnp_threads_core::network::Token;
use capnp_threads_core::{FromClient, RpcSystem, Vat};
use capnp_threads_transport::introducing::{Introduce, bearer};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat};
use rpc_schema::test_capnp::{test_handle, test_more_stuff};
use rpc_tests::peers::{Library, Peer, or_skip};
use rpc_tests::support::raw::{self, RawPeer, Said, Target};
use rpc_tests::support::{Watchdog, until};

/// What a peer does with a message that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Echo,
    /// An Abort, and the end of the connection.
    Abort,
    /// The vine of a capability of a third vat is called.
    Vine,
}

/// Serves at a place of its own, for as long as this exists.
struct Served {
    serving: rpc_tests::peers::Serving,
    _folder: tempfile::TempDir,
}

impl Served {
    fn by(peer: Peer) -> Option<Self> {
        let program = or_skip(peer.find())?;
        let folder = tempfile::tempdir().unwrap();
        let serving = program.serve(&format!("unix:{}/s", folder.path().display())).unwrap();
        Some(Served { serving, _folder: folder })
    }

    /// A connection on which a test says what it wants, and the number of the peer's object.
    fn connect(&self) -> (RawPeer, u32) {
        let path = self.serving.address().strip_prefix("unix:").unwrap();
        let mut raw = RawPeer::over(UnixStream::connect(path).unwrap());
        let object = raw.bootstrapped(0);
        (raw, object)
    }

    fn vat(&self) -> SocketVat {
        SocketVat::At(self.serving.address().parse::<Address>().unwrap())
    }
}

/// A question that is asked behind a message.
const BEHIND: u32 = 90;

/// What comes before the answer to a question.
fn reaction(raw: &mut RawPeer, before: u32) -> Reaction {
    loop {
        match raw.receive() {
            Some(Said::Unimplemented) => return Reaction::Echo,
            Some(Said::Abort(_)) | None => return Reaction::Abort,
            Some(Said::Call { target: Target::Import(VINE), .. }) => return Reaction::Vine,
            Some(Said::Return { answer, outcome }) if answer == before => {
                panic!("the message was taken for a good one: {outcome:?}")
            }
            Some(_) => {}
        }
    }
}

const VINE: u32 = 7;

fn what_each_message_meets(peer: Peer, disembargo: Reaction, third_party: Reaction) {
    let Some(served) = Served::by(peer) else { return };
    let _watchdog = Watchdog::start();
    let made = bearer::introduce(["unix:/nowhere".to_owned()]).unwrap();
    let token: &Token = &made.awaited;
    let object = Target::Import(served.connect().1);
    let join = raw::frame(|message| {
        let mut join = message.init_join();
        join.set_question_id(3);
        raw::write_target(join.reborrow().init_target(), &object);
    });
    let answer = raw::frame(|message| {
        message.init_third_party_answer().set_answer_id(1 << 30);
    });
    let lifts = raw::frame(|message| {
        let mut disembargo = message.init_disembargo();
        raw::write_target(disembargo.reborrow().init_target(), &object);
        disembargo.get_context().set_accept(b"embargo");
    });
    // The peer calls what it is given, before it answers.
    let given = raw::call_foo_with_contact(3, &object, VINE, &made.contact);
    let messages = [
        ("provide", raw::provide(1 << 31, &object, token), Reaction::Echo),
        ("accept", raw::accept(3, Some(token)), Reaction::Echo),
        ("join", join, Reaction::Echo),
        ("thirdPartyAnswer", answer, Reaction::Echo),
        ("disembargo", lifts, disembargo),
    ];
    for (name, message, expected) in messages {
        let (mut raw, _) = served.connect();
        raw.bytes(&message);
        raw.bootstrap(BEHIND);
        assert_eq!(reaction(&mut raw, BEHIND), expected, "{peer}: {name}");
    }
    let (mut raw, _) = served.connect();
    raw.bytes(&given);
    assert_eq!(reaction(&mut raw, 3), third_party, "{peer}: thirdPartyHosted");
}

#[test]
fn the_messages_of_level_3_at_cxx_0_9() {
    what_each_message_meets(Peer::Cxx(Library::System), Reaction::Abort, Reaction::Vine);
}

#[test]
fn the_messages_of_level_3_at_cxx_1_3() {
    what_each_message_meets(Peer::Cxx(Library::Wheel), Reaction::Abort, Reaction::Vine);
}

#[test]
fn the_messages_of_level_3_at_pycapnp() {
    what_each_message_meets(Peer::Pycapnp, Reaction::Abort, Reaction::Vine);
}

#[test]
fn the_messages_of_level_3_at_capnp_rpc() {
    what_each_message_meets(Peer::CapnpRpc, Reaction::Abort, Reaction::Abort);
}

fn listening() -> SocketNetwork {
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    SocketNetwork::listening(listener).unwrap().introducing(Introduce::OnThisMachine)
}

fn handle(of: &test_more_stuff::Client) -> test_handle::Client {
    let response = of.get_handle_request().call().unwrap();
    response.get().unwrap().get_handle().unwrap()
}

/// Alice gives Carol what the peer hosts: a settled capability, and a promise that Carol has
/// called before it became one.
fn as_a_host(peer: Peer) {
    let Some(served) = Served::by(peer) else { return };
    let _watchdog = Watchdog::start();
    let alice = RpcSystem::builder(&Vat::new(), listening());
    let (promised, fulfiller) = capnp_threads_core::promise_client::<test_more_stuff::Client>();
    let alice = alice.bootstrap(promised).start().unwrap();
    let carol = SocketNetwork::client().introducing(Introduce::OnThisMachine);
    let carol = RpcSystem::builder(&Vat::new(), carol).start().unwrap();
    let alices = SocketVat::At(alice.network().local_address().unwrap().clone());
    let given: test_more_stuff::Client = carol.bootstrap(&alices);
    let early = given.get_handle_request().send();
    let hosts: test_more_stuff::Client = alice.bootstrap(&served.vat());
    hosts.as_client().resolve().unwrap();
    fulfiller.fulfill(hosts.clone());
    early.wait().unwrap();
    let handles: Vec<_> = (0..3).map(|_| handle(&given)).collect();
    let known: Vec<_> = handles.iter().map(|handle| handle.as_client().resolve()).collect();
    assert!(known.iter().all(Result::is_ok), "{peer}: {known:?}");
    // Again, now that both know what the peer does not.
    let again: test_more_stuff::Client = carol.bootstrap(&alices);
    drop(handle(&again));
    // Nobody was cut off.
    drop(handle(&hosts));
    until("the connections", || alice.connection_count() == 2);
    drop((given, again, handles, hosts));
}

#[test]
fn cxx_0_9_is_called_through_the_introducer() {
    as_a_host(Peer::Cxx(Library::System));
}

#[test]
fn cxx_1_3_is_called_through_the_introducer() {
    as_a_host(Peer::Cxx(Library::Wheel));
}

#[test]
fn pycapnp_is_called_through_the_introducer() {
    as_a_host(Peer::Pycapnp);
}

#[test]
fn capnp_rpc_is_called_through_the_introducer() {
    as_a_host(Peer::CapnpRpc);
}
