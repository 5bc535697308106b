//! The orderly end of connections.

use std::sync::Arc;
use std::time::Duration;

use super::connection::Shared;
use crate::deadline::Deadline;
use crate::log::tell;

/// Refuses new calls of the peers, waits until the calls that were accepted are answered,
/// but not beyond the deadline, and ends the connections. Then waits for the connections'
/// threads, supervised ones included, for at most twice the longest close timeout. Returns
/// whether all accepted calls were answered.
pub(super) fn drain(connections: &[Arc<Shared>], deadline: Deadline) -> bool {
    for connection in connections {
        connection.refuse_new_calls();
    }
    // Every connection is looked at, so that each gets as much time as there is.
    let unanswered =
        connections.iter().filter(|connection| !connection.wait_until_answered(deadline)).count();
    for connection in connections {
        connection.end_drained();
    }
    let timeouts = connections.iter().map(|connection| connection.close_timeout());
    let longest = timeouts.max().unwrap_or(Duration::ZERO);
    let end = Deadline::after(longest.saturating_mul(2));
    let running = connections.iter().filter(|connection| !connection.join_before(end)).count();
    if running > 0 {
        tell!(
            WARN,
            connections = running,
            "threads of drained connections do not end: supervised threads do not heed their \
             stop tokens"
        );
    }
    unanswered == 0
}
