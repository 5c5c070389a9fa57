//! Runs the checker.

use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::{model::Action, scenario::Scenario};

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Different states.
    pub states: usize,
    /// States, each counted as often as it was come to.
    pub generated: usize,
    /// The longest way that was looked at, in actions.
    pub depth: usize,
    /// How long that took.
    pub time: Duration,
    /// Nothing was left out: the scenario has no further states.
    pub exhausted: bool,
    /// Properties that do not hold, each with a way to a state in which it does not.
    pub counterexamples: Vec<(&'static str, Vec<Action>)>,
    /// What should be seen to happen, and was not.
    pub unseen: Vec<&'static str>,
}

/// Explores a scenario breadth first, to its depth or, with `depth`, to that one; the first counterexample ends the run.
#[must_use]
pub fn explore(scenario: &Scenario, threads: usize) -> Outcome {
    let start = Instant::now();
    let mut builder = scenario
        .clone()
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures);
    if let Some(depth) = scenario.depth {
        // The checker counts the states on a way, and does not look at the last.
        builder = builder.target_max_depth(depth + 2);
    }
    let checker = builder.spawn_bfs().join();
    let (mut counterexamples, mut seen) = (Vec::new(), Vec::new());
    let properties = checker.model().properties();
    for (name, path) in checker.discoveries() {
        let always = |property: &&stateright::Property<Scenario>| {
            property.name == name && property.expectation == Expectation::Always
        };
        if properties.iter().any(|property| always(&property)) {
            counterexamples.push((name, path.into_actions()));
        } else {
            seen.push(name);
        }
    }
    let unseen = properties
        .iter()
        .filter(|property| property.expectation == Expectation::Sometimes && !seen.contains(&property.name))
        .map(|property| property.name)
        .collect();
    let depth = checker.max_depth().saturating_sub(1);
    let depth = scenario.depth.map_or(depth, |bound| depth.min(bound));
    Outcome {
        states: checker.unique_state_count(),
        generated: checker.state_count(),
        depth,
        time: start.elapsed(),
        exhausted: counterexamples.is_empty() && scenario.depth.is_none_or(|bound| depth < bound),
        counterexamples,
        unseen,
    }
}
