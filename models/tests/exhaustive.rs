//! The models, explored exhaustively.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;

use rpc_models::handoff::{self, Handoff};
use rpc_models::promised::{self, Promised};
use rpc_models::resolution::{self, Resolution};
use rpc_models::{Protocol, paths};
use stateright::{Checker, Model, Property};

/// A model of this crate as stateright explores it.
#[derive(Clone, Copy)]
struct Explored<P>(P);

impl<P> Model for Explored<P>
where
    P: Protocol + Copy + Send + Sync + 'static,
    P::State: Send + Sync + 'static,
    P::Action: Send + Sync + 'static,
{
    type State = P::State;
    type Action = P::Action;

    fn init_states(&self) -> Vec<P::State> {
        vec![self.0.start()]
    }

    fn actions(&self, state: &P::State, actions: &mut Vec<P::Action>) {
        actions.extend(self.0.actions(state));
    }

    fn next_state(&self, state: &P::State, action: P::Action) -> Option<P::State> {
        Some(self.0.next(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("order, and everything arrives", |model, state| {
            model.0.wrong(state).is_none()
        })]
    }
}

/// Explores all states, and returns how many there are, or how the first wrong one came
/// about.
fn explore<P>(protocol: P) -> Result<usize, String>
where
    P: Protocol + Copy + Send + Sync + 'static,
    P::State: Send + Sync + 'static,
    P::Action: Send + Sync + 'static,
{
    let checker = Explored(protocol).checker().spawn_bfs().join();
    match checker.discoveries().into_values().next() {
        None => Ok(checker.unique_state_count()),
        Some(path) => {
            let last = path.last_state().clone();
            let wrong = protocol.wrong(&last).unwrap_or_default();
            Err(format!("{wrong}: {:?} leads to {last:?}", path.into_actions()))
        }
    }
}

const RESOLUTION: Resolution = Resolution { calls: [2, 2], fault: resolution::Fault::None };
const HANDOFF: Handoff = Handoff { calls: [0, 0, 2, 2], fault: handoff::Fault::None };
const PROMISED: Promised = Promised { calls: 4, fault: promised::Fault::None };

#[test]
fn promises_of_two_vats_resolve_and_calls_keep_their_order() {
    let states = explore(RESOLUTION).unwrap();
    println!("{states} states");
    assert!(states > 10_000, "{states} states");
}

#[test]
fn what_is_handed_off_twice_is_called_in_order() {
    let states = explore(HANDOFF).unwrap();
    println!("{states} states");
    assert!(states > 2_000, "{states} states");
}

#[test]
fn a_promise_that_is_handed_off_is_called_in_order_whatever_it_becomes() {
    let states = explore(PROMISED).unwrap();
    println!("{states} states");
    assert!(states > 2_000, "{states} states");
}

/// The protocol without one of its rules goes wrong, so that it is known that the models can
/// tell.
#[test]
fn every_fault_of_the_protocol_is_found() {
    use resolution::Fault::{EchoOvertakes, NoEmbargo, ShorterPath};
    for fault in [NoEmbargo, EchoOvertakes, ShorterPath] {
        let found = explore(Resolution { fault, ..RESOLUTION });
        println!("{fault:?}: {}", found.expect_err("nothing was noticed"));
    }
    use handoff::Fault::{NoDisembargo, NoEmbargo as NoAcceptEmbargo, NoWait};
    for fault in [NoAcceptEmbargo, NoDisembargo, NoWait] {
        let found = explore(Handoff { fault, ..HANDOFF });
        println!("{fault:?}: {}", found.expect_err("nothing was noticed"));
    }
    use promised::Fault::{NoDisembargo as Lost, NoEmbargo as NoneNamed, ShorterPath as Short};
    for fault in [NoneNamed, Lost, Short] {
        let found = explore(Promised { fault, ..PROMISED });
        println!("{fault:?}: {}", found.expect_err("nothing was noticed"));
    }
}

/// The paths that are replayed on the machine take every transition, and the race of four
/// ways is among them.
#[test]
fn paths_take_every_transition() {
    let model = Resolution { calls: [2, 1], ..RESOLUTION };
    let mut taken = HashSet::new();
    let mut states = HashSet::new();
    let (mut races, paths) = (0, paths(&model));
    for path in &paths {
        let mut state = model.start();
        for action in path {
            taken.insert((state.clone(), *action));
            state = model.next(&state, *action);
            races += usize::from(state.is_four_way_race());
            states.insert(state.clone());
        }
        assert!(model.actions(&state).is_empty(), "{path:?} is not the whole way");
    }
    states.insert(model.start());
    assert_eq!(states.len(), explore(model).unwrap());
    let transitions = states.iter().map(|state| model.actions(state).len()).sum::<usize>();
    assert_eq!(taken.len(), transitions);
    println!("{} states, {transitions} transitions, {} paths", states.len(), paths.len());
    assert!(races > 0);
}
