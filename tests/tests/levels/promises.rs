//! Every level's promise, in 100,000 reads that were at risk, and each checker with runs that break its level.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use highwater::Consistency;
use highwater_testkit::{History, Level, LevelCheck, Report, ViolationKind, Workload};

use crate::{
    common::services::{SESSIONS, Services},
    stage::Stage,
    subject::Round,
};

/// So many reads at risk, answered by replicas: by the primary, where the level wants that.
const AT_RISK: u64 = 100_000;
/// Shorter than what the slow replica is behind.
const BOUND: Duration = Duration::from_millis(100);
const BOUNDED: Level = Level::BoundedStaleness(BOUND);
/// Only a broken build gets there. It is no measure: a run ends when it has seen enough.
const GUARD: Duration = Duration::from_secs(600);

/// What the sessions do in one round. Those that don't write depend on what others do.
fn workload(writers: usize, own_reads: f64) -> Workload {
    Workload::new()
        .sessions(SESSIONS)
        .writers(writers)
        .keys_per_session(2)
        .writes(0.1)
        .own_reads(own_reads)
        .adoptions(0.01)
        .operations(40_000)
        .duration(GUARD)
}

/// A level and a promise of it that a run at a weaker one is to break.
type Stronger = (Level, ViolationKind);

/// Sessions at one level, on a stage of their own.
struct Run {
    level: Level,
    workload: Workload,
    stage: Stage,
    services: Arc<Services>,
    begun: Instant,
}

impl Run {
    async fn start(asked: Consistency, level: Level, workload: Workload) -> Self {
        let stage = Stage::start();
        let services = Services::start(|| stage.builder().level(asked)).await;
        Self {
            level,
            workload,
            stage,
            services: Arc::new(services),
            begun: Instant::now(),
        }
    }

    /// Those that count, of the reads that were at risk: only replicas can go wrong, if they are to be asked at all.
    fn at_risk(&self, report: &Report) -> u64 {
        match self.level {
            Level::Primary => report.at_risk.primary,
            _ => report.at_risk.replica,
        }
    }

    /// Runs round after round until enough reads were at risk, every disturbance has happened, and the run has broken
    /// each stronger promise. Returns the sum, and the last round.
    async fn rounds(&self, stronger: &[Stronger]) -> (Report, u64, History) {
        let mut sum = Report::default();
        let mut broken: BTreeMap<ViolationKind, u64> = BTreeMap::new();
        for number in 0.. {
            let round = self.workload.clone().seed(number);
            let history = round.run(Round::new(&self.services, number)).await.unwrap();
            let (primary, replicas) = self.stage.samples();
            sum += LevelCheck::of(self.level)
                .nodes(&primary, &replicas)
                .run(&history);
            assert!(sum.is_clean(), "{sum}");
            for &(level, kind) in stronger {
                let count = broken.entry(kind).or_default();
                if *count == 0 {
                    // Not all has been quiet since the beginning: who says so is found out as well.
                    let check = LevelCheck::of(level).quiet_since(self.begun);
                    *count = check.run(&history).count(kind);
                }
            }
            if self.at_risk(&sum) >= AT_RISK
                && self.stage.cycles() > 0
                && broken.values().all(|count| *count > 0)
            {
                println!("broken of stronger levels: {broken:?}");
                return (sum, number, history);
            }
            assert!(self.begun.elapsed() < GUARD, "{broken:?}\n{sum}");
        }
        unreachable!("a run ends, one way or the other")
    }

    /// Looks at what the last round has written, now that writes have ended and links have healed, until replicas have
    /// answered often enough.
    async fn after_the_quiet(&self, number: u64, written: &History) -> Report {
        let quiet = self.stage.quiet();
        let look = self.workload.clone().writes(0.0).adoptions(0.0).operations(2_000);
        let mut operations = written.operations().to_vec();
        loop {
            let seen = look.run(Round::new(&self.services, number)).await.unwrap();
            operations.extend(seen.operations());
            let history = operations.iter().copied().collect();
            let report = LevelCheck::of(self.level).quiet_since(quiet).run(&history);
            let replicas = LevelCheck::of(self.level).run(&seen).reads.replica;
            if replicas >= 1_000 || self.level == Level::Primary {
                return report;
            }
            assert!(self.begun.elapsed() < GUARD, "{report}");
        }
    }
}

async fn keeps(asked: Consistency, level: Level, workload: Workload, stronger: &[Stronger]) {
    let run = Run::start(asked, level, workload).await;
    let (report, last, history) = run.stage.disturbed(run.rounds(stronger)).await;
    println!(
        "{level:?}, disturbed {} times, {:?}\n{report}",
        run.stage.cycles(),
        run.begun.elapsed()
    );
    assert_eq!(
        (report.failed_reads, report.guarantees_lost),
        (0, 0),
        "the primary was there all the time: {report}"
    );
    assert_eq!(
        (report.writes_in_doubt, report.writes_refused),
        (0, 0),
        "{report}"
    );
    assert!(run.stage.times_gone_back() >= 2);
    let report = run.after_the_quiet(last, &history).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_reads_and_writes_are_linearizable() {
    keeps(Consistency::Primary, Level::Primary, workload(SESSIONS, 0.2), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn monotonic_sessions_never_go_back() {
    let stronger = [
        (Level::Primary, ViolationKind::Overwritten),
        (Level::Primary, ViolationKind::SeenByOthers),
    ];
    keeps(
        Consistency::Monotonic,
        Level::Monotonic,
        workload(12, 0.3),
        &stronger,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_read_their_writes() {
    let stronger = [
        (Level::Monotonic, ViolationKind::MonotonicReads),
        (BOUNDED, ViolationKind::Overwritten),
        (Level::Primary, ViolationKind::SeenByOthers),
    ];
    keeps(
        Consistency::ReadYourWrites,
        Level::ReadYourWrites,
        workload(18, 0.7),
        &stronger,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_the_bound_is_shown() {
    let stronger = [
        (Level::Monotonic, ViolationKind::MonotonicReads),
        (Level::Primary, ViolationKind::Overwritten),
        (Level::Primary, ViolationKind::SeenByOthers),
    ];
    keeps(
        Consistency::BoundedStaleness(BOUND),
        BOUNDED,
        workload(12, 0.3),
        &stronger,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eventual_reads_are_whole_and_converge() {
    let stronger = [
        (Level::ReadYourWrites, ViolationKind::ReadYourWrites),
        (Level::Monotonic, ViolationKind::MonotonicReads),
        (BOUNDED, ViolationKind::Overwritten),
        (Level::Primary, ViolationKind::SeenByOthers),
        // Not all was quiet while replicas were behind.
        (Level::Eventual, ViolationKind::NotConverged),
    ];
    keeps(
        Consistency::Eventual,
        Level::Eventual,
        workload(12, 0.3),
        &stronger,
    )
    .await;
}
