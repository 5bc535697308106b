//! What a vat holds at one moment.

use std::time::Duration;

use super::Vat;
use crate::protocol::snapshot::{Exported, Snapshot};
use crate::transport::PeerDescription;

/// What a vat holds at one moment; see [`Vat::snapshot`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VatSnapshot {
    /// The vat's name: the prefix of the names of its threads.
    pub name: String,
    /// Workers that exist.
    pub workers: usize,
    /// Workers that have nothing to do.
    pub idle_workers: usize,
    /// Jobs that wait for a worker: a job is a closure, or some of the calls of one object.
    pub waiting_jobs: usize,
    /// The connections that have not ended, in the order in which they were made.
    pub connections: Vec<ConnectionSnapshot>,
}

/// One connection of a vat at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// The number by which the log knows it: see
    /// [`Connection::id`](crate::Connection::id).
    pub id: u64,
    /// Who the peer is, as far as the transport knows.
    pub peer: PeerDescription,
    /// How long the connection has existed.
    pub age: Duration,
    /// How much it holds.
    pub tables: Snapshot,
    /// The capabilities of this side that the peer holds.
    pub exports: Vec<Exported>,
}

impl Vat {
    /// What the vat holds right now: its workers, and its connections with their peers.
    /// Does not wait for anything.
    ///
    /// ```
    /// use capnp_threads_core::Vat;
    ///
    /// for connection in Vat::new().snapshot().connections {
    ///     let (peer, tables) = (connection.peer.address, connection.tables);
    ///     println!("{peer} for {:?}: {} calls", connection.age, tables.answers);
    /// }
    /// ```
    pub fn snapshot(&self) -> VatSnapshot {
        let workers = self.pool().numbers();
        let mut connections: Vec<_> =
            self.connections().iter().map(|connection| connection.look_at()).collect();
        connections.sort_by_key(|connection| connection.id);
        VatSnapshot {
            name: self.name().to_owned(),
            workers: workers.workers,
            idle_workers: workers.idle,
            waiting_jobs: workers.waiting_jobs,
            connections,
        }
    }

    /// Sets gauges of the `metrics` crate to what the vat holds right now. To be called when
    /// the metrics are asked for. Needs the feature `metrics`.
    ///
    /// All of them have the label `vat`, the vat's name.
    ///
    /// | metric | |
    /// |---|---|
    /// | `capnp_rpc_connections` | connections that have not ended |
    /// | `capnp_rpc_workers`, `capnp_rpc_idle_workers` | workers |
    /// | `capnp_rpc_waiting_jobs` | jobs that wait for a worker |
    /// | `capnp_rpc_questions`, `capnp_rpc_answers`, `capnp_rpc_exports`, `capnp_rpc_imports` | sizes of the tables of all connections together |
    /// | `capnp_rpc_queued_bytes` | bytes that wait to be sent |
    /// | `capnp_rpc_held_back_calls` | calls of peers that wait because others are under way |
    /// | `capnp_rpc_sent_bytes`, `capnp_rpc_received_bytes` | what the connections that have not ended have sent and received |
    #[cfg(feature = "metrics")]
    pub fn record_metrics(&self) {
        let VatSnapshot { name, workers, idle_workers, waiting_jobs, connections } =
            self.snapshot();
        let sum = |of: fn(&Snapshot) -> u64| -> u64 {
            connections.iter().map(|connection| of(&connection.tables)).sum()
        };
        let values = [
            ("capnp_rpc_connections", connections.len() as u64),
            ("capnp_rpc_workers", workers as u64),
            ("capnp_rpc_idle_workers", idle_workers as u64),
            ("capnp_rpc_waiting_jobs", waiting_jobs as u64),
            ("capnp_rpc_questions", sum(|tables| tables.questions as u64)),
            ("capnp_rpc_answers", sum(|tables| tables.answers as u64)),
            ("capnp_rpc_exports", sum(|tables| tables.exports as u64)),
            ("capnp_rpc_imports", sum(|tables| tables.imports as u64)),
            ("capnp_rpc_queued_bytes", sum(|tables| tables.queued_bytes as u64)),
            ("capnp_rpc_held_back_calls", sum(|tables| tables.held_back as u64)),
            ("capnp_rpc_sent_bytes", sum(|tables| tables.sent_bytes)),
            ("capnp_rpc_received_bytes", sum(|tables| tables.received_bytes)),
        ];
        for (gauge, value) in values {
            // A gauge cannot tell apart what a float cannot.
            #[allow(clippy::cast_precision_loss)]
            metrics::gauge!(gauge, "vat" => name.clone()).set(value as f64);
        }
    }
}
