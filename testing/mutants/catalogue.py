"""Mistakes that the protocol's code could have, one at a time.

`where` is a piece of a file that is there once, whatever its white space. What stands between
the marks becomes `to`. A statement may become nothing.
"""

from dataclasses import dataclass
from os.path import normpath

PROTOCOL = "rpc-core/src/protocol/"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    what: str
    where: str
    to: str


MUTANTS = []


# Those that change nothing that could be seen, each with the reason. They are no mistakes, and
# are not run.
EQUIVALENT = []


def mutant(name, file, what, where, to=""):
    MUTANTS.append(Mutant(name, normpath(PROTOCOL + file), what, where, to))


def equivalent(name, file, what, why, where, to=""):
    EQUIVALENT.append((Mutant(name, normpath(PROTOCOL + file), what, where, to), why))


# ---- The order of calls: embargoes

mutant(
    "resolve-without-embargo",
    "incoming/resolve.rs",
    "a Resolve to something of this side begins no embargo",
    "self.settled_target(named, <<<called && node.is_some()>>>, dest)",
    "false",
)
mutant(
    "return-without-embargo",
    "incoming/returns.rs",
    "results that lead back to this side begin no embargo",
    "let target = self.settled_target(place, <<<field.called>>>, dest); field.give_up_place(hosted",
    "false",
)
mutant(
    "taken-answer-without-embargo",
    "incoming/returns.rs",
    "results that stayed on this side begin no embargo",
    "let target = self.settled_target(place, <<<field.called>>>, dest); if field.called",
    "false",
)
mutant(
    "quiet-fields-first",
    "incoming/returns.rs",
    "fields of results that were not called are settled before those that were",
    "in <<<called.into_iter().chain(quiet)>>> {",
    "quiet.into_iter().chain(called)",
)
mutant(
    "results-past-the-embargo",
    "incoming/returns.rs",
    "the capabilities that are read out of taken results lead past the embargo",
    "Some(cell) => { <<<cell.will_take(fields);>>> self.take_over",
    "drop(fields);",
)
mutant(
    "mark-stays-with-the-first-promise",
    "incoming/resolve.rs",
    "that something was sent does not count for the promise to which a promise leads",
    "if let Err(dest) = next.location() { <<<self.mark_called(&dest);>>> }",
    "let _ = dest;",
)
mutant(
    "call-leaves-no-mark",
    "outgoing.rs",
    "a call through a promise leaves no mark",
    "<<<self.mark_called(dest);>>> let mut caps",
)
mutant(
    "passing-on-leaves-no-mark",
    "descriptors/exporting.rs",
    "a promise that is passed on back to its peer leaves no mark",
    "let descriptor = dest.descriptor(); <<<self.mark_called(&dest);>>> Described",
)
mutant(
    "disembargo-overtakes",
    "incoming/resolve.rs",
    "a Disembargo is returned before the calls in front of it",
    "<<<self.hand_over(target, Delivery::Disembargo(echo), 0);>>> if",
    "drop(target); self.return_disembargo(&disembargo.target, echo);",
)
mutant(
    "path-fixed-past-what-is-in-hand",
    "descriptors/exporting.rs",
    "a place is given another path while a call is about to be handed over",
    "what == DescribedFor::Params || <<<!self.has_in_hand()>>>",
    "true",
)
mutant(
    "promise-passed-on-past-what-is-in-hand",
    "descriptors/exporting.rs",
    "a promise resolves to what is handed off while a call is about to be handed over",
    "let passed_on = if elsewhere && <<<may_fix_path>>> {",
    "true",
)
mutant(
    "held-call-is-not-in-hand",
    "held.rs",
    "a call that was held back is not known to be about to be handed over",
    "Item::Delivery { target, .. } => <<<self.take_in_hand_for(target.later())>>>,",
    "{ let _ = target; None }",
)
mutant(
    "finished-before-it-is-published",
    "../cap/call/cancelling.rs",
    "a call is cancelled by the Finish that answers its Return",
    "if <<<matches!(state.phase, Phase::Completing(_) | Phase::Done(_))>>> { return; } state.demand",
    "matches!(state.phase, Phase::Done(_))",
)
mutant(
    "embargo-lifted-to-the-short-path",
    "named.rs",
    "an embargo, or a held call, goes on along the path that is known now",
    "_ => <<<self.later()>>>.clone().client(),",
    "{ let _ = self.later(); &self.now }",
)
mutant(
    "embargo-never-lifted",
    "incoming/resolve.rs",
    "a Disembargo that comes back does not end its embargo",
    "self.order.embargo_ids.release(id); <<<self.lift(embargo.promise, embargo.target);>>>",
    "std::mem::forget(embargo);",
)

