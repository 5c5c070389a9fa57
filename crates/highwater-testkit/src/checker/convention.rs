//! The convention that checks rest on.

use std::collections::HashMap;
use std::time::Instant;

use super::report::{Report, ViolationKind};
use crate::history::{Kind, Operation, Outcome};

/// When each version of each key began to be written, if that may have happened.
pub(super) fn written_versions(operations: &[Operation]) -> HashMap<(u64, u64), Instant> {
    let mut written = HashMap::new();
    for operation in operations {
        if let Kind::Write {
            key,
            version,
            outcome: Outcome::Acknowledged | Outcome::InDoubt,
        } = operation.kind
        {
            written.entry((key, version)).or_insert(operation.start);
        }
    }
    written
}

/// Versions of a key must grow, one write after the other, and end with one in doubt: else "less" means nothing.
pub(super) fn check(operations: &[Operation], report: &mut Report) {
    let mut writes: HashMap<u64, Vec<(&Operation, u64, Outcome)>> = HashMap::new();
    for operation in operations {
        if let Kind::Write {
            key,
            version,
            outcome,
        } = operation.kind
        {
            writes.entry(key).or_default().push((operation, version, outcome));
        }
    }
    for writes in writes.values_mut() {
        writes.sort_unstable_by_key(|(operation, version, _)| (operation.start, *version));
        let mut last = None;
        for &(operation, version, outcome) in &*writes {
            let (end, least, settled) = last.unwrap_or((operation.start, 1, true));
            if version < least || operation.start < end || !settled {
                report.violation(ViolationKind::Convention, operation, least);
            }
            last = Some((operation.end, version + 1, outcome != Outcome::InDoubt));
        }
    }
}
