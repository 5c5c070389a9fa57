//! Whether what sessions were told of losses was true, by the data that are there in the end.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    clock::Nanos,
    operation::{Key, Kind, Operation, Outcome, Session},
};

/// What is known when all is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// The writes whose traces the last primary has.
    pub(crate) survived: HashSet<(Key, u64)>,
    /// From here on, no node has any other data than the last primary's.
    pub(crate) settled: Nanos,
    /// When replicas became primaries.
    pub(crate) promotions: Vec<Nanos>,
}

/// What a report of a loss was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Everything that the session depended on is there.
    False,
    /// The session had a write of unknown outcome, or one that it depended on is not there.
    InDoubt,
    /// An acknowledged write that the session depended on is not there.
    True,
}

/// A session was told that a write may be lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) session: Session,
    pub(super) at: Nanos,
    pub(super) worth: Worth,
}

/// Sessions at failovers, and what they were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Losses {
    /// Acknowledged writes that were lost.
    pub(crate) writes: u64,
    /// How often a replica became the primary.
    pub(crate) failovers: u64,
    /// Sessions that did something before and after, summed over the failovers.
    pub(crate) sessions: u64,
    /// Of these, those that were told of a loss until the next failover: and an acknowledged write was lost.
    pub(crate) told_true: u64,
    /// And it had a write of unknown outcome, so that nobody could say.
    pub(crate) told_in_doubt: u64,
    /// And nothing was.
    pub(crate) told_false: u64,
}

impl Losses {
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.writes, other.writes),
            (&mut self.failovers, other.failovers),
            (&mut self.sessions, other.sessions),
            (&mut self.told_true, other.told_true),
            (&mut self.told_in_doubt, other.told_in_doubt),
            (&mut self.told_false, other.told_false),
        ] {
            *mine += theirs;
        }
    }

    /// The false reports among all sessions at failovers, in percent.
    #[expect(clippy::cast_precision_loss, reason = "a percentage to print")]
    pub(crate) fn share_of_false(&self) -> f64 {
        100.0 * self.told_false as f64 / self.sessions.max(1) as f64
    }
}

/// Counts.
pub(super) fn losses(operations: &[Operation], told: &[Told], truth: &Truth) -> Losses {
    let lost = |operation: &&Operation| {
        matches!(operation.kind, Kind::Write { key, version, outcome: Outcome::Acknowledged, .. }
            if !truth.survived.contains(&(key, version)))
    };
    let mut lives: HashMap<Session, (Nanos, Nanos)> = HashMap::new();
    for operation in operations {
        let life = lives.entry(operation.session).or_insert((Nanos::MAX, 0));
        *life = (life.0.min(operation.end), life.1.max(operation.start));
    }
    let lived_through = |promotion: &Nanos| {
        let lives = lives.values();
        lives
            .filter(|(first, last)| first < promotion && promotion < last)
            .count()
    };
    let mut losses = Losses {
        writes: count(operations.iter().filter(lost).count()),
        failovers: count(truth.promotions.len()),
        sessions: count(truth.promotions.iter().map(lived_through).sum()),
        ..Losses::default()
    };
    // A session that is told twice of one failover is told once, and the better reason counts.
    let mut worths: HashMap<(Session, usize), Worth> = HashMap::new();
    for told in told {
        let failover = truth
            .promotions
            .partition_point(|promotion| *promotion <= told.at);
        let worth = worths.entry((told.session, failover)).or_insert(told.worth);
        *worth = told.worth.max(*worth);
    }
    for worth in worths.values() {
        *match worth {
            Worth::True => &mut losses.told_true,
            Worth::InDoubt => &mut losses.told_in_doubt,
            Worth::False => &mut losses.told_false,
        } += 1;
    }
    losses
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