# ---- The four-way race: described paths

mutant(
    "described-promise-may-move",
    "descriptors/exporting.rs",
    "a promise of the peer that was described takes a shorter path later",
    "Described::new(descriptor, <<<self.machine.pinned(&promise, dest)>>>)",
    "{ drop(dest); Client::of(promise) }",
)
mutant(
    "resolved-export-may-move",
    "descriptors/exporting.rs",
    "an exported promise leads past what its Resolve has said",
    "<<<slot.redirect(path);>>> machine.exports.with(id",
    "drop(path); slot.redirect(target);",
)
mutant(
    "returned-promise-may-move",
    "outgoing.rs",
    "calls that are pipelined after the Return take a shorter path",
    "if let Some(cell) = cell { <<<cell.described(&kept);>>> }",
    "drop(cell);",
)
mutant(
    "sent-again-without-its-place",
    "outgoing.rs",
    "a new promise for a described field does not stand for it",
    "<<<field.pinned.upgrade().inspect(|pinned| pinned.stand_for(&node));>>>",
)
mutant(
    "place-kept-after-the-return",
    "incoming/returns.rs",
    "a place that was described is not given up when the Return comes",
    "<<<field.give_up_place(hosted.unwrap_or_else(|| target.clone()));>>>",
    "drop(hosted);",
)
mutant(
    "place-given-up-past-the-embargo",
    "incoming/returns.rs",
    "a place of taken results is given up to nothing",
    "<<<field.give_up_place(target.clone());>>> fields.insert",
)
mutant(
    "promise-resolved-to-itself",
    "incoming/resolve.rs",
    "a promise that resolves to its own described place is not broken",
    "if let View::Pinned(pinned) = self.view(&target) && <<<*pinned.target() == promise>>>",
    "*pinned.target() == promise && pinned.promise().is_none()",
)

# ---- Promises

mutant(
    "import-promise-twice",
    "descriptors/importing.rs",
    "a promise that is sent again becomes a second one, and the first never resolves",
    "let (node, resolution) = (<<<node.upgrade()>>>, *resolution);",
    "None",
)
mutant(
    "field-promise-twice",
    "outgoing.rs",
    "a field that is asked for again is a second promise, and the first never resolves",
    "let node = <<<field.node.upgrade()>>>.unwrap_or_else",
    "None",
)
mutant(
    "promise-not-watched",
    "descriptors/exporting.rs",
    "an exported promise is never resolved at the peer",
    "if <<<self.watch(client, id, serial).is_ok()>>>",
    "true",
)
mutant(
    "redirected-promise-not-watched",
    "descriptors/exporting.rs",
    "an exported promise that becomes another promise is never resolved at the peer",
    "if <<<self.watch(&target, id, serial).is_err()>>>",
    "false",
)
mutant(
    "null-promise-resolves-to-none",
    "descriptors/exporting.rs",
    "a promise that turns out to be null is resolved to `none`",
    "(None, View::Null) => { <<<(Err(Error::failed(\"the promise turned out to be null\")), target.clone())>>> }",
    "(Ok(Descriptor::None), target.clone())",
)
mutant(
    "broken-capability-without-its-error",
    "descriptors/exporting.rs",
    "a broken capability is sent without the Resolve that breaks it",
    "<<<self.trailing.push(wire::Message::Resolve(wire::Resolve { promise: id.0, resolution: Err(error), fds: Attached::default(), }));>>>",
    "drop(error);",
)

# ---- Counts

