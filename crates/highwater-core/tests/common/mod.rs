//! What the tests of this crate share.
#![allow(dead_code, reason = "not every test file uses all of it")]

use highwater_core::{History, Mark, Marks, Offset, Scope};
use proptest::prelude::*;

/// Without files of past failures: a failure worth keeping becomes a test of its own.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) fn history(n: u8) -> History {
    History::from_bytes([n + 1; 20])
}

pub(crate) fn scope(n: u8) -> Scope {
    Scope::new(&format!("s{n}")).unwrap()
}

pub(crate) fn mark(scope_no: u8, history_no: u8, offset: u64) -> Mark {
    Mark {
        scope: scope(scope_no),
        history: history(history_no),
        offset: Offset::at(offset),
    }
}

/// Any marks over so many scopes and histories, as the public operations build them.
pub(crate) fn marks(scopes: u8, histories: u8) -> impl Strategy<Value = Marks> {
    let offset = prop_oneof![8 => 0u64..200, 1 => Just(i64::MAX as u64), 1 => Just(u64::MAX)];
    let step = (0u8..10, 0..scopes, 0..histories, offset);
    (prop::collection::vec(step, 0..40), 0u8..4).prop_map(|(steps, doubt)| {
        let mut marks = if doubt == 0 {
            Marks::in_doubt()
        } else {
            Marks::new()
        };
        for (kind, scope, history, offset) in steps {
            let mark = mark(scope, history, offset);
            match kind {
                0 => marks.settle(&mark),
                1..=6 => marks.add_written(&mark),
                _ => marks.add_read(&mark),
            };
        }
        marks
    })
}
