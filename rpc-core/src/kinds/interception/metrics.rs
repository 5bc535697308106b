//! Calls as the `metrics` crate counts them.

use std::time::Instant;

use metrics::{Label, counter, gauge, histogram};

use crate::cap::call::Ending;
use crate::cap::interceptor::{InterceptedCall, Interceptor, Side, Verdict};
use crate::cap::interface::{Interface, Method};
use crate::error::{ErrorKind, Result};

/// An interceptor that counts calls with the `metrics` crate, for whatever recorder the
/// program has installed. It decides nothing and makes no call wait. Needs the feature
/// `metrics`.
///
/// | metric | labels | |
/// |---|---|---|
/// | `capnp_rpc_calls_total` | `side`, `interface`, `method`, `outcome` | calls that are over |
/// | `capnp_rpc_call_seconds` | `side`, `interface`, `method` | a histogram of how long they took |
/// | `capnp_rpc_call_bytes_total` | `side`, `interface`, `method`, `content` | the size of their parameters, and of results that stay in this process or carry capabilities |
/// | `capnp_rpc_calls_under_way` | `side` | calls that are not over |
///
/// `outcome` is `returned`, `cancelled`, `tail_called`, or the kind of the error. Methods
/// whose interface this process does not know are counted together: a peer must not be able
/// to make up any number of names.
///
/// ```
/// use capnp_threads_core::interceptors::{CallMetrics, Interceptors};
/// use capnp_threads_core::vat::VatConfig;
///
/// let mut config = VatConfig::default();
/// config.interceptors =
///     Interceptors::new().incoming(CallMetrics::new()).outgoing(CallMetrics::new());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CallMetrics {}

impl CallMetrics {
    /// One of them is as good as another.
    pub fn new() -> Self {
        CallMetrics {}
    }
}

fn labels(side: &'static str, method: Method) -> Vec<Label> {
    vec![
        Label::from_static_parts("side", side),
        Label::from_static_parts(
            "interface",
            method.interface().map_or("unknown", Interface::name),
        ),
        Label::from_static_parts("method", method.name().unwrap_or("unknown")),
    ]
}

fn with(labels: &[Label], key: &'static str, value: &'static str) -> Vec<Label> {
    let mut labels = labels.to_vec();
    labels.push(Label::from_static_parts(key, value));
    labels
}

impl Interceptor for CallMetrics {
    fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict> {
        let side = match call.side() {
            Side::Incoming => "incoming",
            Side::Outgoing => "outgoing",
        };
        let labels = labels(side, call.method());
        counter!("capnp_rpc_call_bytes_total", with(&labels, "content", "parameters"))
            .increment(call.size());
        gauge!("capnp_rpc_calls_under_way", "side" => side).increment(1.0);
        let began = Instant::now();
        call.on_answer_at_once(move |ending| {
            gauge!("capnp_rpc_calls_under_way", "side" => side).decrement(1.0);
            let outcome = match &ending {
                Ending::Returned(results) => {
                    let bytes = 8 * results.size_in_words() as u64;
                    counter!("capnp_rpc_call_bytes_total", with(&labels, "content", "results"))
                        .increment(bytes);
                    "returned"
                }
                Ending::Failed(error) => match error.kind() {
                    ErrorKind::Failed => "failed",
                    ErrorKind::Overloaded => "overloaded",
                    ErrorKind::Disconnected => "disconnected",
                    ErrorKind::Unimplemented => "unimplemented",
                },
                Ending::Cancelled => "cancelled",
                Ending::TailCalled => "tail_called",
            };
            counter!("capnp_rpc_calls_total", with(&labels, "outcome", outcome)).increment(1);
            histogram!("capnp_rpc_call_seconds", labels).record(began.elapsed().as_secs_f64());
        });
        Ok(Verdict::Pass)
    }

    fn only_looks_on(&self) -> bool {
        true
    }
}
