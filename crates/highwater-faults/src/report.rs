//! What a run prints.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use highwater_testkit::ServerKind;
use serde::Serialize;

use crate::{
    Error,
    operation::{Kind, Level, Route},
    round::Outcome,
    schedule::{Caches, Family, Schedule},
    verdict::{AtRisk, Broken, Counts, Losses, Recovery, Times},
};

/// From so many reads at risk on, the share of those that replicas answered is judged.
const ENOUGH: u64 = 10_000;
/// In percent. What replicas answer on a machine that is not overloaded is several times that.
const LEAST_SHARE: f64 = 20.0;
/// From so many sessions at failovers on, the share of those that were told of a loss for nothing is judged.
const ENOUGH_SESSIONS: u64 = 200;
/// In percent.
const MOST_FALSE: f64 = 1.0;

/// Everything that a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    server: ServerKind,
    seed: u64,
    caches: Caches,
    all: Sum,
    /// In schedules in which nothing can be lost.
    calm: Sum,
    /// In those in which a replica is caught up all the time.
    caught_up: Sum,
    families: BTreeMap<Family, Sum>,
    losses: Losses,
    /// In rounds in which no acknowledged write was lost.
    losses_of_none: Losses,
    recoveries: BTreeMap<&'static str, Recovery>,
    broken: BTreeMap<Broken, u64>,
    /// Violations by the route of the reply.
    broken_by: BTreeMap<Route, u64>,
    stuck: u64,
    failed_seeds: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    rounds: u64,
    #[serde(flatten)]
    counts: Counts,
    at_risk: AtRisk,
    violations: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        let theirs = &outcome.counts;
        let mine = &mut self.counts;
        for (mine, theirs) in [
            (&mut mine.writes, theirs.writes),
            (&mut mine.writes_in_doubt, theirs.writes_in_doubt),
            (&mut mine.writes_refused, theirs.writes_refused),
            (&mut mine.reads, theirs.reads),
            (&mut mine.reads_from_cache, theirs.reads_from_cache),
            (&mut mine.reads_failed, theirs.reads_failed),
            (&mut mine.tokens_taken_over, theirs.tokens_taken_over),
            (&mut mine.tokens_damaged, theirs.tokens_damaged),
            (&mut mine.losses_reported, theirs.losses_reported),
            (&mut mine.unknown_reported, theirs.unknown_reported),
        ] {
            *mine += theirs;
        }
        self.rounds += 1;
        self.at_risk.add(&outcome.at_risk);
        self.violations += violations(outcome);
    }
}

fn violations(outcome: &Outcome) -> u64 {
    u64::try_from(outcome.violations.len() + outcome.stuck.len()).unwrap_or(u64::MAX)
}

impl Report {
    pub(crate) fn new(server: ServerKind, seed: u64, caches: Caches) -> Self {
        Self {
            server,
            seed,
            caches,
            all: Sum::default(),
            calm: Sum::default(),
            caught_up: Sum::default(),
            families: BTreeMap::new(),
            losses: Losses::default(),
            losses_of_none: Losses::default(),
            recoveries: BTreeMap::new(),
            broken: BTreeMap::new(),
            broken_by: BTreeMap::new(),
            stuck: 0,
            failed_seeds: Vec::new(),
        }
    }

    /// Takes in a round. What it broke is told at once, on standard error, with what is needed to repeat it.
    pub(crate) fn add(&mut self, schedule: &Schedule, outcome: &Outcome) {
        self.all.add(outcome);
        if outcome.calm {
            self.calm.add(outcome);
        }
        if outcome.caught_up {
            self.caught_up.add(outcome);
        }
        self.losses.add(&outcome.losses);
        if outcome.losses.writes == 0 {
            self.losses_of_none.add(&outcome.losses);
        }
        self.families.entry(outcome.family).or_default().add(outcome);
        for (kind, recovery) in &outcome.recoveries {
            self.recoveries.entry(kind).or_default().add(recovery);
        }
        for violation in &outcome.violations {
            *self.broken.entry(violation.broken).or_default() += 1;
            if let Kind::Read { route, .. } = violation.operation.kind {
                *self.broken_by.entry(route).or_default() += 1;
            }
        }
        self.stuck += u64::try_from(outcome.stuck.len()).unwrap_or(u64::MAX);
        if outcome.is_clean() {
            return;
        }
        self.failed_seeds.push(schedule.seed);
        eprintln!("seed {}: {} violations", schedule.seed, violations(outcome));
        for stuck in &outcome.stuck {
            eprintln!("sessions had no answer {stuck}");
        }
        for story in &outcome.stories {
            eprintln!("{story}");
        }
        eprintln!(
            "To repeat it, put this into a file and give it with --schedule, or run with\n  --server {} --seed {} \
             --rounds 1 --round-ms {} --cache {} --topology {}\n{schedule}",
            self.server.name(),
            schedule.seed,
            schedule.length,
            self.caches.name(),
            schedule.topology.name()
        );
    }