mutant(
    "release-of-one",
    "releases.rs",
    "a Release gives one reference back, however often the import was sent",
    "count: <<<import.refs>>> }));",
    "1",
)
mutant(
    "import-counted-once",
    "descriptors/importing.rs",
    "an import that is sent again is not counted",
    "self.refs = self.refs.checked_add(<<<1>>>)",
    "0",
)
mutant(
    "export-counted-once",
    "descriptors/exporting.rs",
    "an export that is sent again is not counted",
    "export.refs.checked_add(<<<1>>>).map",
    "0",
)
mutant(
    "release-takes-one",
    "descriptors/exporting.rs",
    "a Release of several references takes one away",
    "let left = export.refs.checked_sub(<<<count>>>)?;",
    "count.min(1)",
)
mutant(
    "finish-releases-nothing",
    "incoming/calls.rs",
    "a Finish does not release the results",
    "<<<exports.iter().try_for_each(|export| self.release_export(*export, 1))>>>",
    "{ let _ = exports; Ok(()) }",
)
mutant(
    "finish-of-results-releases",
    "releases.rs",
    "a Finish after the Return releases what was imported",
    "<<<self.send_finish(id, false);>>> self.forget_question(id); }",
    "self.send_finish(id, true);",
)
mutant(
    "cancelled-call-keeps-results",
    "releases.rs",
    "a Finish before the Return leaves the results' capabilities with the peer",
    "if finish == question::Finish::Sent { <<<self.send_finish(id, true);>>> } if let Some(vine)",
    "self.send_finish(id, false);",
)
mutant(
    "late-call-keeps-results",
    "releases.rs",
    "the Finish of a call whose time is over leaves the results' capabilities with the peer",
    "if finish == question::Finish::Sent { <<<self.send_finish(id, true);>>> } drop(permit);",
    "self.send_finish(id, false);",
)
mutant(
    "parameters-released-twice",
    "incoming/returns.rs",
    "a Return that releases the parameters takes two references of each",
    "for id in params { self.release_export(*id, <<<1>>>)?; }",
    "2",
)
mutant(
    "parameters-of-a-finished-call-kept",
    "incoming/returns.rs",
    "a late Return does not release the parameters",
    "<<<self.release_params(ret.release_params, &params)?;>>> if finish",
    "let _ = &params;",
)
mutant(
    "withdrawn-call-keeps-exports",
    "outgoing.rs",
    "a call that was cancelled before it left keeps the exports of its parameters",
    "self.free_question(id); <<<self.withdraw(exports.into_iter());>>> return",
    "drop(exports);",
)
mutant(
    "failed-description-keeps-exports",
    "descriptors/exporting.rs",
    "a message that cannot be sent keeps the exports that it would have named",
    "Err(error) => { <<<self.withdraw(described.iter().filter_map(Described::export));>>> return Err(error); }",
)
mutant(
    "gone-export-still-found",
    "descriptors/exporting.rs",
    "an export that has left the table is still found by its capability",
    "<<<self.order.exported.remove(&key);>>> self.order.exported.give_back(KEPT);",
)
mutant(
    "export-id-not-freed",
    "descriptors/exporting.rs",
    "the id of an export is not used again",
    "if let Some(export) = machine.exports.remove(id) { <<<self.order.export_ids.release(id.0);>>>",
)
mutant(
    "import-released-while-used",
    "releases.rs",
    "a reported import is released even if it has arrived again",
    "import| <<<import.handle.strong_count() == 0>>>);",
    "{ let _ = import; true }",
)

# ---- Questions and answers

mutant(
    "id-freed-at-finish",
    "releases.rs",
    "the id of a cancelled question is used again before its Return",
    "question.permit.take() }); <<<drop(permit);>>> if let Some(cell) = asked.cell {",
    "drop(permit); self.forget_question(id);",
)
mutant(
    "no-return-for-cancelled-calls",
    "incoming/calls.rs",
    "a Finish that comes first gets no Return",
    "answer::State::Running if <<<entry.cell().hint() == Hint::OnlyPipeline>>> => Ok(()),",
    "true",
)
mutant(
    "return-after-finish",
    "outgoing.rs",
    "a call returns though its question was finished and the id asked again",
    "if machine.answers.with(id, |entry| <<<entry.serial == serial>>>) != Some(true) { // The question",
    "{ let _ = entry; true }",
)
mutant(
    "finished-question-of-another",
    "releases.rs",
    "the report of an old question ends the one that has its id now",
    "let state = machine.questions.with(id, |question| { (<<<question.serial == serial>>>)",
    "true",
)
mutant(
    "question-asked-twice",
    "incoming/calls.rs",
    "a question may be asked while it is outstanding",
    "if let Some(answer) = <<<machine.answers.insert_new(id, answer)>>> {",
    "machine.answers.insert(id, answer).filter(|_| false)",
)
mutant(
    "one-answer-too-many",
    "incoming/calls.rs",
    "one call more than the limit may be outstanding",
    "<<<machine.answers.len() + machine.provisions.len() >= self.limits().answers as usize>>>",
    "machine.answers.len() + machine.provisions.len() > self.limits().answers as usize",
)
mutant(
    "second-return-accepted",
    "incoming/returns.rs",
    "a second Return for a question is ignored",
    "Some(question::State::Returned) => { <<<Err(Abort::new(format!(\"a second Return for question {id}\")))>>> }",
    "Ok(())",
)
mutant(
    "pipelining-against-the-hint",
    "named.rs",
    "calls may be pipelined on a call that was made without a pipeline",
    "if <<<cell.hint() == Hint::NoPipelining>>> {",
    "false",
)
mutant(
    "results-not-waited-for",
    "outgoing.rs",
    "results with capabilities need no Finish either",
    "Ok((_, described, ..)) if <<<described.is_empty()>>> => FinishNeeded::No,",
    "{ let _ = described; true }",
)
mutant(
    "unwanted-returns-not-noticed",
    "incoming/returns.rs",
    "calls for their pipeline only go on to be made to a peer that returns them",
    "<<<self.order.pipelines.returns = UnwantedReturns::Sent;>>>",
)

