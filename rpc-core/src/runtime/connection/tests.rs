//! Tests of what guards the threads of a connection.
#![allow(clippy::unwrap_used)]

use super::*;

struct Nowhere;

impl Outbox for Nowhere {
    fn push(&self, _: wire::Message) {}

    fn disconnected(&self) {}
}

#[test]
fn a_panic_on_a_thread_of_a_connection_ends_the_connection_and_tells_why() {
    let machine = Machine::new(Settings::default(), Offers::default(), Arc::new(Nowhere));
    assert_eq!(guarded("the send thread", &machine, || 1).unwrap(), 1);
    assert_eq!(machine.failure(), None);
    let call = machine.bootstrap(None).call(1, 1, Payload::empty().clone());
    guarded("the send thread", &machine, || panic!("on purpose")).unwrap_err();
    for error in [machine.failure().unwrap(), call.wait().unwrap_err()] {
        assert_eq!(error.kind(), crate::error::ErrorKind::Disconnected);
        assert!(error.reason().contains("the send thread of the connection panicked"));
    }
}
