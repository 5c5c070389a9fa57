//! Every input in the corpora of the fuzz targets, on a stable compiler.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{fs, panic::catch_unwind, path::Path};

use highwater_fuzzing::{carrier, command, info, reply, token};

/// Hands each file of a target's corpus to its function, and names the ones that it fails on.
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut names: Vec<_> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("the corpus of {target} is missing: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(
        names.len() > 5,
        "the corpus of {target} has next to nothing in it"
    );
    let failed: Vec<_> = names
        .into_iter()
        .filter(|name| {
            let input = fs::read(name).unwrap();
            catch_unwind(|| check(&input)).is_err()
        })
        .filter_map(|name| Some(name.file_name()?.to_owned()))
        .collect();
    assert!(failed.is_empty(), "in fuzz/corpus/{target}: {failed:?}");
}

#[test]
fn carriers() {
    replay("carrier", carrier::check);
}

#[test]
fn commands() {
    replay("command", command::check);
}

#[test]
fn infos() {
    replay("info", info::check);
}

#[test]
fn replies() {
    replay("reply", reply::check);
}

#[test]
fn tokens() {
    replay("token", token::check);
}