# ---- Tail calls

mutant(
    "tail-call-results-travel",
    "incoming/calls.rs",
    "the results of a tail call are sent, though they were to stay",
    "wire::ResultsTo::Yourself => <<<answer::ResultsTo::Yourself>>>,",
    "answer::ResultsTo::Caller",
)
mutant(
    "tail-call-taken-twice",
    "incoming/returns.rs",
    "the outcome of a call may be taken by two questions",
    "answer::ResultsTo::Yourself => <<<entry.take_interest()>>>.ok_or(\"has been taken before\"),",
    "match &entry.call { answer::Call::Wanted(own) => Some(own.clone()), answer::Call::Taken(_) => None }",
)
mutant(
    "tail-call-fields-forgotten",
    "incoming/returns.rs",
    "a field of results that stay with the peer is a promise for ever when the peer lets go of them",
    "<<<self.settle_with(asked, Err(error));>>> } } /// Handles",
    "drop((asked, error));",
)
mutant(
    "tail-call-without-its-pipeline",
    "incoming/returns.rs",
    "a question whose results stay with the peer loses its fields at the Return",
    "<<<self.machine.questions.with(id, |entry| entry.state = question::State::Asked(asked));>>> return Ok(());",
    "drop(asked);",
)
mutant(
    "tail-call-waits-for-a-return",
    "releases.rs",
    "a question whose results stay with the peer waits for another Return after its Finish",
    "if <<<matches!(asked.results_to, question::ResultsTo::SentElsewhere | question::ResultsTo::Unwanted)>>> =>",
    "asked.results_to == question::ResultsTo::Unwanted",
)
mutant(
    "tail-call-keeps-interest",
    "incoming/returns.rs",
    "a late takeFromOtherQuestion does not cancel the call that came back",
    "&& let Ok(interest) = self.take_answer(AnswerId(other)) { <<<self.effect(Effect::drop(interest));>>> }",
    "std::mem::forget(interest);",
)
mutant(
    "tail-call-still-counts",
    "outgoing.rs",
    "a call that was passed on by a tail call counts for the flow limit until it is finished",
    "<<<entry.cell().no_longer_counts();>>>",
)
mutant(
    "return-before-its-call",
    "outgoing.rs",
    "the Return of a tail call names a question that was not asked",
    "outcome: wire::ReturnKind::TakeFromOtherQuestion(<<<question.0>>>),",
    "question.0.wrapping_add(1)",
)

# ---- The flow limit: held calls and references

