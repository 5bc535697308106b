//! The question whether a peer is still there is one that peers of every implementation
//! answer.

use std::time::Duration;

use rpc_schema::test_capnp::test_interface;
use rpc_tests::support::objects::foo_request;
use rpc_tests::support::until;

use super::peers::at_each_server;

/// A busy machine has to let a peer answer in it.
const INTERVAL: Duration = Duration::from_secs(4);

#[test]
fn peers_of_every_implementation_show_that_they_are_there() {
    at_each_server(
        "127.0.0.1:0",
        &[],
        |config| config.keepalive(INTERVAL),
        |session| {
            let held: test_interface::Client = session.connection.bootstrap();
            foo_request(&held).call().unwrap();
            // What was wanted, and then the question.
            until("the question to be answered", || {
                let lines = session.lines();
                let mut asked = lines.iter().filter_map(|line| line.strip_prefix("-> bootstrap #"));
                let Some(question) = asked.nth(1) else { return false };
                let answer = format!("<- return #{question} ");
                lines.iter().any(|line| line.starts_with(&answer))
            });
            assert_eq!(session.connection.failure(), None, "{}", session.server);
            foo_request(&held).call().unwrap();
        },
    );
}
