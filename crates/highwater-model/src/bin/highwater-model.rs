//! Explores all scenarios, or those named, with the rules as they are; then shows how each broken rule is refuted.
//!
//! `highwater-model [--deep] [--threads N] [--only NAME]… [--variant NAME]`

use std::process::ExitCode;

use highwater_model::{Outcome, Scenario, Variant, all, explore, refutations};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut deep, mut threads, mut only, mut variant) = (false, 2, Vec::new(), None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--deep" => deep = true,
            "--threads" => threads = value().parse().unwrap_or(threads),
            "--only" => only.push(value()),
            "--variant" => variant = Some(value()),
            other => {
                eprintln!(
                    "error: what is `{other}`? [--deep] [--threads N] [--only SCENARIO] [--variant NAME]"
                );
                return ExitCode::from(2);
            }
        }
    }
    let wanted = |scenario: &Scenario| only.is_empty() || only.iter().any(|name| name == scenario.name);
    let mut sound = true;
    if let Some(name) = variant {
        let Some(variant) = Variant::BROKEN
            .into_iter()
            .find(|variant| format!("{variant:?}") == name)
        else {
            eprintln!("error: there is no variant `{name}`");
            return ExitCode::from(2);
        };
        for scenario in all(deep).iter().filter(|scenario| wanted(scenario)) {
            show(scenario.name, &explore(&scenario.with(variant), threads));
        }
        return ExitCode::SUCCESS;
    }
    println!("The rules as they are:");
    for scenario in all(deep).iter().filter(|scenario| wanted(scenario)) {
        let outcome = explore(scenario, threads);
        show(scenario.name, &outcome);
        sound &= outcome.counterexamples.is_empty() && outcome.unseen.is_empty();
    }
    println!("\nBroken rules, each to be refuted:");
    for (variant, scenario) in refutations().into_iter().filter(|(_, scenario)| wanted(scenario)) {
        let outcome = explore(&scenario.with(variant), threads);
        show(&format!("{variant:?} ({})", scenario.name), &outcome);
        sound &= !outcome.counterexamples.is_empty();
    }
    println!(
        "\n{}",
        if sound {
            "holds, and all are refuted"
        } else {
            "FAILED"
        }
    );
    if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show(name: &str, outcome: &Outcome) {
    println!(
        "  {name}: {} states ({} generated), depth {}{}, {:.1} s",
        outcome.states,
        outcome.generated,
        outcome.depth,
        if outcome.exhausted { ", exhausted" } else { "" },
        outcome.time.as_secs_f64(),
    );
    for (property, actions) in &outcome.counterexamples {
        println!("    not so: {property}");
        for action in actions {
            println!("      {action:?}");
        }
    }
    for property in &outcome.unseen {
        println!("    never seen: {property}");
    }
}