mutant(
    "call-overtakes-held-calls",
    "held.rs",
    "a call overtakes those that are held back",
    "if <<<self.order.held.is_open()>>> && free && !self.machine.may_pause",
    "true",
)
mutant(
    "reference-overtakes-held-calls",
    "named.rs",
    "calls through a reference that came back overtake those that are held back",
    "if <<<self.order.held.is_open()>>> || now.is_null_or_broken()",
    "true",
)
mutant(
    "embargo-lifted-before-held-calls",
    "named.rs",
    "an embargo ends before the calls that are held back in front of its Disembargo",
    "pub(super) fn lift(&mut self, promise: Arc<LocalPromise>, place: Hosted) { if <<<self.order.held.is_open()>>>",
    "true",
)
mutant(
    "results-taken-before-held-calls",
    "held.rs",
    "an outcome is taken before the calls that are held back in front of it",
    "if <<<self.order.held.is_open()>>> { return self.effect(Effect::TakeFrom",
    "true",
)
mutant(
    "accept-before-held-calls",
    "handoff/hosting.rs",
    "the embargo of an Accept ends before the calls that are held back",
    "if <<<self.order.held.is_open()>>> { let machine",
    "true",
)
mutant(
    "provided-past-held-calls",
    "handoff/hosting.rs",
    "what is provided is reached before the calls that are held back",
    "let cap = <<<self.reference_at_once(Named::Ours(place))>>>;",
    "{ let mut place = place; self.settled_now(&mut place).shortened() }",
)
mutant(
    "disembargo-held-for-ever",
    "incoming/resolve.rs",
    "a Disembargo is held back by the limit while this side waits for one",
    "// It may wait for what this Disembargo ends: Note [flow limit].\n <<<self.deliver_all_held();>>>",
)
mutant(
    "demand-not-met",
    "named.rs",
    "a method that waits for a reference waits for the limit too",
    "if let Some(machine) = machine.upgrade() { <<<machine.deliver_held(place);>>> }",
    "let _ = (machine, place);",
)
mutant(
    "forced-calls-still-held",
    "held.rs",
    "what has to be delivered whatever the limit is stays held back",
    "is_some_and(|(place, item)| { <<<*place <= held.forced>>> || !item.is_call()",
    "{ let _ = place; false }",
)
mutant(
    "no-room-at-the-limit",
    "held.rs",
    "a call waits though the limit is only reached, and with a limit of nothing for ever",
    "<<<self.words() <= self.limit.load(Ordering::SeqCst)>>>",
    "self.words() < self.limit.load(Ordering::SeqCst)",
)
mutant(
    "calls-not-counted",
    "held.rs",
    "calls that are delivered at once do not count for the limit",
    "<<<self.count(&delivery, words);>>> let in_hand",
)
mutant(
    "end-releases-nothing",
    "held.rs",
    "the end of a call does not deliver those that are held back",
    "<<<effects::defer(Effect::ReleaseHeld(Arc::clone(self) as _));>>> } } /// Delivers what",
)
mutant(
    "withdrawn-call-releases-nothing",
    "held.rs",
    "a held call that is cancelled leaves what is behind it waiting",
    "// The call may have been all that waited in front of a Disembargo.\n <<<self.release_held();>>>",
)
mutant(
    "held-without-bound",
    "held.rs",
    "the peer may have any number of calls held back",
    "if <<<bytes > limit && !passes>>> {",
    "{ let _ = (bytes, limit, passes); false }",
)
mutant(
    "held-lead-lost",
    "held.rs",
    "a held reference to an object of this side leads nowhere after the connection ends",
    "Some(Item::Lead(promise, place)) => <<<self.lead(promise, place)>>>,",
    "{ drop(place); std::mem::forget(promise); }",
)

# ---- The end of a connection

mutant(
    "end-forgets-questions",
    "ending.rs",
    "calls do not fail when the connection ends",
    "<<<self.settle_with(asked, Err(error.clone().unanswered()));>>>",
    "std::mem::forget(asked);",
)
mutant(
    "end-forgets-promises",
    "ending.rs",
    "promises of the peer stay unresolved when the connection ends",
    "<<<self.resolve_node(node.upgrade(), Client::broken(error.clone()));>>>",
    "let _ = node;",
)
mutant(
    "end-forgets-embargoes",
    "ending.rs",
    "embargoes do not end when the connection ends",
    "<<<self.effect(Effect::Resolve(embargo.promise, broken));>>>",
    "drop(broken); std::mem::forget(embargo.promise);",
)
mutant(
    "end-cancels-nothing",
    "ending.rs",
    "calls of the peer are not cancelled when the connection ends",
    "<<<self.effect(Effect::Cancel(Arc::clone(answer.cell())));>>>",
)
mutant(
    "end-forgets-held-calls",
    "ending.rs",
    "calls that are held back stay when the connection ends",
    "<<<self.drop_held(&error);>>>",
)
mutant(
    "end-forgets-watchers",
    "descriptors/exporting.rs",
    "an export that is gone still waits for its promise",
    "<<<slot.target().unwatch(&WatchKey::Export(&watcher));>>>",
    "let _ = (slot, watcher);",
)
mutant(
    "messages-after-the-end",
    "incoming/mod.rs",
    "messages that arrive after the end are carried out",
    "txn.arrived = arrived; if <<<txn.dead().is_some()>>> { return; }",
    "false",
)

# ---- Handoffs: vines, Provide, Accept

