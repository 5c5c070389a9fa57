//! How far behind replicas are, in time: so that a read can be sent to the replica that is likely to
//! have caught up, or straight to the primary. Estimates only; proofs decide.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use highwater_core::{History, Role};

use crate::node::Sample;

/// How many moments of the primary are remembered.
const MOMENTS: usize = 512;
/// Moments closer than this are one.
const GRAIN: Duration = Duration::from_micros(500);
/// How many delays of a replica are looked back at.
const DELAYS: usize = 8;

/// When the primary was seen where.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    history: Option<History>,
    /// Times and offsets, both rising.
    moments: VecDeque<(Instant, u64)>,
}

impl Timeline {
    /// Takes in where the primary was.
    pub(crate) fn observe(&mut self, at: Instant, history: History, offset: u64) {
        if self.history != Some(history) {
            self.history = Some(history);
            self.moments.clear();
        }
        match self.moments.back_mut() {
            Some((_, last)) if *last >= offset => return,
            Some((time, last)) if at.saturating_duration_since(*time) < GRAIN => {
                *last = offset;
                return;
            }
            _ => {}
        }
        if self.moments.len() >= MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back((at, offset));
    }

    /// When the primary was first seen at or beyond `offset`.
    pub(crate) fn reached(&self, offset: u64) -> Option<Instant> {
        let place = self.moments.partition_point(|(_, moment)| *moment < offset);
        self.moments.get(place).map(|(at, _)| *at)
    }

    /// The furthest that the primary has been seen at.
    pub(crate) fn latest(&self) -> Option<(History, u64)> {
        Some((self.history?, self.moments.back()?.1))
    }
}

/// A replica's delay behind the primary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lag {
    /// Delays at which offsets were seen to arrive: upper bounds, since samples are not continuous.
    delays: [Option<Duration>; DELAYS],
    next: usize,
    applied: u64,
    /// How long the oldest write that it lacks had been out at the last sample.
    pub(crate) overdue: Duration,
    /// Bytes that it lacks, by the last samples.
    pub(crate) bytes: Option<u64>,
}

impl Lag {
    /// Takes in a replica's sample.
    pub(crate) fn observe(&mut self, timeline: &Timeline, sample: &Sample) {
        let progress = &sample.progress;
        let Some((history, latest)) = timeline.latest() else {
            return;
        };
        if progress.role != Role::Replica || progress.history != history {
            self.bytes = None;
            return;
        }
        if progress.applied > self.applied
            && let Some(reached) = timeline.reached(progress.applied)
        {
            let delay = sample.at.saturating_duration_since(reached);
            if let Some(place) = self.delays.get_mut(self.next % DELAYS) {
                *place = Some(delay);
            }
            self.next = (self.next + 1) % DELAYS;
        }
        self.applied = progress.applied;
        self.bytes = Some(latest.saturating_sub(progress.applied));
        self.overdue = timeline
            .reached(progress.applied.saturating_add(1))
            .map_or(Duration::ZERO, |reached| {
                sample.at.saturating_duration_since(reached)
            });
    }

    /// The delay that the replica usually has: the least of the bounds seen lately.
    pub(crate) fn typical(&self) -> Duration {
        self.delays
            .iter()
            .flatten()
            .min()
            .copied()
            .unwrap_or(Duration::ZERO)
    }

    /// About how long the replica is behind, where that is known.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.bytes.map(|bytes| match bytes {
            0 => Duration::ZERO,
            _ => self.overdue.max(self.typical()),
        })
    }

    /// When the replica is likely to have applied what the primary reached at `reached`, going by a
    /// sample of it taken at `sampled`.
    pub(crate) fn ready_at(&self, reached: Instant, sampled: Instant) -> Instant {
        let typical = self.typical();
        let usual = reached + typical;
        match self.overdue.checked_sub(typical) {
            // It is later than it usually is: it may stay so for as long again.
            Some(late) if !late.is_zero() => usual.max(sampled + late),
            _ => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::Progress;

    const MS: Duration = Duration::from_millis(1);

    fn history() -> History {
        History::from_bytes([7; 20])
    }

    fn sample(at: Instant, applied: u64) -> Sample {
        let progress = Progress {
            role: Role::Replica,
            history: history(),
            ancestor: None,
            applied,
            link_up: true,
            read_only: true,
        };
        Sample { progress, at }
    }

    #[test]
    fn a_replica_with_a_steady_delay_is_predicted() {
        let start = Instant::now();
        let (mut timeline, mut lag) = (Timeline::default(), Lag::default());
        for tick in 0..200_u32 {
            timeline.observe(start + tick * MS, history(), u64::from(tick));
            if tick >= 50 {
                lag.observe(&timeline, &sample(start + tick * MS, u64::from(tick - 50)));
            }
        }
        assert_eq!(lag.typical(), 50 * MS);
        assert_eq!(lag.bytes, Some(50));
        let reached = timeline.reached(199).unwrap();
        assert_eq!(lag.ready_at(reached, start + 199 * MS), start + 249 * MS);
    }

    #[test]
    fn a_replica_that_stands_still_is_not_tried_again_and_again() {
        let start = Instant::now();
        let (mut timeline, mut lag) = (Timeline::default(), Lag::default());
        timeline.observe(start, history(), 1);
        lag.observe(&timeline, &sample(start + MS, 1));
        timeline.observe(start + 10 * MS, history(), 2);
        let now = start + 110 * MS;
        lag.observe(&timeline, &sample(now, 1));
        assert_eq!(lag.overdue, 100 * MS);
        assert!(lag.ready_at(timeline.reached(2).unwrap(), now) >= now + 99 * MS);
    }

    #[test]
    fn the_timeline_is_bounded_and_starts_anew_with_a_history() {
        let start = Instant::now();
        let mut timeline = Timeline::default();
        for tick in 0..10_000_u32 {
            timeline.observe(start + tick * MS, history(), u64::from(tick));
        }
        assert_eq!(timeline.moments.len(), MOMENTS);
        timeline.observe(start + 10_000 * MS, History::from_bytes([8; 20]), 3);
        assert_eq!(timeline.moments.len(), 1);
    }
}
