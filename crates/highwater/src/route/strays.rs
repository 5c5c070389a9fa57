//! Marks that only the primary can judge: in doubt, beyond what it has reached, or of a history that it does not
//! know. Normally there are a few, and each such read asks the primary. When they come in floods (from clients
//! that send made-up tokens, where tokens are not signed, or replay one that is in doubt), they must not load it:
//! one sample of the primary then judges for all reads that arrived before it, and replicas answer that prove to
//! have what it shows. That is what the primary would have shown.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use highwater_core::{Coverage, Offset, Point, Progress, Reason, Requirement, Role};

use super::{Attempts, Needs, Read, Reply, Router};
use crate::{
    defaults::{STRAY_BURST, STRAY_READS_PER_SECOND},
    error::Error,
};

/// How many more reads may ask the primary about marks of their own. A bucket that fills with time; while it is
/// empty, and for a while after, there is a flood.
#[derive(Debug, Default)]
pub(crate) struct Strays(Mutex<Option<Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    /// When it was last empty.
    empty: Option<Instant>,
}

/// How long a flood lasts after the last sign of it. Reads are not let through one by one meanwhile: of those that
/// come at the same time, all would be.
const EBB: Duration = Duration::from_secs(1);

impl Bucket {
    fn at(self, now: Instant) -> Self {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * STRAY_READS_PER_SECOND;
        Self {
            left: (self.left + grown).min(STRAY_BURST),
            at: now,
            ..self
        }
    }
}

impl Strays {
    /// Counts one. False when there have been too many of late.
    fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filled = bucket.map_or(
            Bucket {
                left: STRAY_BURST,
                at: now,
                empty: None,
            },
            |bucket| bucket.at(now),
        );
        let admitted = filled.left >= 1.0;
        if admitted {
            filled.left -= 1.0;
        } else {
            filled.empty = Some(now);
        }
        *bucket = Some(filled);
        admitted
    }

    fn is_flood(&self, now: Instant) -> bool {
        let bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = bucket.as_ref().and_then(|bucket| bucket.empty);
        empty.is_some_and(|empty| now.saturating_duration_since(empty) < EBB)
    }
}

impl Router {
    /// The primary was asked, and could not honour a mark that it has never seen.
    pub(super) fn count_stray(&self, coverage: Coverage) {
        if matches!(coverage, Coverage::Behind | Coverage::Unknown) {
            self.strays.admit(Instant::now());
        }
    }

    /// Whether the primary is better asked once for many reads in doubt than for each. Counts this one.
    pub(super) fn too_many_in_doubt(&self) -> bool {
        self.check_proofs && !self.members.now().replicas.is_empty() && !self.strays.admit(Instant::now())
    }

    /// Whether a read that no replica can answer asks for what the primary may not have either, in a flood of such
    /// reads. Others have not to wait for a sample.
    pub(super) fn is_one_of_many(&self, read: &Read<'_>) -> bool {
        self.check_proofs
            && self.strays.is_flood(Instant::now())
            && self
                .primary()
                .ok()
                .and_then(|primary| primary.hint())
                .is_some_and(|hint| self.coverage(&read.requirement, &hint.progress) != Coverage::Covered)
    }

    /// Answers a read by a sample of the primary that is shared with all who ask at the same time.
    pub(super) async fn read_by_sample(&self, read: &Read<'_>, reason: Reason) -> Result<Reply, Error> {
        // Begun after the read arrived, so it shows all that the primary's own reply would have to show.
        let progress = self.sample_primary().await?;
        self.counters.count_barrier();
        let judged = Read {
            command: read.command,
            needs: Needs {
                requirement: Requirement::new([place(&progress)]),
                at_replicas: None,
                waived: None,
                ..read.needs
            },
        };
        match self.read_replicas(&judged, Attempts::default()).await {
            Ok(mut reply) => {
                // Not before: a loss would have been taken for said, although another node answers in the end, or none.
                reply.reason = self.admit(read, &progress, reason)?;
                Ok(reply)
            }
            // It may be another primary by now than the one that was sampled: it judges the session's own marks, and
            // what it can't honour is said.
            Err(_) => self.fall_back(read, reason).await,
        }
    }
}

fn place(progress: &Progress) -> Point {
    debug_assert_eq!(progress.role, Role::Primary, "only the primary is sampled");
    Point {
        history: progress.history,
        offset: Offset::at(progress.applied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_let_through_and_a_flood_is_not() {
        let (strays, start) = (Strays::default(), Instant::now());
        assert!(!strays.is_flood(start));
        // 2,000 a second for ten seconds.
        let admitted = (0..20_000_u32)
            .filter(|n| strays.admit(start + Duration::from_micros(500) * *n))
            .count();
        let bound = 10.0 * STRAY_READS_PER_SECOND + STRAY_BURST;
        assert!(
            (bound * 0.9..=bound + 1.0).contains(&(admitted as f64)),
            "{admitted}"
        );
        let after = start + Duration::from_secs(10);
        assert!(strays.is_flood(after));
        assert!(!strays.is_flood(after + EBB));
    }
}
