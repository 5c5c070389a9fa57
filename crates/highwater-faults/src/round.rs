//! One schedule on one stage, from start to verdict.

use std::{collections::BTreeMap, time::Duration};

use highwater_testkit::{Monitor, ServerKind};

use crate::{
    Error,
    clock::{Epoch, Nanos},
    conductor::{self, Performance},
    crew::{Crew, Did},
    operation::Operation,
    schedule::{Family, NODES, ProcessSetting, Schedule},
    stage::Stage,
    verdict::{AtRisk, Counts, Findings, Recovery, Violation, at_risk, check, recoveries},
    wire::{Casting, ClientSetting},
};

/// What does not belong to the schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) server: ServerKind,
    pub(crate) check_proofs: bool,
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
    let mut stage = Stage::start(options.server, schedule)?;
    let castings = (0..)
        .zip(&schedule.processes)
        .map(|(process, setting)| casting(schedule, &stage, process, setting, options))
        .collect::<Result<Vec<_>, _>>()?;
    let monitor = Monitor::builder()
        .interval(Duration::from_millis(3))
        .watch(stage.servers())?;
    let mut crew = Crew::start(&castings)?;
    let performance = conductor::perform(schedule, &mut stage, &mut crew, tick)?;
    let processes = crew.finish()?;
    let samples = monitor.stop();
    drop(stage);
    let at_risk = at_risk(&processes, &samples, epoch);
    Ok(judge(schedule, &performance, &processes, at_risk))
}

fn casting(
    schedule: &Schedule,
    stage: &Stage,
    process: usize,
    setting: &ProcessSetting,
    options: Options,
) -> Result<Casting, Error> {
    let first = if setting.every_node { 0 } else { 1 };
    let replicas = (first..NODES)
        .map(|node| stage.node_url(node))
        .collect::<Result<_, _>>()?;
    Ok(Casting {
        process: u64::try_from(process)?,
        processes: u64::try_from(schedule.processes.len())?,
        seed: schedule.seed,
        client: ClientSetting {
            primary: stage.primary_url(process)?,
            replicas,
            policy: setting.policy,
            resp2: setting.resp2,
            connections: setting.connections,
            check_proofs: options.check_proofs,
        },
        think: options.think,
    })
}

fn judge(schedule: &Schedule, performance: &Performance, processes: &[Did], at_risk: AtRisk) -> Outcome {
    let operations: Vec<Operation> = processes
        .iter()
        .flat_map(|did| &did.operations)
        .copied()
        .collect();
    let first_failover = schedule
        .first_failover()
        .and_then(|place| performance.played.get(place))
        .map_or(Nanos::MAX, |played| played.begin);
    let Findings { violations, counts } = check(&operations, first_failover);
    Outcome {
        family: schedule.family,
        calm: schedule.first_failover().is_none(),
        caught_up: schedule.has_caught_up_replica(),
        counts,
        at_risk,
        recoveries: recoveries(&performance.played, processes),
        stories: violations
            .iter()
            .take(5)
            .map(|violation| crate::story::tell(violation, &operations, performance))
            .collect(),
        violations,
        stuck: performance.stuck.clone(),
    }
}
