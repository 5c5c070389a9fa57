//! What is known of where a node was: the samples that a [`Monitor`](crate::Monitor) takes of it.

use std::time::{Duration, Instant};

use crate::{InfoReplication, Mark};

/// What one INFO said, and between which instants it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Before the INFO was sent.
    pub sent_at: Instant,
    /// After its reply was received.
    pub received_at: Instant,
    /// The node's history, and what it had applied of it.
    pub applied: Mark,
    /// Whether the node could be read from: not in the middle of a full sync.
    pub readable: bool,
    /// The port that it replicates from. `None` is a primary.
    pub source: Option<u16>,
}

impl Sample {
    pub(crate) fn new(sent_at: Instant, info: &InfoReplication) -> Self {
        Self {
            sent_at,
            received_at: Instant::now(),
            applied: info.mark(),
            readable: !info.sync_in_progress,
            source: info.master.as_ref().map(|(_, port)| *port),
        }
    }
}

/// The samples of one node, in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    pub(crate) samples: Vec<Sample>,
}

impl Samples {
    /// How far apart the samples of a proof may be at most: a node that is moved and moved back within this time could
    /// go unseen, so tests leave moved nodes where they are for longer.
    const WINDOW: Duration = Duration::from_millis(100);

    /// Whether it is certain that at `instant` this node could be read and had not applied `mark`.
    ///
    /// Certain means: the next sample that was *sent* after that instant still shows less, in the mark's history. An
    /// applied offset only grows within one history, except when a node is moved to a primary that lags; so the last
    /// sample that had been *received* by then must not show more either, and must name the same primary. Where samples
    /// don't say, the answer is no: this never counts too much.
    #[must_use]
    pub fn surely_behind(&self, mark: Mark, instant: Instant) -> bool {
        let next = self.samples.partition_point(|sample| sample.sent_at < instant);
        let (Some(before), Some(next)) = (self.last_by(instant), self.samples.get(next)) else {
            return false;
        };
        let behind = |sample: &Sample| {
            sample.readable && sample.applied.history == mark.history && sample.applied.offset < mark.offset
        };
        behind(before)
            && behind(next)
            && before.source == next.source
            && before.applied.offset <= next.applied.offset
            && next.received_at.duration_since(before.sent_at) <= Self::WINDOW
    }

    /// The last sample that had been received by `instant`.
    #[must_use]
    pub fn last_by(&self, instant: Instant) -> Option<&Sample> {
        let received = self
            .samples
            .partition_point(|sample| sample.received_at <= instant);
        self.samples.get(received.checked_sub(1)?)
    }

    /// The samples.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The last sample that was taken.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }
}

/// In the order in which they were taken.
impl FromIterator<Sample> for Samples {
    fn from_iter<T: IntoIterator<Item = Sample>>(samples: T) -> Self {
        Self {
            samples: samples.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(digit: &str) -> crate::ReplicationId {
        digit.repeat(40).parse().unwrap()
    }

    /// Samples at these milliseconds, each taking one, and these offsets.
    fn samples(start: Instant, at: &[(u64, u64)]) -> Samples {
        at.iter()
            .map(|(millis, offset)| {
                let sent_at = start + Duration::from_millis(*millis);
                let applied = Mark::new(history("a"), *offset);
                Sample {
                    sent_at,
                    received_at: sent_at + Duration::from_millis(1),
                    applied,
                    readable: true,
                    source: Some(7000),
                }
            })
            .collect()
    }

    #[test]
    fn a_later_sample_that_shows_less_is_a_proof() {
        let start = Instant::now();
        let samples = samples(start, &[(0, 10), (10, 20), (20, 30)]);
        let behind = |offset, millis| {
            samples.surely_behind(
                Mark::new(history("a"), offset),
                start + Duration::from_millis(millis),
            )
        };
        assert!(behind(25, 5));
        assert!(behind(21, 10), "a sample sent at that instant counts");
        assert!(!behind(25, 11), "the next one shows 30");
        assert!(!behind(20, 5), "20 is applied by then");
        assert!(!behind(99, 21), "no sample after");
    }

    #[test]
    fn what_samples_do_not_say_is_not_counted() {
        let start = Instant::now();
        let at = start + Duration::from_millis(5);
        let mark = Mark::new(history("a"), 25);
        assert!(
            !samples(start, &[(0, 10), (900, 10)]).surely_behind(mark, at),
            "the next sample is too late"
        );
        assert!(
            !samples(start - Duration::from_millis(900), &[(0, 10), (901, 10)]).surely_behind(mark, start),
            "the one before is too old"
        );
        let in_flight = samples(start + Duration::from_micros(4_500), &[(0, 10), (5, 10)]);
        assert!(
            !in_flight.surely_behind(mark, at),
            "the one before was not received by then"
        );
        assert!(
            !samples(start, &[(0, 30), (10, 20)]).surely_behind(mark, at),
            "it went backwards"
        );
        assert!(
            !samples(start, &[(0, 22), (10, 20)]).surely_behind(mark, at),
            "it went backwards below the mark"
        );
        let other = Mark::new(history("b"), 25);
        assert!(
            !samples(start, &[(0, 10), (10, 10)]).surely_behind(other, at),
            "another history"
        );
        let mut syncing = samples(start, &[(0, 10), (10, 10)]);
        syncing.samples[1].readable = false;
        assert!(
            !syncing.surely_behind(mark, at),
            "it can't be read while it syncs"
        );
        let mut moved = samples(start, &[(0, 10), (10, 10)]);
        moved.samples[1].source = Some(7001);
        assert!(
            !moved.surely_behind(mark, at),
            "it may have been further, and moved"
        );
        assert!(
            !samples(start, &[(10, 10)]).surely_behind(mark, at),
            "it may have been further before"
        );
    }
}
