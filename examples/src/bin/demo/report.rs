//! What the demo prints.

use std::io::{self, Write};

use highwater_testkit::ServerKind;
use serde::Serialize;

use crate::{REPLICAS, outcome::Outcome, service::Strategy, workload::Workload};

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Parameters {
    server: &'static str,
    replicas: usize,
    replication_delay_ms: u64,
    seconds: u64,
    sessions: usize,
    reads_per_write: usize,
    think_time_ms: u128,
}

impl Parameters {
    pub(crate) fn new(server: ServerKind, delay_ms: u64, seconds: u64, workload: &Workload) -> Self {
        Self {
            server: server.program(),
            replicas: REPLICAS,
            replication_delay_ms: delay_ms,
            seconds,
            sessions: workload.sessions,
            reads_per_write: workload.reads_per_write,
            think_time_ms: workload.think_time.as_millis(),
        }
    }
}

/// Prints one JSON object.
pub(crate) fn json(parameters: &Parameters, strategies: &[Outcome]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        parameters: &'a Parameters,
        strategies: &'a [Outcome],
    }
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(
        &mut out,
        &Report {
            parameters,
            strategies,
        },
    )?;
    writeln!(out)
}

/// Prints a table, and in plain words what it shows.
pub(crate) fn table(parameters: &Parameters, strategies: &[Outcome]) -> io::Result<()> {
    let Parameters {
        server,
        replicas,
        replication_delay_ms,
        seconds,
        sessions,
        reads_per_write,
        think_time_ms,
    } = parameters;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{server}, {replicas} replicas {replication_delay_ms} ms behind; {sessions} users, each over and over: 1 \
         change of their cart, {reads_per_write} looks at it, {think_time_ms} ms between; {seconds} s a strategy\n"
    )?;
    writeln!(
        out,
        "{:<15} {:>9} {:>9} {:>9} {:>12} {:>14} {:>12} {:>11}",
        "strategy", "reads/s", "p50", "p99", "stale reads", "at-risk reads", "off primary", "from cache"
    )?;
    for outcome in strategies {
        writeln!(
            out,
            "{:<15} {:>9.0} {:>6} µs {:>6} µs {:>12} {:>14} {:>10.1} % {:>9.1} %",
            outcome.name,
            outcome.reads_per_second,
            outcome.read_p50_us,
            outcome.read_p99_us,
            outcome.stale_reads,
            outcome.at_risk_reads,
            outcome.off_primary(),
            outcome.cached(),
        )?;
    }
    writeln!(out)?;
    for line in conclusion(strategies) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn conclusion(strategies: &[Outcome]) -> Vec<String> {
    let of = |strategy: Strategy| strategies.iter().find(|outcome| outcome.name == strategy.name());
    let mut lines = Vec::new();
    if let Some(outcome) = of(Strategy::ReplicaFirst) {
        lines.push(format!(
            "replica-first showed users a cart without their own last change {}.",
            times(outcome.stale_reads)
        ));
    }
    if let Some(outcome) = of(Strategy::Highwater) {
        let Outcome {
            reads, at_risk_reads, ..
        } = outcome;
        let how_often = match outcome.stale_reads {
            0 => "never did".to_owned(),
            count => format!("did so {}", times(count)),
        };
        lines.push(format!(
            "highwater {how_often}, and kept {:.0} % of its reads off the primary.",
            outcome.off_primary(),
        ));
        lines.push(match at_risk_reads {
            0 => "As nothing was at risk, this run shows nothing: try a larger --replication-delay-ms.".to_owned(),
            _ => format!(
                "{at_risk_reads} of its {reads} reads began while a replica had not applied the user's change yet."
            ),
        });
    }
    if let Some(outcome) = of(Strategy::HighwaterCache) {
        let how_often = match outcome.stale_reads {
            0 => "Nor did it".to_owned(),
            count => format!("It did so {}", times(count)),
        };
        lines.push(format!(
            "{how_often} with the near cache, which answered {:.0} % of its reads.",
            outcome.cached(),
        ));
    }
    lines
}

fn times(count: usize) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}
