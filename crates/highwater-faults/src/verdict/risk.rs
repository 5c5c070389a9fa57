//! Which reads were at risk: a round in which nothing was shows nothing.

use highwater_testkit::{Mark, ReplicationId, Samples};
use serde::Serialize;

use crate::{
    clock::Epoch,
    crew::Did,
    operation::{Kind, Level, Route},
};

/// Reads that began while some node could be read and surely had not applied what they had to show, by the route that
/// answered. Never too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AtRisk {
    pub(crate) cache: u64,
    pub(crate) replica: u64,
    pub(crate) primary: u64,
    /// In the order of [`Level::NAMES`].
    pub(crate) by_level: [u64; Level::NAMES.len()],
}

impl AtRisk {
    pub(crate) fn total(&self) -> u64 {
        self.cache + self.replica + self.primary
    }

    /// In percent of all.
    #[expect(clippy::cast_precision_loss, reason = "a percentage to print")]
    pub(crate) fn share_of_replicas(&self) -> f64 {
        100.0 * (self.replica + self.cache) as f64 / self.total().max(1) as f64
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.cache += other.cache;
        self.replica += other.replica;
        self.primary += other.primary;
        for (mine, theirs) in self.by_level.iter_mut().zip(other.by_level) {
            *mine += theirs;
        }
    }
}

/// Counts them.
pub(crate) fn at_risk(processes: &[Did], nodes: &[Samples], epoch: Epoch) -> AtRisk {
    let mut at_risk = AtRisk::default();
    for did in processes {
        let histories: Vec<Option<ReplicationId>> =
            did.histories.iter().map(|history| history.parse().ok()).collect();
        for operation in &did.operations {
            let Kind::Read {
                route,
                level,
                mark: Some((history, offset)),
                ..
            } = operation.kind
            else {
                continue;
            };
            let history = usize::try_from(history)
                .ok()
                .and_then(|place| histories.get(place).copied().flatten());
            let Some(mark) = history.map(|history| Mark::new(history, offset)) else {
                continue;
            };
            let began = epoch.instant(operation.start);
            if nodes.iter().any(|node| node.surely_behind(mark, began)) {
                *match route {
                    Route::Cache => &mut at_risk.cache,
                    Route::Replica => &mut at_risk.replica,
                    Route::Primary => &mut at_risk.primary,
                } += 1;
                if let Some(count) = at_risk.by_level.get_mut(level.index()) {
                    *count += 1;
                }
            }
        }
    }
    at_risk
}