mutant(
    "accept-without-embargo",
    "incoming/resolve.rs",
    "calls to the host overtake those that take the detour",
    "let earlier = if <<<called>>> { Earlier::Calls }",
    "false",
)
mutant(
    "accept-ignores-embargo",
    "handoff/hosting.rs",
    "the host gives a capability away though the detour is in use",
    "come(shown, <<<embargo>>>, &cell, place)",
    "{ drop(embargo); None }",
)
mutant(
    "no-way-back-to-the-vine",
    "handoff/accepting.rs",
    "a capability whose host is not reached leads nowhere",
    "(None, _) => promise.resolve(<<<vine>>>),",
    "{ drop(vine); Client::null() }",
)
mutant(
    "refused-accept-without-vine",
    "incoming/returns.rs",
    "a capability that the host does not give away leads nowhere",
    "Some(vine) if <<<path.is_empty() && !field.called>>> => vine.clone(),",
    "{ let _ = vine; false }",
)
mutant(
    "way-lost-at-the-finish",
    "incoming/calls.rs",
    "what is provided leads past what the finished results were described as",
    "<<<self.keep_ways(entry.cell());>>>",
)
mutant(
    "vine-not-taken-back",
    "handoff/provide.rs",
    "what is provided stays with the host when the vine is gone",
    "<<<Arc::clone(&self.at).not_needed(*id, place);>>>",
    "let _ = (id, place);",
)
mutant(
    "provide-not-finished",
    "handoff/introducing.rs",
    "the host is not told that a vine is gone",
    "<<<self.follow(Follower::Finish(id, place));>>>",
)
mutant(
    "provision-not-taken-back",
    "handoff/hosting.rs",
    "what was provided stays in the table after its Finish",
    "<<<self.take_back(provided);>>> true",
    "drop(provided);",
)
mutant(
    "guests-not-told",
    "handoff/meetings.rs",
    "whoever waits for what was taken back is not told",
    "let settled = <<<self.take(guests.into_iter(), || Err(why.error()))>>>;",
    "{ let _ = (&guests, &why); Settled::nothing() }",
)
mutant(
    "introducer-lost-not-told",
    "handoff/hosting.rs",
    "whoever waits for what an introducer will not provide any more is not told",
    "<<<neighbour.meetings().lost(machine.room()).tell();>>>",
    "let _ = (&neighbour, &machine);",
)
mutant(
    "offer-ignores-embargoes",
    "handoff/meetings.rs",
    "who waits for an embargo gets what is provided at once",
    "filter(|(_, guests)| <<<guests.embargo.is_none()>>>);",
    "{ let _ = guests; true }",
)
mutant(
    "lifted-embargo-forgotten",
    "handoff/meetings.rs",
    "an embargo that is lifted before it is named holds for ever",
    "if <<<is_kept>>> { lifted.insert(embargo, (cap, charge))",
    "{ let _ = is_kept; false }",
)
mutant(
    "early-lift-lost",
    "handoff/introducing.rs",
    "an embargo that is lifted before the Provide is sent holds for ever",
    "for embargo in embargoes { <<<txn.follow(Follower::Lift(id, embargo));>>> }",
    "let _ = (id, embargo);",
)
mutant(
    "handed-off-with-a-descriptor",
    "handoff/introducing.rs",
    "a capability with a file descriptor is handed off",
    "if import.is_settled() => <<<import.has_fd()>>>",
    "false",
)
mutant(
    "promise-handed-off-where-descriptors-pass",
    "handoff/introducing.rs",
    "a promise is handed off though this side could pass its file descriptor on",
    "_ => <<<self.host().settings.fds > 0>>>",
    "false",
)
mutant(
    "provided-promise-may-move",
    "handoff/introducing.rs",
    "the vine of a promise takes a shorter path later",
    "let path = <<<promise.machine().pinned_if_open(&promise, &dest)?>>>;",
    "client.clone()",
)
mutant(
    "provided-field-of-another-question",
    "handoff/introducing.rs",
    "a field is provided though its question is gone, and another one may have its id",
    "let target = match <<<self.nameable(dest)>>> {",
    "Ok::<(), Error>(())",
)
mutant(
    "lift-lost-where-calls-end",
    "../cap/delivery.rs",
    "the end of an embargo stays where the calls before it end",
    "Delivery::Lift(lift) => <<<drop(lift)>>>,",
    "std::mem::forget(lift)",
)
mutant(
    "handed-off-to-a-refuser",
    "handoff/introducing.rs",
    "a capability is handed off though its host knows no handoffs",
    "&& !<<<machine.refused_handoffs.load(Ordering::SeqCst)>>>",
    "false",
)

# ---- Idleness, draining, budget

