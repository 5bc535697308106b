//! Ways through all states of a model.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::Protocol;

/// Ways from the start to states where nothing can happen any more, which together take
/// every transition that there is at least once.
pub fn paths<P: Protocol>(model: &P) -> Vec<Vec<P::Action>> {
    let mut paths = Vec::new();
    let mut taken = HashSet::new();
    // How each state was reached first, and those whose transitions were not all looked at.
    let mut reached = HashMap::new();
    let mut waiting = VecDeque::new();
    reached.insert(model.start(), Vec::new());
    waiting.push_back(model.start());
    while let Some(state) = waiting.pop_front() {
        while let Some(action) = fresh(model, &state, &taken) {
            let mut path: Vec<P::Action> = reached.get(&state).cloned().unwrap_or_default();
            let (mut here, mut action) = (state.clone(), Some(action));
            while let Some(next) = action {
                taken.insert((here.clone(), next));
                path.push(next);
                here = model.next(&here, next);
                if !reached.contains_key(&here) {
                    reached.insert(here.clone(), path.clone());
                    waiting.push_back(here.clone());
                }
                // What was not taken yet is taken first.
                action =
                    fresh(model, &here, &taken).or_else(|| model.actions(&here).into_iter().next());
            }
            paths.push(path);
        }
    }
    paths
}

fn fresh<P: Protocol>(
    model: &P,
    state: &P::State,
    taken: &HashSet<(P::State, P::Action)>,
) -> Option<P::Action> {
    model.actions(state).into_iter().find(|action| !taken.contains(&(state.clone(), *action)))
}
