//! The rules hold to the bound of CI, and each broken one is refuted. `cargo xtask model` shows more.

use highwater_model::{Scenario, Variant, all, explore, refutations};

fn holds(scenario: &Scenario) {
    let outcome = explore(scenario, 1);
    assert!(
        outcome.counterexamples.is_empty(),
        "{}: {:#?}",
        scenario.name,
        outcome.counterexamples
    );
    assert!(
        outcome.unseen.is_empty(),
        "{}: never seen: {:?}",
        scenario.name,
        outcome.unseen
    );
    // A model in which nothing can happen holds as well.
    assert!(
        outcome.states > 1_000,
        "{}: {} states",
        scenario.name,
        outcome.states
    );
}

/// Two halves, for two cores.
fn half(of: usize) -> impl Iterator<Item = Scenario> {
    all(false).into_iter().skip(of).step_by(2)
}

#[test]
fn the_rules_hold() {
    half(0).for_each(|scenario| holds(&scenario));
}

#[test]
fn the_rules_hold_in_the_other_scenarios() {
    half(1).for_each(|scenario| holds(&scenario));
}

#[test]
fn each_broken_rule_is_refuted() {
    let refutations = refutations();
    assert_eq!(refutations.len(), Variant::BROKEN.len());
    for (variant, scenario) in refutations {
        let outcome = explore(&scenario.with(variant), 1);
        assert!(
            !outcome.counterexamples.is_empty(),
            "{variant:?} is not refuted by {}",
            scenario.name
        );
    }
}
