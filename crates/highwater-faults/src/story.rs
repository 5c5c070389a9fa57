//! What led to a violation, for people who look for its cause.

use std::fmt::Write;

use crate::{
    clock::Nanos,
    conductor::Performance,
    operation::{Kind, Operation},
    verdict::Violation,
};

/// So many operations before it are told.
const BEFORE: usize = 14;

/// Tells of the operations on the key and of the session's tokens and losses, with the faults that were under way.
pub(crate) fn tell(violation: &Violation, operations: &[Operation], performance: &Performance) -> String {
    let broken = &violation.operation;
    let zero = operations
        .iter()
        .map(|operation| operation.start)
        .min()
        .unwrap_or(0);
    let mut story = format!(
        "{:?}, at least version {} was required of\n",
        violation.broken, violation.required
    );
    line(&mut story, broken, zero);
    story.push_str("  before that:\n");
    let key = key(broken);
    let mut before: Vec<&Operation> = operations
        .iter()
        .filter(|operation| operation.start <= broken.end && *operation != broken)
        .filter(|operation| {
            let own = operation.session == broken.session;
            match operation.kind {
                Kind::Write { key: written, .. } => Some(written) == key,
                Kind::Read { key: read, .. } => Some(read) == key && own,
                Kind::Failed { .. } | Kind::Hand { .. } => false,
                Kind::Adopt { .. } => own,
            }
        })
        .collect();
    before.sort_by_key(|operation| operation.end);
    for operation in before.iter().skip(before.len().saturating_sub(BEFORE)) {
        line(&mut story, operation, zero);
    }
    story.push_str("  faults of the last two seconds:\n");
    for played in &performance.played {
        if played.begin < broken.end && played.end.saturating_add(2_000_000_000) > broken.start {
            let _ = writeln!(
                story,
                "    {} to {}: {}",
                milliseconds(played.begin, zero),
                milliseconds(played.end, zero),
                played.fault
            );
        }
    }
    story
}

fn key(operation: &Operation) -> Option<u64> {
    match operation.kind {
        Kind::Write { key, .. } | Kind::Read { key, .. } => Some(key),
        _ => None,
    }
}

fn line(story: &mut String, operation: &Operation, zero: Nanos) {
    let Operation {
        session,
        start,
        end,
        kind,
    } = operation;
    // Writing to a string can't fail.
    let _ = writeln!(
        story,
        "    {} to {}: session {session:x} {kind:?}",
        milliseconds(*start, zero),
        milliseconds(*end, zero)
    );
}

#[expect(clippy::cast_precision_loss, reason = "to print")]
fn milliseconds(at: Nanos, zero: Nanos) -> String {
    if at == Nanos::MAX {
        return "its end".to_owned();
    }
    format!("{:.3}", at.saturating_sub(zero) as f64 / 1e6)
}
