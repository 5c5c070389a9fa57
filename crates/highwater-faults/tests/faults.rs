//! A short run with fixed seeds, one round of each family of schedules, some processes with a near cache, and the same with
//! the guarantee switched off. The server is the one that `HIGHWATER_SERVER` names.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

/// One run at a time: while a server of one is down, or a relay refuses, another might be given its port.
static ALONE: Mutex<()> = Mutex::new(());

fn run(arguments: &[&str]) -> (Output, serde_json::Value) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = std::env::var("HIGHWATER_SERVER").unwrap_or_default();
    let server = if server.is_empty() { "redis" } else { &server };
    let output = Command::new(env!("CARGO_BIN_EXE_highwater-faults"))
        .args(["--server", server, "--json"])
        .args(arguments)
        .output()
        .expect("the program was built with this test");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (output, report)
}

#[test]
fn no_schedule_breaks_a_promise() {
    let (output, report) = run(&["--seed", "0", "--rounds", "6", "--round-ms", "1500"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{report:#}");
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .unwrap()
    };
    assert_eq!(number("/all/rounds"), 6);
    assert_eq!(number("/all/violations"), 0);
    assert_eq!(
        number("/calm/losses_reported") + number("/calm/unknown_reported"),
        0
    );
    // What makes the above worth something.
    assert!(number("/all/at_risk/replica") > 0, "{report:#}");
    assert!(number("/all/at_risk/cache") > 0, "{report:#}");
    assert!(number("/all/tokens_taken_over") > 0, "{report:#}");
}

#[test]
fn what_failovers_lose_is_told() {
    let (output, report) = run(&[
        "--topology",
        "sentinel",
        "--seed",
        "0",
        "--rounds",
        "2",
        "--round-ms",
        "3500",
    ]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{report:#}");
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .unwrap()
    };
    assert_eq!(number("/all/violations"), 0);
    assert!(number("/losses/failovers") > 0, "{report:#}");
    assert!(number("/losses/sessions") > 0, "{report:#}");
    assert!(number("/all/at_risk/replica") > 0, "{report:#}");
}

/// A round with something taken out of the clients: it is found, and said how to repeat it. How many reads of the cache
/// were found too old.
fn broken(arguments: &[&str]) -> u64 {
    let round = ["--seed", "0", "--rounds", "1", "--round-ms", "1000"];
    let (output, report) = run(&[&round, arguments].concat());
    assert!(!output.status.success(), "{report:#}");
    let count = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_u64);
    let stale = count("/violations/read-your-writes");
    assert!(stale.is_some_and(|stale| stale > 0), "{report:#}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("--seed 0 --rounds 1"), "how to repeat it: {told}");
    count("/violations_by_route/cache").unwrap_or(0)
}

#[test]
fn without_proofs_promises_are_broken() {
    assert_eq!(broken(&["--without-proof-checks", "--cache", "off"]), 0);
}

#[test]
fn without_proofs_the_cache_breaks_promises() {
    assert!(broken(&["--without-proof-checks", "--cache", "on"]) > 0);
}

#[test]
fn with_late_invalidations_the_cache_breaks_promises() {
    assert!(broken(&["--late-invalidations", "--cache", "on"]) > 0);
}
