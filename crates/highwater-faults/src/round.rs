//! One schedule on one stage, from start to verdict.

use std::{collections::BTreeMap, time::Duration};

use highwater_testkit::{Monitor, ServerKind};

use crate::{
    Error,
    actor::witnessed,
    clock::{Epoch, Nanos},
    conductor::{self, Performance},
    crew::{Crew, Did},
    operation::Operation,
    schedule::{Family, ProcessSetting, Schedule, Topology},
    stage::{self, Stage},
    verdict::{
        AtRisk, Begun, Counts, Findings, Losses, Recovery, Truth, Violation, at_risk, begun, check,
        recoveries,
    },
    wire::{Casting, ClientSetting, Without},
};

/// What does not belong to the schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) server: ServerKind,
    pub(crate) without: Without,
    pub(crate) think: Duration,
}

/// What a round came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) family: Family,
    pub(crate) calm: bool,
    pub(crate) caught_up: bool,
    pub(crate) counts: Counts,
    pub(crate) at_risk: AtRisk,
    /// Where sentinels decide.
    pub(crate) losses: Losses,
    pub(crate) recoveries: BTreeMap<&'static str, Recovery>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) stuck: Vec<String>,
    /// What led to each violation, for people.
    pub(crate) stories: Vec<String>,
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.stuck.is_empty()
    }
}

/// Runs the schedule. `tick` is told of the time that has passed in it.
pub(crate) fn run(
    schedule: &Schedule,
    options: Options,
    tick: impl FnMut(Duration),
) -> Result<Outcome, Error> {
    let epoch = Epoch::new();
    let mut stage = stage::start(options.server, schedule)?;
    let castings = (0..)
        .zip(&schedule.processes)
        .map(|(process, setting)| casting(schedule, &*stage, process, setting, options))
        .collect::<Result<Vec<_>, _>>()?;
    let monitor = Monitor::builder()
        .interval(Duration::from_millis(3))
        .watch(stage.servers())?;
    let mut crew = Crew::start(&castings)?;
    let performance = conductor::perform(schedule, &mut *stage, &mut crew, tick)?;
    let processes = crew.finish()?;
    let witnesses = stage.witnesses()?;
    let samples = monitor.stop();
    drop(stage);
    let seen = Seen {
        at_risk: at_risk(&processes, &samples, epoch),
        witnesses,
        begun: begun(&samples, epoch),
    };
    Ok(judge(schedule, &performance, &processes, &seen))
}

/// What the servers have shown.
struct Seen {
    at_risk: AtRisk,
    witnesses: Option<Vec<String>>,
    begun: Vec<Begun>,
}

fn casting(
    schedule: &Schedule,
    stage: &dyn Stage,
    process: usize,
    setting: &ProcessSetting,
    options: Options,
) -> Result<Casting, Error> {
    Ok(Casting {
        process: u64::try_from(process)?,
        processes: u64::try_from(schedule.processes.len())?,
        seed: schedule.seed,
        client: ClientSetting {
            nodes: stage.clients_way(process, setting)?,
            policy: setting.policy,
            resp2: setting.resp2,
            connections: setting.connections,
            cache: setting.cache,
            without: options.without,
        },
        think: options.think,
        witnesses: schedule.topology == Topology::Sentinel,
    })
}

fn judge(schedule: &Schedule, performance: &Performance, processes: &[Did], seen: &Seen) -> Outcome {
    let operations: Vec<Operation> = processes
        .iter()
        .flat_map(|did| &did.operations)
        .copied()
        .collect();
    let (first_failover, promotions) = match schedule.topology {
        Topology::Fixed => {
            let first = schedule
                .first_failover()
                .and_then(|place| performance.played.get(place));
            (first.map_or(Nanos::MAX, |played| played.begin), Vec::new())
        }
        // Nobody but the nodes can say when.
        Topology::Sentinel => (
            seen.begun
                .iter()
                .map(|begun| begun.after)
                .min()
                .unwrap_or(Nanos::MAX),
            seen.begun
                .iter()
                .filter(|begun| begun.promotion)
                .copied()
                .collect(),
        ),
    };
    let truth = seen.witnesses.as_ref().map(|witnesses| Truth {
        survived: witnesses
            .iter()
            .filter_map(|witness| witnessed(witness))
            .collect(),
        settled: performance.settled,
        promotions: promotions.iter().map(|begun| begun.seen).collect(),
    });
    let Findings {
        violations,
        counts,
        losses,
    } = check(&operations, first_failover, truth.as_ref());
    Outcome {
        family: schedule.family,
        calm: first_failover == Nanos::MAX,
        caught_up: schedule.has_caught_up_replica(),
        counts,
        at_risk: seen.at_risk,
        losses,
        recoveries: recoveries(&performance.played, &promotions, processes),
        stories: violations
            .iter()
            .take(5)
            .map(|violation| crate::story::tell(violation, &operations, performance))
            .collect(),
        violations,
        stuck: performance.stuck.clone(),
    }
}
