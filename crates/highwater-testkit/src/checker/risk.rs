//! Which reads were at risk: by what the servers themselves said of where they were.

use std::collections::HashMap;

use super::level::{Demanded, Rules};
use crate::history::{Kind, Operation};
use crate::{Mark, Samples};

/// How reads at risk are found.
#[derive(Debug)]
pub(super) enum Risk<'a> {
    /// By the mark that the client says the session has.
    Marks(&'a [Samples]),
    /// By the version that the level requires of the read. What the client says of itself is not used.
    Versions {
        primary: &'a Samples,
        replicas: &'a [Samples],
        /// A point at or before the end of each write in the replication stream: who is before it surely lacks it.
        places: HashMap<(u64, u64), Mark>,
    },
}

impl<'a> Risk<'a> {
    pub(super) fn of_versions(primary: &'a Samples, replicas: &'a [Samples]) -> Self {
        Self::Versions {
            primary,
            replicas,
            places: HashMap::new(),
        }
    }

    /// Takes in that a write begins. What the primary had been seen at before is before the write.
    pub(super) fn write_begins(&mut self, operation: &Operation) {
        if let (Self::Versions { primary, places, .. }, Kind::Write { key, version, .. }) =
            (self, operation.kind)
            && let Some(before) = primary.last_by(operation.start)
        {
            let after = Mark::new(before.applied.history, before.applied.offset + 1);
            places.insert((key, version), after);
        }
    }

    /// Whether some replica could be read from when this read began, and surely lacked what was required of it.
    pub(super) fn threatens(
        &self,
        read: &Operation,
        key: u64,
        mark: Option<Mark>,
        rules: Rules,
        demanded: &Demanded,
    ) -> bool {
        let (replicas, lacked) = match self {
            Self::Marks(replicas) => (replicas, mark),
            Self::Versions { replicas, places, .. } => {
                let place = places.get(&(key, rules.at_stake(demanded)));
                (replicas, place.copied())
            }
        };
        lacked.is_some_and(|lacked| {
            replicas
                .iter()
                .any(|replica| replica.surely_behind(lacked, read.start))
        })
    }
}
