#!/usr/bin/env python3
"""Mistakes in what surrounds a call, one at a time, and the tests that notice each: interceptors,
limits, spans, metrics, snapshots, serving, staying connected, outboxes, bytes, items, and the
program `capnp-threads`.

    testing/mutants/surroundings.py            everything; fails if a mutant survives
    testing/mutants/surroundings.py --check    only whether each mutant still has its place
    testing/mutants/surroundings.py --compile  the same, and whether they compile
    testing/mutants/surroundings.py NAME...    these mutants, or those of a feature, only
    testing/mutants/surroundings.py --write    notes in surroundings.md what was found, and when
    testing/mutants/surroundings.py --last 50  the last ones of this file only
    testing/mutants/surroundings.py --unknown  those only of which surroundings.md says nothing

It works as `run.py` does, whose comment tells how. Each mutant names the tests that are tried
first; those that survive them meet all tests of the five programs.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import run  # noqa: E402

CORE = "rpc-core/src/"
CLI = "rpc-cli/src/"

PAGE = Path(__file__).parent / "surroundings.md"

# The packages whose code has mutants, by folder.
LIBRARIES = [CORE + "lib.rs", "src/lib.rs", CLI + "lib.rs"]


@dataclass(frozen=True)
class Mutant:
    name: str
    feature: str
    file: str
    what: str
    where: str
    to: str
    tests: tuple


MUTANTS = []

# Those that change nothing that could be seen, each with the reason. They are no mistakes, and
# are not run.
EQUIVALENT = []

_feature = ("", ())


def feature(name, *tests):
    """The next mutants are of this feature, and meet these tests first."""
    global _feature
    _feature = (name, tests)


def mutant(name, file, what, where, to=""):
    MUTANTS.append(Mutant(name, _feature[0], file, what, where, to, _feature[1]))


def equivalent(name, file, what, why, where, to=""):
    EQUIVALENT.append((Mutant(name, _feature[0], file, what, where, to, _feature[1]), why))


# ---- Interceptors

feature("interceptors", "runtime:interceptors")
INTERCEPTOR = CORE + "cap/interceptor.rs"
SITE = CORE + "kinds/interception/site.rs"
CHECKPOINT = CORE + "kinds/interception/checkpoint.rs"

mutant(
    "refusal-passes",
    INTERCEPTOR,
    "a call that an interceptor refuses goes on",
    "Ok(Err(error)) => return <<<Decision::Refuse(error)>>>,",
    "{ drop(error); Decision::Deliver(target) }",
)
mutant(
    "redirect-ignored",
    INTERCEPTOR,
    "a call that an interceptor sends elsewhere goes on to its target",
    "Ok(Ok(Verdict::Redirect(other))) => <<<target = other>>>,",
    "drop(other)",
)
mutant(
    "delay-passes",
    INTERCEPTOR,
    "a call that an interceptor delays goes on",
    "return <<<Decision::Delay { delay, target, next: index + 1 }>>>;",
    "{ drop(delay); Decision::Deliver(target) }",
)
mutant(
    "delay-asks-again",
    INTERCEPTOR,
    "a call that was delayed is put to the same interceptor again",
    "return Decision::Delay { delay, target, next: <<<index + 1>>> };",
    "index",
)
mutant(
    "released-redirect-ignored",
    INTERCEPTOR,
    "a delayed call that is sent elsewhere goes on to its target",
    "Released::Redirect(other) => self.decide_from(next, request, <<<other>>>),",
    "{ drop(other); target }",
)
mutant(
    "released-refusal-passes",
    INTERCEPTOR,
    "a delayed call that is refused goes on",
    "Released::Refuse(error) => <<<Decision::Refuse(error)>>>,",
    "{ drop(error); self.decide_from(next, request, target) }",
)
mutant(
    "dropped-release-passes",
    INTERCEPTOR,
    "a call whose release is dropped goes on",
    'hold.release(<<<Released::Refuse(Error::failed('
    '"the interceptor that delayed the call has given it up",))>>>);',
    "Released::Pass",
)
mutant(
    "release-before-delay-lost",
    INTERCEPTOR,
    "a release that comes before the call waits is lost",
    "} else { <<<*state = HoldState::Released(Some(how));>>> }",
    "drop(state); drop(how);",
)
mutant(
    "panic-passes",
    INTERCEPTOR,
    "a call goes on when an interceptor panics",
    "<<<return Decision::Refuse(error.with_internal(panicked.message));>>>",
    "drop(error);",
)
mutant(
    "peer-unknown",
    INTERCEPTOR,
    "an interceptor does not learn who calls",
    "Side::Incoming => <<<Some(self.request.cell.came_over()?.peer().clone())>>>,",
    "None",
)
mutant(
    "callee-unknown",
    INTERCEPTOR,
    "an interceptor does not learn whom a call is for",
    "Side::Outgoing => <<<self.target.innermost().connection().map(Connection::peer).cloned()>>>,",
    "None",
)
mutant(
    "size-zero",
    INTERCEPTOR,
    "an interceptor does not learn the size",
    "<<<8 * self.request.params.size_in_words() as u64>>>",
    "0",
)
mutant(
    "deadline-unknown",
    INTERCEPTOR,
    "an interceptor does not learn the deadline",
    "pub fn deadline(&self) -> Option<Instant> { <<<self.request.cell.deadline()>>> }",
    "None",
)
mutant(
    "vat-behind-connection",
    CORE + "runtime/common.rs",
    "interceptors that are added stand in front of those before",
    "common.interceptors = <<<std::mem::take(&mut common.interceptors).and(interceptors)>>>;",
    "interceptors.and(std::mem::take(&mut common.interceptors))",
)
mutant(
    "delayed-is-overtaken",
    SITE,
    "later calls of an object overtake a delayed one",
    "if <<<self.line.lock().phase != Phase::Open>>> {",
    "false",
)
mutant(
    "cancelled-delay-blocks",
    SITE,
    "what waits behind a delayed call stays when that is cancelled",
    "// It may have been all that the others waited for. <<<self.go_on();>>>",
)
mutant(
    "cancelled-in-line-runs",
    SITE,
    "a call that was cancelled while it waited is carried out",
    "call.cell.left_queue(); if <<<call.cell.is_unwanted()>>> { Delivery::Call(call).fail",
    "false",
)
mutant(
    "connection-stays-paused",
    CHECKPOINT,
    "a connection does not go on when a delayed call is released",
    "if onward == Onward::GoesOn { <<<self.resume();>>> }",
)
mutant(
    "connection-stays-paused-by-cancelled",
    CHECKPOINT,
    "a connection does not go on when a delayed call is cancelled",
    "drop((delayed.first, delayed.target, delayed.kept)); <<<self.resume();>>>",
)
mutant(
    "pause-not-cut-short",
    CHECKPOINT,
    "a delay is not cut short for an answer that stands behind it",
    "fn cut_short(self: Arc<Self>) { <<<self.go_on(Released::Pass);>>> }",
)
mutant(
    "redirect-leaves-anyway",
    CHECKPOINT,
    "a call that was sent elsewhere still leaves over the connection",
    "if <<<to.address() != first.address()>>> {",
    "false",
)
mutant(
    "must-not-wait-waits",
    CHECKPOINT,
    "a thread that must not wait waits for a delayed call that leaves",
    "if <<<!effects::may_run() || !role::may_wait()>>> {",
    "false",
)
mutant(
    "leaving-misses-the-deadline",
    CHECKPOINT,
    "a call that is delayed when it leaves waits beyond its deadline",
    "let deadline = <<<call.cell.deadline().map_or(Deadline::NEVER, Deadline::at)>>>;",
    "Deadline::NEVER",
)

feature("how calls end", "runtime:interceptors", "core:ending")
ENDING = CORE + "cap/call/ending.rs"
mutant(
    "ending-timeout-is-cancelled",
    ENDING,
    "a call whose time is over counts as cancelled",
    "(Err(error), Demand::Cancelled) if <<<error.is_timeout()>>> =>",
    "false",
)
mutant(
    "ending-cancelled-is-failed",
    ENDING,
    "a cancelled call counts as failed",
    "(_, Demand::Cancelled) => <<<Ending::Cancelled>>>,",
    'Ending::Failed(Error::failed("cancelled"))',
)
mutant(
    "ending-failed-is-cancelled",
    ENDING,
    "a failed call counts as cancelled",
    "(Err(error), Demand::Wanted) => <<<Ending::Failed(error.clone())>>>,",
    "Ending::Cancelled",
)
mutant(
    "ending-results-missing",
    ENDING,
    "the results of a call are not told",
    "(Ok(payload), Demand::Wanted) => Ending::Returned(<<<payload.clone()>>>),",
    "Payload::empty().clone()",
)
mutant(
    "ending-tail-call-is-cancelled",
    ENDING,
    "a tail call counts as cancelled",
    "observer.tell(<<<Ending::TailCalled>>>);",
    "Ending::Cancelled",
)
mutant(
    "ending-dropped-untold",
    ENDING,
    "nobody is told of a call that is dropped",
    "fn drop(&mut self) { <<<self.run(Ending::Cancelled);>>> }",
)

feature("rate and concurrency limits", "runtime:interceptors::limits", "core:rate")
RATE = CORE + "kinds/interception/rate.rs"
CONCURRENCY = CORE + "kinds/interception/concurrency.rs"
mutant(
    "rate-unlimited",
    RATE,
    "calls come as fast as they like",
    "if <<<expected.duration_since(now) > early>>> {",
    "false",
)
mutant(
    "rate-without-burst",
    RATE,
    "no burst passes",
    "saturating_mul(<<<pace.burst.saturating_sub(1)>>>)",
    "0",
)
mutant(
    "rate-queue-unlimited",
    RATE,
    "any number of calls waits",
    "if <<<state.waiting.len() >= self.queue>>> {",
    "false",
)
mutant(
    "rate-never-wakes",
    RATE,
    "calls that wait are not let go",
    "if free { <<<self.shared.wake_at(later)?;>>> }",
    "let _ = later;",
)
mutant(
    "rate-wakes-one",
    RATE,
    "of the calls that wait only the first is let go",
    "Err(later) => { drop(state); let Err(error) = <<<self.wake_at(later)>>> else { return };",
    "{ let _ = later; Ok(()) }",
)
mutant(
    "rate-keeps-cancelled",
    RATE,
    "a call that was cancelled keeps its place",
    "<<<let gone = shared.state.lock().waiting.remove(&number); drop(gone);>>>",
    "let _ = (&shared, number);",
)
mutant(
    "rate-out-of-order",
    RATE,
    "the last that waits is let go first",
    "Ok(()) => { let first = <<<state.waiting.pop_first()>>>;",
    "state.waiting.pop_last()",
)
mutant(
    "concurrency-unlimited",
    CONCURRENCY,
    "any number of calls is under way",
    "if <<<state.under_way < self.limit && state.waiting.is_empty()>>> {",
    "true",
)
mutant(
    "concurrency-never-ends",
    CONCURRENCY,
    "a call that has ended counts as under way",
    "drop(state); call.on_answer(move |_| <<<this.end_one()>>>);",
    "drop(this)",
)
mutant(
    "concurrency-queue-unlimited",
    CONCURRENCY,
    "any number of calls waits",
    "if <<<state.waiting.len() < self.queue && self.limit > 0>>> {",
    "self.limit > 0",
)
mutant(
    "concurrency-miscounts",
    CONCURRENCY,
    "a call that has waited does not count as under way",
    "state.under_way += <<<usize::from(next.is_some())>>>;",
    "0",
)
mutant(
    "concurrency-out-of-order",
    CONCURRENCY,
    "the last that waits is let go first",
    "state.under_way -= 1; let next = <<<state.waiting.pop_first()>>>;",
    "state.waiting.pop_last()",
)
mutant(
    "concurrency-cancelled-counts",
    CONCURRENCY,
    "a call that is cancelled while it waits counts as one that has ended",
    "if <<<gone.is_none()>>> { self.end_one(); }",
    "true",
)
equivalent(
    "concurrency-overtakes",
    CONCURRENCY,
    "a call passes those that wait",
    "While calls wait, as many are under way as may be: one that ends lets the first that waits "
    "go on under the same lock. This is a second guard.",
    "if state.under_way < self.limit && <<<state.waiting.is_empty()>>> {",
    "true",
)

# ---- Spans, metrics, snapshots

feature("spans", "runtime:spans", "programs:observing")
SPANNING = CORE + "cap/spanning.rs"
SPANS = CORE + "cap/spans.rs"
mutant(
    "span-without-question",
    SPANNING,
    "the callee's span does not have the question",
    "question = <<<self.answer_id().map(|id| id.0)>>>,",
    "None::<u32>",
)
mutant(
    "span-without-connection",
    SPANNING,
    "the callee's span does not have the connection",
    "connection = <<<over.as_ref().map(|connection| connection.number())>>>,",
    "None::<u64>",
)
mutant(
    "span-without-peer",
    SPANNING,
    "the callee's span does not have the peer",
    'peer = <<<peer.as_deref().unwrap_or("this process")>>>,',
    '"nobody"',
)
mutant(
    "span-without-object",
    SPANNING,
    "the callee's span does not have the object",
    "object = <<<object()>>>, connection = over",
    "None::<String>",
)
mutant(
    "span-without-parent",
    SPANNING,
    "the callee's span in the same process is not within the caller's",
    "let parent = <<<self.span_of(Kind::PassedOn).or_else(|| self.span_of(Kind::Outgoing))>>>;",
    "None",
)
mutant(
    "span-not-passed-on",
    SPANNING,
    "a call that is passed on does not belong to the span in which it was",
    "if log::wanted!(DEBUG) { <<<self.keep_current_span();>>> }",
)
mutant(
    "span-question-unrecorded",
    SPANS,
    "the caller's span does not have the question",
    '<<<span.record("question", id);>>>',
    "let _ = id;",
)
mutant(
    "span-peer-unrecorded",
    SPANS,
    "the caller's span does not have the peer",
    '<<<span.record("peer", &*origin::named(peer));>>>',
    "let _ = peer;",
)
mutant(
    "span-connection-unrecorded",
    SPANS,
    "the caller's span does not have the connection",
    '<<<span.record("connection", connection);>>>',
    "let _ = connection;",
)
mutant(
    "local-failure-untold",
    SPANS,
    "nobody tells of a call that failed in this process",
    "<<<let _entered = self.span.enter(); log::tell!(DEBUG, %error, internal = error.internal(), "
    '"a call failed in this process");>>>',
    "let _ = error;",
)

feature("metrics", "programs:counted", "programs:observing")
METRICS = CORE + "kinds/interception/metrics.rs"
SNAPSHOT = CORE + "runtime/snapshot.rs"
mutant(
    "metrics-cancelled-is-failed",
    METRICS,
    "a cancelled call is counted as failed",
    'Ending::Cancelled => <<<"cancelled">>>,',
    '"failed"',
)
mutant(
    "metrics-tail-call-is-returned",
    METRICS,
    "a tail call is counted as returned",
    'Ending::TailCalled => <<<"tail_called">>>,',
    '"returned"',
)
mutant(
    "metrics-under-way-grows",
    METRICS,
    "a call that has ended counts as under way",
    '<<<gauge!("capnp_rpc_calls_under_way", "side" => side).decrement(1.0);>>>',
    "let _ = side;",
)
mutant(
    "metrics-without-parameters",
    METRICS,
    "the size of parameters is not counted",
    ".increment(<<<call.size()>>>);",
    "0",
)
mutant(
    "metrics-without-results",
    METRICS,
    "the size of results is not counted",
    ".increment(<<<bytes>>>);",
    "{ let _ = bytes; 0 }",
)
mutant(
    "metrics-without-time",
    METRICS,
    "how long calls took is not counted",
    '<<<histogram!("capnp_rpc_call_seconds", labels).record(began.elapsed().as_secs_f64());>>>',
    "drop(labels); let _ = began;",
)
mutant(
    "metrics-overloaded-is-failed",
    METRICS,
    "a call that was refused is counted as failed",
    'ErrorKind::Overloaded => <<<"overloaded">>>,',
    '"failed"',
)
mutant(
    "metrics-imports-are-exports",
    SNAPSHOT,
    "exports are told as imports",
    '("capnp_rpc_imports", <<<sum(|tables| tables.imports as u64)>>>),',
    "sum(|tables| tables.exports as u64)",
)
mutant(
    "metrics-no-workers",
    SNAPSHOT,
    "workers are not told",
    '("capnp_rpc_workers", <<<workers as u64>>>),',
    "{ let _ = workers; 0 }",
)
mutant(
    "metrics-no-received-bytes",
    SNAPSHOT,
    "received bytes are not told",
    '("capnp_rpc_received_bytes", <<<sum(|tables| tables.received_bytes)>>>),',
    "0",
)

feature("snapshots", "runtime:snapshot", "runtime:flow_limit", "runtime:limits")
TABLES = CORE + "protocol/snapshot.rs"
mutant(
    "snapshot-idle",
    SNAPSHOT,
    "workers that are busy are told as idle",
    "idle_workers: <<<workers.idle>>>,",
    "workers.workers",
)
mutant(
    "snapshot-waiting-jobs",
    SNAPSHOT,
    "jobs that wait are not told",
    "waiting_jobs: <<<workers.waiting_jobs>>>,",
    "0",
)
mutant(
    "snapshot-unsorted",
    SNAPSHOT,
    "connections are told in another order",
    "connections.sort_by_key(|connection| <<<connection.id>>>);",
    "u64::MAX - connection.id",
)
mutant(
    "snapshot-age",
    CORE + "runtime/connection.rs",
    "the age of a connection is not told",
    "age: <<<self.since.elapsed()>>>,",
    "std::time::Duration::ZERO",
)
mutant(
    "snapshot-exports",
    CORE + "runtime/connection.rs",
    "what the peer holds is not told",
    "exports: <<<self.machine.exported()>>>,",
    "Vec::new()",
)
mutant(
    "snapshot-questions",
    TABLES,
    "questions are not counted",
    "questions: <<<self.questions.len()>>>,",
    "0",
)
mutant(
    "snapshot-answers",
    TABLES,
    "answers are not counted",
    "answers: <<<self.answers.len()>>>,",
    "0",
)
mutant(
    "snapshot-held-back",
    TABLES,
    "calls that are held back are not counted",
    "held_back: <<<self.load.held()>>>,",
    "0",
)
mutant(
    "snapshot-queued-bytes",
    TABLES,
    "bytes that wait to be sent are not counted",
    "queued_bytes: <<<self.room.bytes()>>>,",
    "0",
)
mutant(
    "snapshot-budget",
    TABLES,
    "what the peer costs is not counted",
    "budget_bytes: <<<self.budget.held()>>>,",
    "0",
)
mutant(
    "snapshot-references",
    TABLES,
    "how often a capability was sent is not told",
    "object: <<<format!(\"{target:?}\")>>>,",
    "String::new()",
)

# ---- Serving

feature("serving", "programs:serving", "programs:describing", "facade:serving")
SERVING = "src/serving/mod.rs"
NOTICE = "src/serving/notice.rs"
SIGNALS = "src/serving/signals.rs"
mutant("ready-untold", NOTICE, "systemd is not told of readiness", '<<<self.send("READY=1");>>>')
mutant("stopping-untold", NOTICE, "systemd is not told of the end", '<<<self.send("STOPPING=1");>>>')
mutant(
    "watchdog-without-a-pulse",
    NOTICE,
    "signs of life come although the workers are stuck",
    "if <<<call.wait().is_ok()>>> {",
    "{ drop(call); true }",
)
mutant(
    "watchdog-silent",
    NOTICE,
    "no signs of life come",
    '<<<socket.send("WATCHDOG=1");>>>',
    "let _ = &socket;",
)
mutant(
    "watchdog-of-another",
    NOTICE,
    "signs of life come although another process is meant",
    'if <<<number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()))>>> {',
    "false",
)
mutant(
    "notice-not-abstract",
    NOTICE,
    "an abstract socket of systemd is taken for a file",
    "if let Some(name) = <<<name.strip_prefix('@')>>> {",
    "None::<&str>",
)
mutant(
    "second-signal-ignored",
    SERVING,
    "a second signal does not end the server",
    "<<<cut_off |= !self.vat.drain(Duration::ZERO)?;>>>",
)
mutant(
    "third-signal-ignored",
    SIGNALS,
    "a third signal does not end the process",
    "let enough = <<<told.is_empty() || self.signals >= ENOUGH>>>;",
    "told.is_empty()",
)
mutant(
    "signal-without-server-ignored",
    SIGNALS,
    "a signal does not end a process whose servers have ended",
    "let enough = <<<told.is_empty()>>> || self",
    "false",
)
mutant(
    "signals-cannot-be-left-alone",
    SERVING,
    "a server that leaves signals alone is ended by them",
    "if <<<self.signals>>> { let send",
    "true",
)
mutant(
    "listeners-stay-open",
    SERVING,
    "a server that ends still accepts",
    'health.set_not_serving("the server is shutting down"); } <<<self.close_listeners();>>>',
)
mutant(
    "drain-has-no-time",
    SERVING,
    "calls that have begun are cut off at once",
    "{ Duration::ZERO } else { <<<self.drain_for>>> };",
    "Duration::ZERO",
)
mutant(
    "drain-has-no-end",
    SERVING,
    "a call that does not end keeps the server",
    "{ Duration::ZERO } else { <<<self.drain_for>>> };",
    "Duration::from_secs(3600)",
)
mutant(
    "health-ends-serving",
    SERVING,
    "health does not say that the server ends",
    '<<<health.set_not_serving("the server is shutting down");>>>',
    "let _ = health;",
)
mutant(
    "given-vat-ends",
    SERVING,
    "the vat that the application gave is shut down",
    "let own_vat = <<<self.vat.is_none()>>>;",
    "true",
)
mutant(
    "failed-listener-unnoticed",
    SERVING,
    "a listener that fails is no error",
    "Event::Accepted(Err(error)) => break (Haste::InOrder, <<<Some(error)>>>),",
    "{ drop(error); None }",
)
mutant(
    "stop-now-waits",
    SERVING,
    "stop_now waits for calls",
    "Event::StopNow => break (<<<Haste::Now>>>, None),",
    "Haste::InOrder",
)
mutant(
    "every-name-offered",
    SERVING,
    "whatever is asked for by name is the health object",
    "find(|(name, _)| <<<asked.as_deref() == Some(*name)>>>);",
    "{ let _ = (&asked, name); true }",
)
mutant(
    "inherited-sockets-ignored",
    SERVING,
    "the sockets of systemd are not used",
    "if <<<inherited.is_empty()>>> {",
    "true",
)
mutant(
    "drained-vat-takes-calls",
    CORE + "protocol/draining.rs",
    "a vat that drains takes new calls",
    "NewCalls::Refused => <<<Some(Error::draining())>>>,",
    "None",
)
mutant(
    "drain-says-all-answered",
    CORE + "runtime/draining.rs",
    "draining says that all was answered",
    "<<<unanswered == 0>>> }",
    "{ let _ = unanswered; true }",
)

feature("health", "programs:serving")
HEALTH = "src/health.rs"
mutant("health-same-version", HEALTH, "a change is not told", "<<<state.version += 1;>>>")
mutant(
    "health-tells-all-at-once",
    HEALTH,
    "a slow watcher is told before it has answered",
    "<<<told.asked = true;>>>",
)
mutant(
    "health-tells-no-more",
    HEALTH,
    "a watcher that has answered is not told what has changed meanwhile",
    "} <<<watch.tell();>>> } health.lock().answers += 1;",
    "drop(watch);",
)
mutant(
    "health-end-untold",
    HEALTH,
    "the server ends before watchers know of it",
    "if <<<!watches.iter().filter_map(Weak::upgrade).any(|watch| watch.is_behind(version))>>> {",
    "true",
)

# ---- Staying connected

feature("staying connected", "programs:connecting", "runtime:reconnecting", "core:kinds")
CONNECTING = "src/connecting/mod.rs"
RECONNECT = CORE + "kinds/reconnect.rs"
BACKOFF = CORE + "kinds/backoff.rs"
RETRY = CORE + "kinds/retry.rs"
mutant(
    "always-the-first-server",
    CONNECTING,
    "an attempt does not begin with the next server",
    "self.lock().next = <<<at + 1>>>;",
    "0",
)
mutant(
    "one-server-only",
    CONNECTING,
    "an attempt ends with the first server that is not there",
    "Err(error) => <<<failure = error>>>,",
    "return Err(error)",
)
mutant(
    "connect-without-timeout",
    CONNECTING,
    "connecting has no time limit",
    "Server::At(address) => address.connect_with(&self.options, <<<Some(self.timeout)>>>)?,",
    "None",
)
mutant(
    "settings-ignored",
    CONNECTING,
    "the settings of connections are ignored",
    "self.vat.connect(transport, <<<(self.configure)()>>>)",
    "ConnConfig::new()",
)
mutant(
    "connector-vat-ignored",
    CONNECTING,
    "the vat that was given is not used",
    "vat: <<<self.vat.unwrap_or_else(|| Vat::global().clone())>>>,",
    "Vat::global().clone()",
)
mutant(
    "connector-pauses-ignored",
    CONNECTING,
    "the pauses that a connector is told are ignored",
    "lazy_auto_reconnect_after(<<<self.backoff>>>, move",
    "Backoff::default()",
)
mutant(
    "no-pause",
    RECONNECT,
    "attempts follow each other without a pause",
    "let pause = <<<self.backoff.pause(state.failures)>>>;",
    "std::time::Duration::ZERO",
)
mutant(
    "pause-after-a-good-connection",
    RECONNECT,
    "a connection that was good counts as a failure",
    "state.failures = <<<if proven { 0 } else { state.failures.saturating_add(1) }>>>;",
    "{ let _ = proven; state.failures.saturating_add(1) }",
)
mutant(
    "lost-connection-kept",
    RECONNECT,
    "a connection that is lost is used again",
    "if <<<!current.is_disconnected()>>> {",
    "true",
)
mutant(
    "reset-keeps-failures",
    RECONNECT,
    "a reset does not end the pause",
    "<<<self.reconnecting.state.lock().failures = 0;>>>",
)
mutant(
    "reset-does-nothing",
    RECONNECT,
    "a reset keeps the connection",
    "<<<self.reconnecting.end_generation(generation);>>>",
    "let _ = generation;",
)
mutant(
    "failed-attempt-kept",
    RECONNECT,
    "an attempt that failed is what all calls meet",
    "<<<this.end_generation(self.generation);>>> } promise.resolve(target);",
    "drop(this);",
)
mutant(
    "backoff-without-jitter",
    BACKOFF,
    "all who failed together try again together",
    "longest.saturating_sub(<<<(longest / 2).mul_f64(random_fraction())>>>)",
    "Duration::ZERO",
)
mutant(
    "backoff-without-limit",
    BACKOFF,
    "pauses grow without end",
    "let longest = <<<self.first.saturating_mul(factor).min(self.most)>>>;",
    "self.first.saturating_mul(factor)",
)

feature("retrying", "runtime:retrying")
mutant(
    "retry-for-ever",
    RETRY,
    "attempts go on beyond their number",
    "if <<<failures >= self.attempts>>> || !self.may_pass(&error) {",
    "false",
)
mutant(
    "retry-whatever-failed",
    RETRY,
    "what will not pass is tried again",
    "if failures >= self.attempts || <<<!self.may_pass(&error)>>> {",
    "false",
)
mutant(
    "retry-twice-carried-out",
    RETRY,
    "a call that may have been carried out is made again",
    "CarriedOut::Maybe => <<<self.repeatable == Repeatable::Yes>>>,",
    "true",
)
mutant(
    "retry-refused-not",
    RETRY,
    "a call that was refused is not made again",
    "CarriedOut::Answered => <<<refused || self.repeatable == Repeatable::Yes>>>,",
    "{ let _ = refused; self.repeatable == Repeatable::Yes }",
)
mutant(
    "retry-not-begun-not",
    RETRY,
    "a call that has not begun is not made again",
    "CarriedOut::No => <<<true>>>,",
    "false",
)
mutant(
    "retry-without-end",
    RETRY,
    "attempts begin after their time",
    "if <<<next.min(end) != next || end.has_passed()>>> {",
    "false",
)
equivalent(
    "retry-cancelled",
    RETRY,
    "a call whose caller was cancelled is made again",
    "The error of a cancelled wait has the kind `failed`, and such are not tried again. This is a "
    "second guard.",
    "&& <<<!error.is_cancellation()>>>;",
    "true",
)

feature("on_disconnect", "runtime:disconnects")
DISCONNECT = CORE + "cap/disconnect.rs"
mutant(
    "notice-not-withdrawn",
    DISCONNECT,
    "a notice comes although its guard was dropped",
    "fn drop(&mut self) { <<<self.0.withdraw();>>> }",
)
mutant(
    "notice-late",
    DISCONNECT,
    "a connection that has ended already is not told",
    "unwrap_or_else(gone); <<<return self.due(error);>>>",
    "drop(error); return;",
)
mutant(
    "notice-unconnected",
    DISCONNECT,
    "a capability that has no connection now is not told",
    "} else if <<<self.client.is_unconnected()>>> {",
    "false",
)
mutant(
    "notice-of-the-broken",
    DISCONNECT,
    "a capability that is broken already is not told",
    "<<<return self.due(error.clone());>>>",
    "let _ = error; return;",
)

feature("keepalive", "runtime:keepalive", "interop:keepalive")
KEEPALIVE = CORE + "runtime/keepalive.rs"
mutant(
    "keepalive-never-gives-up",
    KEEPALIVE,
    "a peer that is silent is kept",
    "<<<self.state.lock().phase = Phase::Asked;>>>",
)
mutant(
    "keepalive-hears-nothing",
    KEEPALIVE,
    "a peer that answers is given up",
    "if state.received != received { <<<state.phase = Phase::Heard;>>> }",
)
mutant(
    "keepalive-asks-the-idle",
    CORE + "protocol/probe.rs",
    "a peer is asked on a connection on which nothing is held",
    "|| <<<self.snapshot().is_empty()>>> {",
    "false",
)
mutant(
    "keepalive-looks-once",
    KEEPALIVE,
    "nobody looks a second time",
    "} <<<self.look_again();>>> } }",
)

# ---- Slow consumers

feature("outboxes", "runtime:outboxes", "programs:notify")
OUTBOX = CORE + "kinds/outbox.rs"
mutant(
    "outbox-drops-the-newest",
    OUTBOX,
    "the newest is dropped",
    "state.calls.push_back(own); <<<state.calls.pop_front().map(Entry::InsteadOf)>>> }",
    "state.calls.pop_back().map(Entry::InsteadOf)",
)
mutant("outbox-counts-no-dropped", OUTBOX, "what is dropped is not counted", "<<<state.dropped += 1;>>>")
mutant(
    "outbox-keeps-the-capability",
    OUTBOX,
    "a capability that is too slow is not given up",
    "<<<self.close(error.clone());>>> Err(error)",
)
mutant(
    "outbox-sends-all",
    OUTBOX,
    "any number of calls is under way",
    "let may = <<<state.under_way < self.config.under_way && state.closed.is_none()>>>;",
    "state.closed.is_none()",
)
mutant("outbox-wakes-nobody", OUTBOX, "who waits for room is not woken", "<<<called.wake();>>> let pending", "drop(called);")
mutant(
    "outbox-counts-no-failed",
    OUTBOX,
    "calls that fail are not counted",
    "state.failed += <<<u64::from(outcome.is_err())>>>;",
    "0",
)
mutant(
    "outbox-does-not-notice",
    OUTBOX,
    "an outbox stays open when its peer is gone",
    "&& <<<queue.is_lost()>>> { queue.close(error);",
    "false",
)
mutant(
    "outbox-gives-up-what-comes-back",
    OUTBOX,
    "an outbox closes although its capability is connected anew",
    "<<<!self.client.comes_back()>>> && (self.client",
    "true",
)
mutant(
    "outbox-stops",
    OUTBOX,
    "what waits is not sent when a call is answered",
    "(<<<!state.sending && !state.calls.is_empty()>>>, called)",
    "false",
)
mutant(
    "outbox-finishes-early",
    OUTBOX,
    "finish does not wait for calls under way",
    "None => <<<(state.calls.is_empty() && state.under_way == 0)>>>.then_some(Ok(())),",
    "state.calls.is_empty()",
)
mutant(
    "outbox-finish-is-not-told",
    OUTBOX,
    "finish waits for ever",
    "let ended = <<<state.under_way == 0 && state.calls.is_empty()>>>;",
    "false",
)
mutant(
    "outbox-waits-never",
    OUTBOX,
    "a full outbox takes more instead of letting the caller wait",
    "if <<<state.calls.len() < self.config.waiting>>> {",
    "true",
)

# ---- Bytes and items

feature("bytes", "programs:bytes")
BYTES = "src/bytes.rs"
INLET = "src/inlet.rs"
mutant(
    "bytes-from-the-beginning",
    BYTES,
    "the rest of what was written is read from its beginning",
    "bytes.get(<<<part.read..>>>)",
    "0..",
)
mutant(
    "bytes-never-answered",
    BYTES,
    "a write whose bytes were read is not answered",
    "Ok((length, true)) => { <<<part.answer(Ok(()));>>>",
    "std::mem::forget(part);",
)
mutant(
    "bytes-answered-early",
    INLET,
    "a write is answered before anybody has read it",
    "<<<state.brought.extend(call.take());>>>",
    "if let Some(call) = call.take() { call.respond_streaming(Ok(())); }",
)
mutant(
    "bytes-cut-off-is-end",
    INLET,
    "a stream that was cut off seems to have ended",
    "Phase::CutOff | Phase::Unread => Found::Next(<<<Next::CutOff>>>),",
    "Next::End",
)
mutant(
    "bytes-cut-off-unnoticed",
    INLET,
    "a reader waits for ever for a writer that is gone",
    "if let Phase::Open = state.phase { <<<state.phase = Phase::CutOff;>>> }",
)
mutant(
    "bytes-unread-is-taken",
    INLET,
    "what nobody has read counts as taken when the reader is gone",
    "chain(brought) { <<<call.respond_streaming(Err(closed()));>>> }",
    "call.respond_streaming(Ok(()));",
)
mutant(
    "bytes-unread-end-is-taken",
    INLET,
    "an end that nobody has read counts as taken when the reader is gone",
    "if let Phase::Ended(Some(end)) = phase { <<<end.respond(Err(closed()));>>> }",
    "end.respond(Ok(Payload::empty().clone()));",
)
mutant(
    "bytes-after-the-reader",
    INLET,
    "writes after the reader is gone are taken",
    "if let Some(refused) = call { <<<refused.respond_streaming(Err(closed()));>>> }",
    "refused.respond_streaming(Ok(()));",
)
mutant("bytes-sink-not-flushed", BYTES, "a sink is not flushed at its end", "<<<self.with(|to| to.flush())?;>>>")
mutant(
    "bytes-sink-kept",
    BYTES,
    "a sink is kept after its end",
    "<<<drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());>>>",
)
mutant("bytes-sent-without-end", BYTES, "what is sent is not ended", "<<<writer.end()?;>>> Ok(sent)", "drop(writer);")
mutant(
    "bytes-flush-does-not-wait",
    BYTES,
    "a flush does not wait",
    "<<<Ok(self.stream.as_client().finish_stream()?)>>>",
    "Ok(())",
)
mutant(
    "bytes-interrupted",
    BYTES,
    "a read that is interrupted ends the stream",
    "Err(error) if <<<error.kind() == io::ErrorKind::Interrupted>>> => continue,",
    "false",
)

feature("items", "programs:items")
ITEMS = "src/items.rs"
mutant(
    "items-end-before-the-error",
    ITEMS,
    "an error behind items is lost",
    "results.set_end(<<<self.items.is_none() && self.failure.is_none()>>>);",
    "self.items.is_none()",
)
mutant(
    "items-too-far-ahead",
    ITEMS,
    "more is made ahead than was allowed",
    "while <<<self.calls.len() < self.ahead>>> {",
    "self.calls.len() < self.ahead + 8",
)
mutant(
    "items-one-at-a-time",
    ITEMS,
    "nothing is made ahead",
    "while <<<self.calls.len() < self.ahead>>> {",
    "self.calls.is_empty()",
)
mutant(
    "items-as-many-as-asked",
    ITEMS,
    "as many items are returned as somebody asks for",
    "let most = <<<params.get()?.get_most().clamp(1, MOST)>>>;",
    "params.get()?.get_most()",
)
mutant("items-not-cancelled", ITEMS, "items that nobody wants are made", "<<<params.allow_cancellation();>>>")
mutant("items-no-end", ITEMS, "the end is not noticed", "if results.get_end() { <<<self.end();>>> }")
mutant("items-pushed-without-end", ITEMS, "what is pushed is not ended", "<<<to.end_request().call()?;>>> Ok(sent)")
mutant(
    "items-sink-goes-on",
    ITEMS,
    "a sink goes on after an error",
    "<<<take(params.get()?.get_item()?)?;>>> *self.take",
    "let _ = take(params.get()?.get_item()?);",
)
mutant(
    "items-cut-off-is-end",
    ITEMS,
    "items that were cut off seem to have ended",
    'Ok(Next::CutOff) => { <<<Some(Error::disconnected("the items were cut off: whoever pushed them is gone"))>>> }',
    "None",
)
mutant(
    "items-without-capabilities",
    ITEMS,
    "items that are pushed have no capabilities",
    "<<<content.imbue(&table);>>>",
    "let _ = &table;",
)
mutant(
    "items-reader-goes-on",
    ITEMS,
    "what fails to be read is taken",
    "Err(error) => { part.answer(<<<Err(error.clone())>>>); Some(error)",
    "Ok(())",
)

# ---- The program

feature("call", "tools:call", "tools:described", "cli:path", "cli:json")
mutant(
    "call-exit-code",
    CLI + "failure.rs",
    "a server that is not reached is an exception of the object",
    "Kind::Connection => <<<3>>>,",
    "1",
)
mutant(
    "call-harmful",
    CLI + "failure.rs",
    "an exception can steer the terminal",
    "if <<<steers(c)>>> { out.extend",
    "false",
)
mutant(
    "call-field-named-by-nobody",
    CLI + "json.rs",
    "what is long stays on its line",
    "if let Some(whole) = <<<short(rest)>>> {",
    "Some(rest)",
)
mutant(
    "call-timeout-is-an-exception",
    CLI + "failure.rs",
    "no answer in time is an exception of the object",
    "_ if <<<error.is_timeout()>>> => Kind::Connection,",
    "false",
)

feature("JSON", "cli:dynamic", "tools:call")
READ = CLI + "dynamic/read.rs"
WRITE = CLI + "dynamic/write.rs"
mutant(
    "json-int64-is-a-number",
    READ,
    "integers of 64 bits are numbers",
    "<<<out.quoted(from.get_data_field_mask::<i64>(at, default))>>>",
    "out.put(&from.get_data_field_mask::<i64>(at, default).to_string())",
)
mutant("json-nan", READ, "NaN is null", "self.put(<<<\"\\\"NaN\\\"\">>>)", '"null"')
mutant(
    "json-infinity",
    READ,
    "-Infinity is Infinity",
    "self.put(if <<<number > 0.0>>> {",
    "true",
)
mutant(
    "json-unknown-enumerant",
    READ,
    "a value without a name is null",
    "None => <<<self.put(&number.to_string())>>>,",
    'self.put("null")',
)
mutant(
    "json-null-union",
    READ,
    "a member of a union that is null is left out",
    "<<<field.discriminant.is_some_and(|number| number != 0)>>> || !from",
    "false",
)
mutant(
    "json-nulls",
    READ,
    "pointers that are null are written",
    "|| <<<!from.is_pointer_field_null(pointer)>>>",
    "true",
)
mutant(
    "json-unset-union",
    READ,
    "members of unions that are not set are written",
    "<<<if field.discriminant.is_some() && field.discriminant != set { return false; }>>> let pointer",
    "let _ = set;",
)
mutant(
    "json-steers",
    READ,
    "texts can steer the terminal",
    "if <<<!json.contains(steers)>>> {",
    "true",
)
mutant(
    "json-pointer-default",
    READ,
    "the defaults of pointers are not written",
    "let instead = if <<<pointer.is_null()>>> {",
    "false",
)
mutant(
    "json-limit",
    READ,
    "results of any length are written",
    "if <<<self.text.len() + text.len() > self.limit>>> {",
    "false",
)
mutant(
    "json-bool-default",
    WRITE,
    "the defaults of booleans are not kept",
    "to.set_bool_field(offset, <<<boolean(json)? != default>>>);",
    "{ let _ = default; boolean(json)? }",
)
mutant(
    "json-two-of-a-union",
    WRITE,
    "two members of a union may be set",
    "<<<set = Some(name);>>>",
)
mutant(
    "json-int64-of-text",
    WRITE,
    "integers of 64 bits may not be texts",
    "Value::String(text) => <<<i128::from_str(text).ok()>>>,",
    "{ let _ = text; None }",
)
mutant(
    "json-fraction",
    WRITE,
    "the fraction of an integer is dropped",
    "<<<(float.fract() == 0.0 && float.abs() < 9e15)>>>.then_some",
    "true",
)
mutant(
    "json-unknown-member",
    WRITE,
    "a member that the schema does not have is left out",
    "let field = <<<declared.field(name)?.ok_or_else(|| unknown(&declared, name))?>>>;",
    "match declared.field(name)? { Some(field) => field, None => continue }",
)

feature("tap", "tools:tap", "tools:peers")
TAP = CLI + "tap.rs"
SAID = CLI + "said.rs"
mutant(
    "tap-half-open",
    TAP,
    "the one side goes on when the other is broken",
    "<<<controls.iter().for_each(|control| control.shutdown());>>>",
)
mutant("tap-loud", TAP, "--quiet prints", "if <<<!self.quiet>>> {", "true")
mutant("tap-without-end", TAP, "the end of a stream is not handed on", "return Ok(<<<writer.finish()>>>);", "Ok(())")
equivalent(
    "tap-unreached-server",
    TAP,
    "a client waits for a server that was not reached",
    "What leads to the client is dropped there, which closes the connection. This is a second guard.",
    "<<<client.control.shutdown();>>> return Err(failure);",
)
mutant(
    "tap-forgets-interfaces",
    SAID,
    "the interface of a capability in results is not known later",
    "Place::Sender(number) => <<<self.learn(from, number, interface)>>>,",
    "drop((number, interface))",
)
mutant(
    "tap-counts-wrong",
    TAP,
    "times are of seconds",
    "let millis = <<<event.time / 1_000_000>>>;",
    "event.time / 1_000_000_000",
)

feature("trace", "cli:trace", "tools:trace")
TRACE = CLI + "trace/mod.rs"
mutant(
    "trace-script",
    TRACE,
    "content can end the page's script",
    "let data = <<<data.to_string().replace('<', \"\\\\u003c\")>>>;",
    "data.to_string()",
)
mutant("trace-no-pipelines", TRACE, "pipelines are not drawn", '<<<put("p", json!(call));>>>', "let _ = call;")
mutant(
    "trace-returns-of-nobody",
    TRACE,
    "returns do not belong to their calls",
    '"return" => <<<self.questions.get(&(from.other(), question)).copied()>>>,',
    "self.questions.get(&(from, question)).copied()",
)
mutant(
    "trace-unlimited",
    TRACE,
    "--limit is ignored",
    "Ok(_) if <<<drawn.events.len() >= limit>>> => {",
    "false",
)
mutant("trace-embargoes", TRACE, "the end of an embargo does not belong to it", '<<<put("r", json!(begin));>>>', "let _ = begin;")
mutant(
    "trace-cut-off",
    TRACE,
    "that the end is missing is not told",
    "Err(failure) => <<<drawn.complaint = Some(format!(\"the end is missing: {failure}\"))>>>,",
    "drop(failure)",
)

feature("bench", "tools:bench")
BENCH = CLI + "bench.rs"
mutant(
    "bench-believes",
    BENCH,
    "what the server has counted is not looked at",
    "if <<<arrived != (chunks * CHUNK_BYTES) as u64>>> {",
    "{ let _ = arrived; false }",
)
mutant(
    "bench-any-number",
    BENCH,
    "any number of threads is allowed",
    "<<<(1..QUESTIONS as usize).contains(&count)>>>.then_some(count)",
    "true",
)
mutant(
    "bench-largest",
    BENCH,
    "each percentile is the largest",
    "<<<((last as f64 * part) as usize).min(last)>>>",
    "{ let _ = part; last }",
)


# ---- Running

PROGRAMS = {
    "core": ("rpc-core", "capnp-threads-core", ["--lib", "--features", "metrics"]),
    "facade": (".", "capnp-threads", ["--lib"]),
    "programs": (".", "capnp-threads", ["--test", "programs"]),
    "runtime": ("rpc-tests", "rpc-tests", ["--test", "runtime"]),
    "interop": ("rpc-tests", "rpc-tests", ["--test", "interop"]),
    "tools": ("rpc-cli", "capnp-threads-cli", ["--test", "tools"]),
    "cli": ("rpc-cli", "capnp-threads-cli", ["--lib"]),
}


def built(wanted):
    programs = {}
    for name in wanted:
        folder, package, options = PROGRAMS[name]
        found = run.build(package, *options)
        if name == "programs":
            # They run the examples, which are built for a package's tests only if all are.
            run.build(package, "--examples", command=("build",))
        programs[name] = (folder, found[0])
    return programs


def write(found):
    """Notes what was found in the page, whose other rows stay."""
    known = run.rows_of(PAGE)
    known.update(found)
    rows = [
        f"| `{m.name}` | {m.feature} | {m.what} | {' | '.join(known[m.name][-2:])} |"
        for m in MUTANTS
        if m.name in known
    ]
    head = "| mutant | feature | what is wrong | noticed by | when |\n|---|---|---|---|---|"
    none = [f"| `{m.name}` | {m.what} | {why} |" for m, why in EQUIVALENT]
    no_head = "| change | what is done | why that is no mistake |\n|---|---|---|"
    told = "\nThese change nothing that could be seen:\n"
    run.put_into_page(PAGE, "\n".join([head, *rows, told, no_head, *none, ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--limit", type=int, default=180, help="seconds that a check may take")
    parser.add_argument("--hang", type=int, default=30, help="seconds that one test may take")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--last", type=int, help="only so many of the last mutants")
    parser.add_argument("--unknown", action="store_true", help="only those not in the page")
    parser.add_argument("--write", action="store_true", help="note in the page what was found")
    parser.add_argument("--whole", action="store_true", help="survivors meet all tests")
    options = parser.parse_args()

    everything = MUTANTS + [mutant for mutant, _ in EQUIVALENT]
    run.plant(everything, LIBRARIES, options.check)
    if options.compile:
        run.compile_all(["capnp-threads-core", "capnp-threads", "capnp-threads-cli"])
    if options.check or options.compile:
        print(f"{len(MUTANTS)} mutants have their places, and {len(EQUIVALENT)} that are none")
        return
    chosen = [m for m in MUTANTS if not options.names or m.name in options.names or m.feature in options.names]
    unknown = set(options.names) - {m.name for m in chosen} - {m.feature for m in chosen}
    if unknown:
        sys.exit(f"no such mutants: {', '.join(sorted(unknown))}")
    if options.last:
        chosen = chosen[-options.last :]
    if options.unknown:
        known = run.rows_of(PAGE)
        chosen = [m for m in chosen if m.name not in known]
    wanted = {test.split(":")[0] for m in chosen for test in m.tests}
    programs = built([name for name in PROGRAMS if name in wanted])

    def check(test, single):
        name, _, tests = test.partition(":")
        folder, program = programs[name]
        arguments = [tests] if tests else []
        env = {"WATCHDOG_SECONDS": str(options.hang)}
        return run.Check(test, [*arguments, "--test-threads=2"], options.limit, env, program, folder)

    known = sorted({test for m in chosen for test in m.tests})
    for test in known:
        passed, said, _, log = check(test, False).run(None)
        if not passed:
            sys.exit(f"{log[-4000:]}\n{test} fails without any mutant: {said}")
        if " 0 passed" in said:
            sys.exit(f"{test} names no test")
        print(f"{test} without a mutant: {said}", flush=True)

    def one(mutant):
        reached_any = False
        tests = list(mutant.tests)
        if options.whole:
            tests += [name for name in programs if name not in tests]
        for test in tests:
            passed, said, reached, _ = check(test, True).run(mutant)
            reached_any |= reached
            if not passed:
                return mutant, f"{test.split(':')[0]}: {said}", True
        return mutant, "survives" if reached_any else "not reached", False

    survivors = []
    print("\n| feature | mutant | what is wrong | noticed by |\n|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, said, caught in pool.map(one, chosen):
            print(f"| {mutant.feature} | `{mutant.name}` | {mutant.what} | {said} |", flush=True)
            if options.write:
                write({mutant.name: [said, time.strftime("%Y-%m-%d")]})
            if not caught:
                survivors.append(mutant.name)
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} mutants are noticed")
    if survivors:
        sys.exit("not noticed: " + ", ".join(survivors))


if __name__ == "__main__":
    main()
