//! What is printed: rows as they come, and in plain words what they show.

use std::io::{self, Write};

use highwater_testkit::ServerKind;
use serde::Serialize;

use super::{
    DOWN_AFTER, NODES, SENTINELS,
    load::{READS_PER_WRITE, THINK_TIME, USERS},
    timeline::{Event, Row, Summary},
};

/// A time from the kill on.
fn time(at_ms: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a number to print")]
    let seconds = at_ms as f64 / 1e3;
    format!("{seconds:+.2} s")
}

fn latency(micros: Option<u64>) -> String {
    micros.map_or_else(|| String::from("-"), |micros| format!("{micros} µs"))
}

/// Where the report goes.
pub(super) enum Report {
    /// As it happens.
    Text,
    /// All of it at the end.
    Json(Vec<Row>, Vec<Event>),
}

impl Report {
    pub(super) fn begin(&self, kind: ServerKind) -> io::Result<()> {
        if matches!(self, Self::Json(..)) {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{}, {NODES} nodes, {SENTINELS} sentinels that take a node for down after {} ms; {USERS} users, each over \
             and over: 1 write, {READS_PER_WRITE} reads of it, {} ms between\n",
            kind.program(),
            DOWN_AFTER.as_millis(),
            THINK_TIME.as_millis(),
        )?;
        writeln!(
            out,
            "{:>8} {:>9} {:>7} {:>10} {:>10} {:>9} {:>9} {:>10} {:>7}",
            "", "reads/s", "errors", "p50", "p99", "replicas", "primary", "writes/s", "errors"
        )
    }

    pub(super) fn row(&mut self, row: Row) -> io::Result<()> {
        if let Self::Json(rows, _) = self {
            rows.push(row);
            return Ok(());
        }
        let (p50, p99) = (latency(row.read_p50_us), latency(row.read_p99_us));
        writeln!(
            io::stdout().lock(),
            "{:>8} {:>9.0} {:>7} {p50:>10} {p99:>10} {:>7.1} % {:>7.1} % {:>10.0} {:>7}",
            time(row.at_ms),
            row.reads_per_second,
            row.read_errors,
            row.replica_percent,
            row.primary_percent,
            row.writes_per_second,
            row.write_errors,
        )
    }

    pub(super) fn event(&mut self, event: Event) -> io::Result<()> {
        if let Self::Json(_, events) = self {
            events.push(event);
            return Ok(());
        }
        writeln!(io::stdout().lock(), "{:>8} ── {}", time(event.at_ms), event.what)
    }

    pub(super) fn end(self, kind: ServerKind, summary: &Summary) -> io::Result<()> {
        #[derive(Serialize)]
        struct Whole<'a> {
            server: &'static str,
            users: usize,
            down_after_ms: u128,
            intervals: &'a [Row],
            events: &'a [Event],
            summary: &'a Summary,
        }
        let mut out = io::stdout().lock();
        match &self {
            Self::Json(intervals, events) => {
                let whole = Whole {
                    server: kind.program(),
                    users: USERS,
                    down_after_ms: DOWN_AFTER.as_millis(),
                    intervals,
                    events,
                    summary,
                };
                serde_json::to_writer_pretty(&mut out, &whole)?;
                writeln!(out)
            }
            Self::Text => {
                writeln!(out)?;
                conclusion(summary)
                    .into_iter()
                    .try_for_each(|line| writeln!(out, "{line}"))
            }
        }
    }
}

fn conclusion(summary: &Summary) -> Vec<String> {
    let Summary {
        reads,
        read_errors,
        read_errors_in_doubt,
        stale_reads,
        without_reads_ms,
        without_writes_ms,
        told_of_losses,
        saw_losses,
        ..
    } = summary;
    let failed = match (read_errors, read_errors_in_doubt) {
        (0, _) => String::from("none failed"),
        (all, doubtful) if all == doubtful => {
            format!("{all} failed, all of users whose write was under way when the primary died")
        }
        (all, doubtful) => {
            format!(
                "{all} failed, {doubtful} of them of users whose write was under way when the primary died"
            )
        }
    };
    let losses = match told_of_losses {
        0 => String::from("No write that was acknowledged was lost."),
        told => format!(
            "{told} users were told that a write of theirs may be lost; {saw_losses} of them saw that one was."
        ),
    };
    vec![
        format!(
            "Writes stopped for {without_writes_ms} ms; the longest time without a read was {without_reads_ms} ms."
        ),
        format!("Of {reads} reads {failed}, and {stale_reads} were stale."),
        losses,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_said() {
        let quiet = conclusion(&Summary {
            reads: 10,
            ..Summary::default()
        });
        assert_eq!(quiet[1], "Of 10 reads none failed, and 0 were stale.");
        assert!(quiet[2].starts_with("No write"), "{quiet:?}");
        let loud = conclusion(&Summary {
            reads: 10,
            read_errors: 3,
            read_errors_in_doubt: 2,
            stale_reads: 1,
            told_of_losses: 2,
            saw_losses: 1,
            ..Summary::default()
        });
        assert!(
            loud[1].contains("3 failed, 2 of them") && loud[1].ends_with("1 were stale."),
            "{loud:?}"
        );
        assert!(
            loud[2].starts_with("2 users") && loud[2].contains("1 of them"),
            "{loud:?}"
        );
    }

    #[test]
    fn times_have_a_sign() {
        assert_eq!(
            [time(-250), time(0), time(1725)],
            ["-0.25 s", "+0.00 s", "+1.73 s"]
        );
    }
}
