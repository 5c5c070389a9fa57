//! Where the primary was at which moment: so that a read of bounded staleness knows what a replica must
//! have applied.
//!
//! A moment is a sample of the primary, stamped with the time at which its INFO was *sent*: whatever had
//! been acknowledged by then lies at or below its offset. So a replica that covers a moment of no longer
//! ago than the bound shows everything that had been acknowledged by then.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use highwater_core::{History, Offset, Point};

/// The distances at which moments are kept: the last 128 of each, so about two minutes in all.
const GRAINS: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(32),
    Duration::from_secs(1),
];
const MOMENTS: usize = 128;

/// Moments of one primary, in its present history.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    history: Option<History>,
    /// Times of sending and offsets, a list a grain.
    kept: [VecDeque<(Instant, u64)>; GRAINS.len()],
}

impl Moments {
    /// Takes in that an INFO which was sent at `sent` said that the node is a primary, at `offset`.
    pub(crate) fn observe(&mut self, sent: Instant, history: History, offset: u64) {
        if self.history != Some(history) {
            // A later moment is as good a one, and nobody has to know both histories.
            self.history = Some(history);
            self.kept.iter_mut().for_each(VecDeque::clear);
        }
        for (kept, grain) in self.kept.iter_mut().zip(GRAINS) {
            if kept
                .back()
                .is_some_and(|(last, _)| sent.saturating_duration_since(*last) < grain)
            {
                continue;
            }
            if kept.len() >= MOMENTS {
                kept.pop_front();
            }
            kept.push_back((sent, offset));
        }
    }

    /// The least that a replica must have applied to show all that had been acknowledged at some moment
    /// from `since` on; `None` when no such moment is known.
    pub(crate) fn since(&self, since: Option<Instant>) -> Option<Point> {
        let history = self.history?;
        let first = |kept: &VecDeque<(Instant, u64)>| {
            let place = since.map_or(0, |since| kept.partition_point(|(sent, _)| *sent < since));
            kept.get(place).copied()
        };
        let (_, offset) = self.kept.iter().filter_map(first).min()?;
        Some(Point {
            history,
            offset: Offset::at(offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn history(byte: u8) -> History {
        History::from_bytes([byte; 20])
    }

    fn offset(moments: &Moments, since: Instant) -> Option<u64> {
        moments.since(Some(since))?.offset.position()
    }

    #[test]
    fn the_oldest_moment_within_the_bound_counts_and_none_before_it() {
        let start = Instant::now();
        let mut moments = Moments::default();
        assert_eq!(moments.since(None), None);
        for tick in 0..200_000_u32 {
            moments.observe(start + tick * MS, history(1), tick.into());
        }
        let now = start + 200_000 * MS;
        assert_eq!(offset(&moments, now), None);
        for bound in [1, 5, 50, 128, 129, 500, 4_000, 4_500, 60_000, 120_000] {
            let oldest = 200_000 - u64::from(bound);
            let found = offset(&moments, now - bound * MS).unwrap();
            // Never older than the bound; and not much younger, in proportion.
            assert!(found >= oldest, "{bound}: {found}");
            assert!(found <= oldest + u64::from(bound) / 4 + 1, "{bound}: {found}");
        }
        assert!(moments.kept.iter().all(|kept| kept.len() <= MOMENTS));
        // Longer bounds than what is remembered: the oldest there is.
        assert!(moments.since(None).is_some());
    }

    #[test]
    fn a_new_history_starts_anew() {
        let start = Instant::now();
        let mut moments = Moments::default();
        moments.observe(start, history(1), 900);
        moments.observe(start + MS / 10, history(2), 3);
        let point = moments.since(Some(start)).unwrap();
        assert_eq!((point.history, point.offset), (history(2), Offset::at(3)));
        assert_eq!(offset(&moments, start + MS), None);
    }
}
