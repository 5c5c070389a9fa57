//! What happened when, in numbers.

use std::time::{Duration, Instant};

use highwater::Route;
use serde::Serialize;

use crate::outcome::percentile;

/// How much time a row stands for.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// One read or write of a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) ended: Instant,
    pub(super) took: Duration,
    /// Of reads.
    pub(super) route: Option<Route>,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Worked,
    /// It did not show the user's own last write, and no loss was reported.
    Stale,
    Failed,
    /// A read of a user whose last write was under way when the primary died.
    FailedInDoubt,
}

/// One interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// Its end, counted from the kill.
    pub(super) at_ms: i64,
    pub(super) reads_per_second: f64,
    pub(super) read_errors: usize,
    pub(super) read_p50_us: Option<u64>,
    pub(super) read_p99_us: Option<u64>,
    pub(super) replica_percent: f64,
    pub(super) primary_percent: f64,
    pub(super) writes_per_second: f64,
    pub(super) write_errors: usize,
}

/// Something that the timeline marks.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Event {
    pub(super) at_ms: i64,
    pub(super) what: &'static str,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) reads: usize,
    pub(super) read_errors: usize,
    /// Those of them of users whose last write was under way when the primary died.
    pub(super) read_errors_in_doubt: usize,
    pub(super) stale_reads: usize,
    pub(super) writes: usize,
    pub(super) write_errors: usize,
    /// The longest time without a read that was answered, of whichever user.
    pub(super) without_reads_ms: u64,
    pub(super) without_writes_ms: u64,
    /// Users of whom a reply said that a write of theirs may be lost.
    pub(super) told_of_losses: usize,
    /// Those of them who saw that one was.
    pub(super) saw_losses: usize,
}

/// Takes in what was done, an interval at a time.
#[derive(Debug)]
pub(super) struct Timeline {
    killed: Instant,
    last_read: Instant,
    last_write: Instant,
    longest_without_reads: Duration,
    longest_without_writes: Duration,
    summary: Summary,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "numbers to print")]
fn share(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "numbers to print")]
fn per_second(count: usize) -> f64 {
    count as f64 / INTERVAL.as_secs_f64()
}

impl Timeline {
    /// One that begins now; the primary will be killed at `killed`.
    pub(super) fn new(now: Instant, killed: Instant) -> Self {
        Self {
            killed,
            last_read: now,
            last_write: now,
            longest_without_reads: Duration::ZERO,
            longest_without_writes: Duration::ZERO,
            summary: Summary::default(),
        }
    }

    /// When something happened, counted from the kill.
    pub(super) fn place(&self, at: Instant) -> i64 {
        let signed = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.killed) {
            Some(after) => signed(after),
            None => -signed(self.killed.saturating_duration_since(at)),
        }
    }

    pub(super) fn kill(&mut self, at: Instant) {
        self.killed = at;
    }

    pub(super) fn row(&mut self, end: Instant, mut operations: Vec<Operation>) -> Row {
        operations.sort_unstable_by_key(|operation| operation.ended);
        let mut times = Vec::new();
        let (mut replica, mut writes) = (0, 0);
        let before = self.summary;
        for operation in &operations {
            let failed = matches!(operation.outcome, Outcome::Failed | Outcome::FailedInDoubt);
            let sum = &mut self.summary;
            match (operation.route, failed) {
                (Some(_), true) => {
                    sum.reads += 1;
                    sum.read_errors += 1;
                    sum.read_errors_in_doubt += usize::from(operation.outcome == Outcome::FailedInDoubt);
                }
                (Some(route), false) => {
                    sum.reads += 1;
                    sum.stale_reads += usize::from(operation.outcome == Outcome::Stale);
                    replica += usize::from(route != Route::Primary);
                    times.push(operation.took);
                    let without = operation.ended.saturating_duration_since(self.last_read);
                    self.longest_without_reads = self.longest_without_reads.max(without);
                    self.last_read = operation.ended;
                }
                (None, true) => {
                    sum.writes += 1;
                    sum.write_errors += 1;
                }
                (None, false) => {
                    sum.writes += 1;
                    writes += 1;
                    let without = operation.ended.saturating_duration_since(self.last_write);
                    self.longest_without_writes = self.longest_without_writes.max(without);
                    self.last_write = operation.ended;
                }
            }
        }
        times.sort_unstable();
        Row {
            at_ms: self.place(end),
            reads_per_second: per_second(times.len()),
            read_errors: self.summary.read_errors - before.read_errors,
            read_p50_us: percentile(&times, 50).ok(),
            read_p99_us: percentile(&times, 99).ok(),
            replica_percent: share(replica, times.len()),
            primary_percent: share(times.len() - replica, times.len()),
            writes_per_second: per_second(writes),
            write_errors: self.summary.write_errors - before.write_errors,
        }
    }

    /// The sum of all intervals.
    pub(super) fn summary(&self, (told, lost): (usize, usize)) -> Summary {
        Summary {
            without_reads_ms: millis(self.longest_without_reads),
            without_writes_ms: millis(self.longest_without_writes),
            told_of_losses: told,
            saw_losses: lost,
            ..self.summary
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn errors_and_silence_are_counted_apart() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, start + 250 * MS);
        let read = |at: u32, route, outcome| Operation {
            ended: start + at * MS,
            took: MS,
            route: Some(route),
            outcome,
        };
        let write = |at: u32, outcome| Operation {
            route: None,
            ..read(at, Route::Primary, outcome)
        };
        let row = timeline.row(
            start + 250 * MS,
            vec![
                // Not in order, as users are not.
                read(30, Route::Replica, Outcome::Worked),
                read(10, Route::Primary, Outcome::Worked),
                read(20, Route::Replica, Outcome::Stale),
                read(240, Route::Replica, Outcome::Worked),
                write(240, Outcome::Worked),
            ],
        );
        assert_eq!((row.at_ms, row.read_errors, row.write_errors), (0, 0, 0));
        assert_eq!((row.reads_per_second, row.writes_per_second), (16.0, 4.0));
        assert_eq!((row.replica_percent, row.primary_percent), (75.0, 25.0));
        assert_eq!(row.read_p50_us, Some(1000));
        let row = timeline.row(
            start + 500 * MS,
            vec![
                read(260, Route::Primary, Outcome::Failed),
                read(270, Route::Primary, Outcome::FailedInDoubt),
                write(480, Outcome::Failed),
            ],
        );
        assert_eq!((row.at_ms, row.read_errors, row.write_errors), (250, 2, 1));
        assert_eq!((row.read_p50_us, row.replica_percent), (None, 0.0));
        let row = timeline.row(
            start + 750 * MS,
            vec![
                read(510, Route::Replica, Outcome::Worked),
                write(700, Outcome::Worked),
            ],
        );
        assert_eq!((row.read_errors, row.write_errors), (0, 0));
        let expected = Summary {
            reads: 7,
            read_errors: 2,
            read_errors_in_doubt: 1,
            stale_reads: 1,
            writes: 3,
            write_errors: 1,
            without_reads_ms: 270,
            without_writes_ms: 460,
            told_of_losses: 2,
            saw_losses: 1,
        };
        assert_eq!(timeline.summary((2, 1)), expected);
    }

    #[test]
    fn time_counts_from_the_kill() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, start + 2000 * MS);
        assert_eq!(timeline.place(start), -2000);
        timeline.kill(start + 2010 * MS);
        assert_eq!(timeline.place(start + 2260 * MS), 250);
    }
}
