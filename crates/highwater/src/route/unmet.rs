//! Marks that the primary itself can't honour: counted, traced, visible to the caller, and handled by a
//! policy (invariant 5).

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use highwater_core::{Coverage, Edges, History, Progress, Reason, Requirement, Role, Scope, Session};

use super::{Needs, Policy, Router};
use crate::{
    error::{Error, ErrorKind},
    observe::Throttle,
};

/// How many pairs of histories are remembered; the oldest is forgotten first (invariant 8).
const CAPACITY: usize = 64;

/// What primaries' proofs have concluded of histories, for [`Policy::Proceed`], and how often the log
/// hears of it.
#[derive(Debug, Default)]
pub(crate) struct Unmet {
    /// (the primary's history, a history of which it did not have all that a session depends on).
    /// Only a proof adds to it (invariant 4); it holds for as long as the primary's history does,
    /// since the lineage of a history is settled when it begins.
    concluded: Mutex<VecDeque<(History, History)>>,
    lost: Throttle,
    unknown: Throttle,
    beyond: Throttle,
}

impl Unmet {
    fn remember(&self, pair: (History, History)) {
        let mut concluded = self.concluded.lock().unwrap_or_else(PoisonError::into_inner);
        if concluded.contains(&pair) {
            return;
        }
        if concluded.len() >= CAPACITY {
            concluded.pop_front();
        }
        concluded.push_back(pair);
    }

    fn is_known(&self, pair: (History, History)) -> bool {
        self.concluded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&pair)
    }
}

/// Marks that a read is answered without, by [`Policy::Proceed`].
#[derive(Clone, Debug)]
pub(super) struct Waived {
    /// Taken when the read's was.
    requirement: Requirement,
    /// Where the primary was last seen, and what was known of histories: what was waived by it is what is told.
    progress: Progress,
    edges: Edges,
}

impl Router {
    /// How a primary's proof covers a requirement. The session is told what it does not.
    ///
    /// What is said and what the session remembers go by one state of what is known of histories: that can grow at any
    /// moment, and what was an unknown history can be a loss then, which would be taken for said.
    pub(super) fn judge_by_primary(
        &self,
        session: Option<&Session>,
        requirement: &Requirement,
        progress: &Progress,
    ) -> Coverage {
        judge(session, &self.scope, requirement, progress, &self.edges())
    }

    /// The primary itself does not cover the session's marks: why the reply comes all the same.
    ///
    /// # Errors
    ///
    /// When the policy is that it does not.
    pub(super) fn unmet(
        &self,
        read: &Needs<'_>,
        coverage: Coverage,
        progress: &Progress,
    ) -> Result<Reason, Error> {
        let (policy, kind, message) = match coverage {
            Coverage::PossiblyLost => (
                self.on_possibly_lost,
                ErrorKind::PossiblyLost,
                "a write of this session may have been lost in a failover",
            ),
            Coverage::Unknown => (
                self.on_unknown_history,
                ErrorKind::UnknownHistory,
                "the primary does not know the history that this session depends on: \
                 it was restarted empty, or it is not the primary that took the session's writes",
            ),
            // No server has been where the mark says: the token is not to be believed that far.
            Coverage::Behind | Coverage::Covered => (Policy::Primary, ErrorKind::UnknownHistory, ""),
        };
        self.tell_unmet(coverage);
        self.count_stray(coverage);
        if policy == Policy::Proceed {
            for point in read.requirement.points() {
                self.unmet.remember((progress.history, point.history));
            }
        }
        match policy {
            Policy::Primary | Policy::Proceed => Ok(reason(coverage)),
            Policy::Error => Err(Error::new(kind, message)),
        }
    }

    /// Reads may be answered without what they should cover.
    pub(super) fn waives(&self) -> bool {
        self.on_possibly_lost == Policy::Proceed || self.on_unknown_history == Policy::Proceed
    }

    /// [`Policy::Proceed`]: takes out of the requirement what the primary is known not to have, so that any
    /// node may answer. The reply tells of it: [`tell_waived`](Self::tell_waived).
    ///
    /// It goes by what a proof of the primary has concluded of the same two histories, never by a hint
    /// alone. A loss is then replaced in the session by where the primary was last seen, which is past
    /// everything of the session that survived; an unknown history stays (invariant 4). Doubt about a
    /// history that the primary left is not waived: the primary's proof resolves it.
    pub(super) fn waive(&self, requirement: &mut Requirement) -> Option<Box<Waived>> {
        if !self.waives() {
            return None;
        }
        let progress = self.primary().ok()?.hint()?.progress;
        if progress.role != Role::Primary {
            return None;
        }
        let edges = self.edges().clone();
        let requirement = requirement.waive(|point| {
            self.unmet.is_known((progress.history, point.history))
                && match progress.covers(point.history, point.offset, &edges) {
                    Coverage::PossiblyLost => {
                        self.on_possibly_lost == Policy::Proceed && !point.offset.is_unknown()
                    }
                    Coverage::Unknown => self.on_unknown_history == Policy::Proceed,
                    Coverage::Behind | Coverage::Covered => false,
                }
        });
        (!requirement.points().is_empty()).then(|| {
            Box::new(Waived {
                requirement,
                progress,
                edges,
            })
        })
    }

    /// Tells the session, and whoever looks, of what was waived for a reply that is given out at once: the reason to
    /// give for that.
    pub(super) fn tell_waived(&self, session: Option<&Session>, waived: &Waived) -> Reason {
        let Waived {
            requirement,
            progress,
            edges,
        } = waived;
        let coverage = judge(session, &self.scope, requirement, progress, edges);
        self.tell_unmet(coverage);
        reason(coverage)
    }

    fn tell_unmet(&self, coverage: Coverage) {
        self.counters.count_unmet(coverage);
        let throttle = match coverage {
            Coverage::PossiblyLost => &self.unmet.lost,
            Coverage::Unknown => &self.unmet.unknown,
            Coverage::Behind | Coverage::Covered => &self.unmet.beyond,
        };
        if let Some(suppressed) = throttle.admit(Instant::now()) {
            tracing::warn!(
                node = %self.primary_name(),
                scope = %self.scope,
                reason = reason(coverage).as_str(),
                suppressed,
                "a session's marks can't be honoured"
            );
        }
    }
}

fn judge(
    session: Option<&Session>,
    scope: &Scope,
    requirement: &Requirement,
    progress: &Progress,
    edges: &Edges,
) -> Coverage {
    let coverage = requirement.coverage(progress, edges);
    if let (Some(session), true) = (session, coverage != Coverage::Covered) {
        session.record_discontinuity(scope, requirement, progress, edges);
    }
    coverage
}

fn reason(coverage: Coverage) -> Reason {
    match coverage {
        Coverage::PossiblyLost => Reason::PossiblyLost,
        Coverage::Unknown => Reason::UnknownHistory,
        Coverage::Behind | Coverage::Covered => Reason::Behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_concluded_is_bounded() {
        let unmet = Unmet::default();
        let history = |byte| History::from_bytes([byte; 20]);
        for byte in 1..=100 {
            unmet.remember((history(0), history(byte)));
            unmet.remember((history(0), history(byte)));
        }
        assert_eq!(unmet.concluded.lock().unwrap().len(), CAPACITY);
        assert!(unmet.is_known((history(0), history(100))));
        assert!(!unmet.is_known((history(0), history(1))));
        assert!(!unmet.is_known((history(100), history(0))));
    }
}