mutant(
    "idle-with-tables",
    "idle.rs",
    "a side declares itself idle though it has something in its tables",
    "matches!(txn.order.phase, Phase::Live) && <<<self.snapshot().is_empty()>>>;",
    "true",
)
mutant(
    "ended-with-tables",
    "idle.rs",
    "a connection ends as unused though something is under way",
    "if txn.dead().is_none() && <<<self.snapshot().is_empty()>>> {",
    "true",
)
mutant(
    "never-awake",
    "idle.rs",
    "a message of the peer does not end the idleness",
    "self.order.phase = Phase::Live; <<<self.end_idle();>>>",
    "self.order.phase = Phase::Idle;",
)
mutant(
    "drained-takes-calls",
    "draining.rs",
    "a vat that is about to end takes new calls",
    "NewCalls::Refused => <<<Some(Error::draining())>>>,",
    "None",
)
mutant(
    "answered-calls-are-owed",
    "answer.rs",
    "a vat that is about to end waits for calls that it has answered",
    "<<<running.take_one();>>>",
    "let _ = running;",
)
mutant(
    "drained-takes-guests",
    "handoff/hosting.rs",
    "a vat that is about to end lets others come for what it has",
    "if let Some(refusal) = <<<self.refusal()>>> {",
    "None::<Error>",
)
mutant(
    "entries-cost-nothing",
    "descriptors/importing.rs",
    "imports cost the peer nothing",
    "let charge = self.charge(Kind::Entry, <<<costs::IMPORT>>>)?;",
    "0",
)
mutant(
    "results-cost-nothing",
    "outgoing.rs",
    "results that stay here cost the peer nothing",
    "self.machine.budget.charge(Kind::Results, <<<bytes>>>)",
    "{ let _ = bytes; 0 }",
)
mutant(
    "parameters-cost-nothing",
    "incoming/calls.rs",
    "parameters cost the peer nothing",
    "let bytes = <<<costs::params(&content)>>>;",
    "0",
)
mutant(
    "answer-costs-until-dropped",
    "answer.rs",
    "an answer that has left the table goes on to cost the peer something",
    "<<<budget.give_back(Kind::Entry, std::mem::take(&mut self.cost));>>>",
    "let _ = budget;",
)
mutant(
    "backlog-without-bound",
    "mod.rs",
    "a peer that does not read is not ended",
    "if <<<queued > limit>>> && self.dead().is_none()",
    "{ let _ = (queued, limit); false }",
)

# ---- What only threads can bring about

mutant(
    "last-look-left-out",
    "mod.rs",
    "a report of a drop that came during a step is not looked at after it",
    "effects::defer_all(effects); <<<self.flush_releases();>>> result",
)
mutant(
    "drop-under-another-lock-lost",
    "releases.rs",
    "a drop in the middle of another connection's step is not worked off",
    "Some(_) => <<<effects::defer(Effect::FlushReleases(Arc::clone(self) as _))>>>,",
    "()",
)