    /// # Errors
    ///
    /// When something was broken, or what was not is no wonder.
    pub(crate) fn verdict(&self) -> Result<(), Error> {
        if self.all.violations > 0 {
            return Err(format!(
                "{} violations, in the rounds with the seeds {:?}",
                self.all.violations, self.failed_seeds
            )
            .into());
        }
        if self.all.at_risk.total() == 0 {
            return Err("no read was at risk, so this shows nothing: run it for longer".into());
        }
        let none = &self.losses_of_none;
        if none.sessions >= ENOUGH_SESSIONS && none.share_of_false() > MOST_FALSE {
            return Err(format!(
                "{:.2} % of {} sessions at failovers that lost nothing were told that a write may be lost",
                none.share_of_false(),
                none.sessions
            )
            .into());
        }
        let share = self.caught_up.at_risk.share_of_replicas();
        if self.caught_up.at_risk.total() >= ENOUGH && share < LEAST_SHARE {
            return Err(format!(
                "only {share:.1} % of reads at risk came from replicas where one was caught up: reading the \
                 primary only breaks nothing either"
            )
            .into());
        }
        Ok(())
    }

    pub(crate) fn print(&self, json: bool, took: Duration) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, &self.whole(took))?;
            return writeln!(out);
        }
        self.table(&mut out, took)
    }

    fn table(&self, out: &mut impl Write, took: Duration) -> io::Result<()> {
        let Counts {
            writes,
            writes_in_doubt,
            writes_refused,
            reads,
            reads_from_cache,
            reads_failed,
            tokens_taken_over,
            tokens_damaged,
            ..
        } = self.all.counts;
        writeln!(
            out,
            "{}, {} rounds from seed {}, {} s\n",
            self.server.name(),
            self.all.rounds,
            self.seed,
            took.as_secs()
        )?;
        writeln!(
            out,
            "writes            {writes}, in doubt {writes_in_doubt}, refused {writes_refused}"
        )?;
        writeln!(
            out,
            "reads             {reads}, from the cache {reads_from_cache}, failed or dropped {reads_failed}"
        )?;
        writeln!(
            out,
            "tokens taken over {tokens_taken_over}, damaged {tokens_damaged}"
        )?;
        let at_risk = &self.all.at_risk;
        writeln!(
            out,
            "reads at risk     {}: replica {}, primary {}, cache {}",
            at_risk.total(),
            at_risk.replica,
            at_risk.primary,
            at_risk.cache
        )?;
        for (name, count) in Level::NAMES.iter().zip(at_risk.by_level) {
            writeln!(out, "  {name:<17} {count}")?;
        }
        writeln!(
            out,
            "where a replica is caught up, {:.1} % of {} reads at risk came from replicas",
            self.caught_up.at_risk.share_of_replicas(),
            self.caught_up.at_risk.total()
        )?;
        writeln!(
            out,
            "losses reported   {} replies, unknown histories {}; where nothing can be lost {} and {}\n",
            self.all.counts.losses_reported,
            self.all.counts.unknown_reported,
            self.calm.counts.losses_reported,
            self.calm.counts.unknown_reported
        )?;
        self.table_of_losses(out)?;
        writeln!(
            out,
            "{:<12} {:>6} {:>10} {:>10} {:>11} {:>9} {:>9}",
            "schedules", "rounds", "reads", "at risk", "by replicas", "lost", "unknown"
        )?;
        for (family, sum) in &self.families {
            writeln!(
                out,
                "{:<12} {:>6} {:>10} {:>10} {:>9.1} % {:>9} {:>9}",
                family.as_str(),
                sum.rounds,
                sum.counts.reads,
                sum.at_risk.total(),
                sum.at_risk.share_of_replicas(),
                sum.counts.losses_reported,
                sum.counts.unknown_reported
            )?;
        }
        writeln!(
            out,
            "\n{:<20} {:>6}   until every process is served again, median / longest in ms",
            "faults", "count"
        )?;
        writeln!(
            out,
            "{:<27}   {:>15} {:>15} {:>15}",
            "", "a read", "a write", "by a replica"
        )?;
        for (kind, mut recovery) in self.recoveries.clone() {
            write!(out, "{kind:<20} {:>6}  ", recovery.faults)?;
            for times in [
                &mut recovery.reads,
                &mut recovery.writes,
                &mut recovery.replica_reads,
            ] {
                let times = Times::of(times);
                write!(out, " {:>7} /{:>6}", times.median_ms, times.longest_ms)?;
            }
            writeln!(out)?;
        }
        write!(out, "\nviolations        {}", self.all.violations)?;
        for (broken, count) in &self.broken {
            write!(out, ", {broken:?} {count}")?;
        }
        for (route, count) in &self.broken_by {
            write!(out, ", by {} {count}", route.name())?;
        }
        if self.stuck > 0 {
            write!(out, ", stuck {}", self.stuck)?;
        }
        writeln!(out)
    }

    /// What became of sessions at failovers, where that is known.
    fn table_of_losses(&self, out: &mut impl Write) -> io::Result<()> {
        if self.losses.failovers == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11}",
            "sessions at failovers", "failovers", "sessions", "told lost", "in doubt", "falsely", "falsely"
        )?;
        for (what, losses) in [
            ("all", &self.losses),
            ("where nothing was lost", &self.losses_of_none),
        ] {
            writeln!(
                out,
                "  {what:<26} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9.2} %",
                losses.failovers,
                losses.sessions,
                losses.told_true,
                losses.told_in_doubt,
                losses.told_false,
                losses.share_of_false()
            )?;
        }
        writeln!(
            out,
            "acknowledged writes that were lost: {}\n",
            self.losses.writes
        )
    }

    fn whole(&self, took: Duration) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Whole<'a> {
            server: &'static str,
            seed: u64,
            seconds: u64,
            all: &'a Sum,
            calm: &'a Sum,
            caught_up: &'a Sum,
            families: &'a BTreeMap<Family, Sum>,
            losses: &'a Losses,
            losses_of_none: &'a Losses,
            faults: BTreeMap<&'a str, Fault>,
            violations: &'a BTreeMap<Broken, u64>,
            violations_by_route: BTreeMap<&'a str, u64>,
            stuck: u64,
            failed_seeds: &'a [u64],
        }
        #[derive(Serialize)]
        struct Fault {
            count: u64,
            read: Times,
            write: Times,
            replica_read: Times,
        }
        let faults = self.recoveries.iter().map(|(kind, recovery)| {
            let mut recovery = recovery.clone();
            let fault = Fault {
                count: recovery.faults,
                read: Times::of(&mut recovery.reads),
                write: Times::of(&mut recovery.writes),
                replica_read: Times::of(&mut recovery.replica_reads),
            };
            (*kind, fault)
        });
        Whole {
            server: self.server.name(),
            seed: self.seed,
            seconds: took.as_secs(),
            all: &self.all,
            calm: &self.calm,
            caught_up: &self.caught_up,
            families: &self.families,
            losses: &self.losses,
            losses_of_none: &self.losses_of_none,
            faults: faults.collect(),
            violations: &self.broken,
            violations_by_route: self
                .broken_by
                .iter()
                .map(|(route, count)| (route.name(), *count))
                .collect(),
            stuck: self.stuck,
            failed_seeds: &self.failed_seeds,
        }
    }
}