mutant(
    "unparked-between-look-and-sleep",
    "../sync/parker.rs",
    "a thread is unparked while it goes to sleep, and sleeps on",
    "PARKED => { <<<drop(lock.lock());>>> called.notify_one(); }",
)
mutant(
    "unparked-before-sleep",
    "../sync/parker.rs",
    "a thread that was unparked before it sleeps sleeps all the same",
    "if begun.is_err() { state.store(RUNNING, Ordering::SeqCst); } <<<begun.is_ok()>>>",
    "{ state.store(sleep, Ordering::SeqCst); true }",
)
mutant(
    "unparked-while-something-is-read",
    "../sync/parker.rs",
    "a thread that polls does not learn that it was unparked",
    "if <<<self.0.state.swap(RUNNING, Ordering::SeqCst) == UNPARKED>>> { return Polled::Unparked;",
    "{ self.0.state.store(RUNNING, Ordering::SeqCst); false }",
)
mutant(
    "bell-not-rung",
    "../sync/parker.rs",
    "a thread that polls is not woken when it is unparked",
    "POLLING => <<<bell.ring()>>>,",
    "()",
)
mutant(
    "left-turn-not-seen-to",
    "../runtime/reading/turn.rs",
    "nobody makes a turn free that was left and that nobody claims",
    "self.spinning.left_in_vain(); <<<self.see_to_left_turn();>>> false",
    "",
)
mutant(
    "turn-left-while-writing",
    "../runtime/reading/turn.rs",
    "the send thread writes, and may wait there, while nobody stands by",
    "fn see_to_it(&self) { <<<self.see_to_left_turn();>>> self.asides",
    "",
)
mutant(
    "rest-for-anybody",
    "../runtime/reading/turn.rs",
    "anybody gets the turn with which something was read that is not worked off",
    "Next::Rest if !here => <<<HANDED>>>,",
    "FREE",
)
mutant(
    "rest-for-nobody",
    "../runtime/reading/turn.rs",
    "nobody is called for what was read and is not worked off",
    "if state == HANDED { <<<self.reading.call_resident();>>> }",
    "",
)
mutant(
    "rest-without-end",
    "../runtime/reading.rs",
    "a guest works off whatever has been taken in, as long as there is something",
    "if <<<rest == 0>>> { return Next::Rest; }",
    "false",
)
mutant(
    "guest-waits-for-room",
    "../runtime/reading.rs",
    "a guest waits for room at the coordinator",
    "if <<<whose == Whose::Resident>>> || self.standing.descriptor().is_none() { self.receiving.pass_on",
    "true",
)
mutant(
    "stuck-and-lost",
    "../runtime/reading.rs",
    "what found no room at the coordinator is lost",
    "<<<source.stuck = Some(Box::new(event));>>>",
    "drop(event);",
)
mutant(
    "encoded-anywhere",
    "../runtime/exceptions.rs",
    "a trace encoder runs on a thread that waits",
    "Some(_) if <<<place == Place::Anywhere>>> => return None,",
    "false",
)
mutant(
    "held-back-in-a-destructor",
    "../work/left.rs",
    "what a thread holds back to be sent waits for the application's code",
    "<<<held.leave();>>>",
    "drop(held);",
)
mutant(
    "held-back-by-a-destructor",
    "../work/left.rs",
    "what code of the application sends waits for its end",
    "let holds = <<<HOLDS.try_with(Cell::take)>>>.unwrap_or(0);",
    "HOLDS.try_with(Cell::get)",
)
mutant(
    "taken-in-before-and-forgotten",
    "../runtime/reading.rs",
    "anybody gets the turn first of a transport that has taken something in",
    "StandsBy::OwnThread if <<<is_ahead>>> => Owner::resident(),",
    "false",
)
mutant(
    "set-aside-for-ever",
    "../runtime/reading/aside.rs",
    "a job that a worker has set aside waits until the destructor has ended, however long that takes",
    "late.into_iter().for_each(|(place, time)| <<<place.take_over(time)>>>);",
    "drop((place, time))",
)
mutant(
    "left-and-not-idle",
    "../cap/mailbox.rs",
    "a worker that finds no call leaves, and the object counts it as running",
    "take_first() else { <<<own.worker = Worker::Idle;>>> own.current = 0;",
)
mutant(
    "two-workers",
    "../cap/mailbox.rs",
    "a worker begins while another one runs the object's calls",
    "if <<<own.worker != Worker::Called>>> { return None; }",
    "false",
)
mutant(
    "nothing-passed-on",
    "../cap/object.rs",
    "a caller that has run its own call leaves what came meanwhile",
    "<<<origins.into_iter().for_each(|origin| Arc::clone(&self).call_worker(origin));>>> true",
    "drop(origins);",
)
mutant(
    "cancelled-on-the-way-in",
    "../cap/object.rs",
    "a call that is cancelled while it goes into the mailbox stays there",
    "if <<<call.cell.was_cancelled()>>> { // The thread that",
    "false",
)
mutant(
    "places-given-to-nobody",
    "../work/room.rs",
    "whoever frees a place does not look for those that came to wait meanwhile",
    "while state.closed.is_none() && <<<!state.waiters.is_empty()>>> && self.count_one()",
    "false",
)

# ---- What changes nothing that could be seen

equivalent(
    "pinned-passing-on-leaves-no-mark",
    "descriptors/exporting.rs",
    "a described place that is passed on leaves no mark",
    "The place was marked when it was described, and the mark has moved on with it.",
    "return self.describe_broken(error); } <<<self.mark_called(&dest);>>>",
)
equivalent(
    "unpinned-leaves-no-mark",
    "named.rs",
    "the end of an embargo that leads to the peer's promise leaves no mark",
    "The place was marked when it was described, and the mark has moved on with it.",
    "Err(dest) => { <<<self.mark_called(&dest);>>> Client::of(promise) }",
    "let _ = dest;",
)
equivalent(
    "gone-results-still-named",
    "outgoing.rs",
    "a message names a field of a question whose id may be another's",
    "The places of a question are given up, and its promises resolved, before the question is forgotten. This is a second guard.",
    "if <<<known != Some(true)>>> { return Err(Error::failed(\"the results that",
    "{ let _ = known; false }",
)
equivalent(
    "tail-call-of-a-finished-call",
    "outgoing.rs",
    "a call that was finished, or answered, is still answered by a tail call",
    "A call whose answer is not owed any more cannot become a question: that is looked at again where it does, and it ends there.",
    "entry.serial == serial && <<<matches!(entry.state, answer::State::Running)>>> });",
    "true",
)
equivalent(
    "own-call-while-another-runs",
    "../cap/mailbox.rs",
    "a caller looks for its call while a worker runs the object's calls",
    "It begins only what a job would begin with, and there the mailbox is asked whether a worker "
    "runs calls. This is a second guard.",
    "Mailbox::OneByOne(own) if <<<own.worker == Worker::Called>>> => own.calls.first(),",
    "true",
)
