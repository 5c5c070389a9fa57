use std::time::Duration;

use super::script::{KEY, Script, history};
use super::*;
use crate::{Mark, Route, Sample};
use ViolationKind::{
    MonotonicReads, NeverWritten, NotConverged, Overwritten, ReadYourWrites, SeenByOthers, Torn,
};

const BOUND: Level = Level::BoundedStaleness(Duration::from_millis(10));

/// From the most to the least that is promised.
const LEVELS: [Level; 5] = [
    Level::Primary,
    Level::Monotonic,
    BOUND,
    Level::ReadYourWrites,
    Level::Eventual,
];

impl Script {
    fn history(&self) -> History {
        self.operations.iter().copied().collect()
    }

    /// The kinds of violation under a level, in the order in which they are found.
    fn breaks(&self, level: Level) -> Vec<ViolationKind> {
        kinds(&LevelCheck::of(level).run(&self.history()))
    }

    /// Whether each level, in the order of [`LEVELS`], allows it.
    fn allowed(&self) -> [bool; 5] {
        LEVELS.map(|level| self.breaks(level).is_empty())
    }

    fn parts(mut self, session: u32, start: u64, end: u64, versions: [Option<u64>; 2]) -> Self {
        self = self.read(session, start, end, versions[0].min(versions[1]));
        if let Some(Operation {
            kind: Kind::Read { newest, .. },
            ..
        }) = self.operations.last_mut()
        {
            *newest = versions[0].max(versions[1]);
        }
        self
    }
}

fn kinds(report: &Report) -> Vec<ViolationKind> {
    report
        .violations()
        .iter()
        .map(|violation| violation.kind)
        .collect()
}

#[test]
fn an_own_write_that_is_missed_is_allowed_by_eventual_alone() {
    let script = Script::new().write(0, 0, 1, 1).read(0, 2, 3, None);
    assert_eq!(script.allowed(), [false, false, false, false, true]);
    assert_eq!(script.breaks(Level::ReadYourWrites), [ReadYourWrites]);
    assert_eq!(script.breaks(BOUND), [ReadYourWrites]);
    assert_eq!(
        script.breaks(Level::Primary),
        [Overwritten],
        "it is anybody's write, there"
    );
}

#[test]
fn going_back_behind_an_earlier_read_breaks_monotonic_reads_and_the_primarys() {
    let script = Script::new()
        .write(0, 0, 9, 1)
        .read(1, 1, 2, Some(1))
        .read(1, 3, 4, None);
    assert_eq!(script.allowed(), [false, false, true, true, true]);
    assert_eq!(script.breaks(Level::Monotonic), [MonotonicReads]);
    assert_eq!(script.breaks(Level::Primary), [SeenByOthers]);
}

#[test]
fn what_another_session_has_read_binds_at_the_primary_only() {
    let script = |start| {
        Script::new()
            .write(0, 0, 9, 1)
            .read(1, 1, 2, Some(1))
            .read(2, start, 4, None)
    };
    assert_eq!(script(3).allowed(), [false, true, true, true, true]);
    assert_eq!(script(3).breaks(Level::Primary), [SeenByOthers]);
    assert_eq!(
        script(2).breaks(Level::Primary),
        [],
        "not before, at the same instant"
    );
}

#[test]
fn anothers_write_may_be_missed_for_as_long_as_the_bound() {
    let script = |start| {
        Script::new()
            .write(0, 0, 1, 1)
            .write(0, 2, 3, 2)
            .read(1, start, 40, Some(1))
    };
    assert_eq!(
        script(4).allowed(),
        [false, true, true, true, true],
        "at the primary there is no bound"
    );
    assert_eq!(script(13).breaks(BOUND), [], "just the bound");
    assert_eq!(script(14).breaks(BOUND), [Overwritten]);
    assert_eq!(script(14).allowed(), [false, true, false, true, true]);
    let report = LevelCheck::of(BOUND).run(&script(14).history());
    assert_eq!(
        report.violations()[0].required,
        2,
        "the last of those that are old enough"
    );
    let twice = Script::new()
        .write(0, 0, 1, 1)
        .write(0, 12, 13, 2)
        .read(1, 14, 15, Some(1));
    assert_eq!(twice.breaks(BOUND), [], "only the first is old enough");
    let forever = Level::BoundedStaleness(Duration::MAX);
    assert_eq!(script(14).breaks(forever), []);
}

#[test]
fn writes_that_were_not_acknowledged_are_required_once_they_were_seen() {
    let doubt = || Script::new().write_ends(0, 0, 1, 1, Outcome::InDoubt);
    assert_eq!(doubt().read(1, 90, 91, None).allowed(), [true; 5]);
    assert_eq!(doubt().read(1, 90, 91, Some(1)).allowed(), [true; 5]);
    let seen = doubt().read(1, 90, 91, Some(1)).read(2, 92, 93, None);
    assert_eq!(seen.allowed(), [false, true, true, true, true]);
}

#[test]
fn torn_and_invented_reads_break_every_level() {
    let written = || Script::new().write(0, 0, 1, 1).write(0, 2, 9, 2);
    assert_eq!(written().parts(1, 3, 4, [Some(2), Some(2)]).allowed(), [true; 5]);
    for level in LEVELS {
        assert_eq!(
            written().parts(1, 3, 4, [Some(2), Some(1)]).breaks(level),
            [Torn],
            "{level:?}"
        );
        assert_eq!(written().read(1, 3, 4, Some(3)).breaks(level), [NeverWritten]);
        assert_eq!(
            written().parts(1, 3, 4, [Some(1), Some(u64::MAX)]).breaks(level),
            [Torn, NeverWritten]
        );
        let missing = Script::new().write(0, 0, 9, 1).parts(1, 3, 4, [None, Some(1)]);
        assert_eq!(missing.breaks(level), [Torn]);
    }
    let once = written().read(1, 3, 4, Some(u64::MAX)).read(1, 5, 6, Some(1));
    assert_eq!(once.breaks(Level::Monotonic), [NeverWritten], "one fault is one");
}

#[test]
fn after_the_quiet_every_level_shows_the_last_version() {
    let script = Script::new()
        .write(0, 0, 1, 1)
        .write(0, 2, 3, 2)
        .read(1, 20, 21, Some(1));
    let check = |level, quiet| {
        let check = LevelCheck::of(level).quiet_since(script.at(quiet));
        kinds(&check.run(&script.history()))
    };
    assert_eq!(check(Level::Eventual, 20), [], "not after, at the same instant");
    assert_eq!(check(Level::Eventual, 19), [NotConverged]);
    assert_eq!(check(Level::Monotonic, 19), [NotConverged]);
    assert_eq!(check(BOUND, 19), [Overwritten, NotConverged]);
}

/// A write of each of two sessions to keys of their own, and the samples of a primary and of a replica that is behind
/// the second, then covers both.
struct Sampled {
    script: Script,
    primary: Samples,
    replica: Samples,
}

impl Sampled {
    fn new() -> Self {
        let script = Script::new().write(0, 12, 13, 1).write(0, 22, 23, 2).add(
            9,
            24,
            25,
            Kind::Write {
                key: KEY + 1,
                version: 1,
                outcome: Outcome::Acknowledged,
            },
        );
        let samples = |offsets: [u64; 6], source| -> Samples {
            (1..)
                .zip(offsets)
                .map(|(nth, offset)| Sample {
                    sent_at: script.at(10 * nth),
                    received_at: script.at(10 * nth + 1),
                    applied: Mark::new(history("a"), offset),
                    readable: true,
                    source,
                })
                .collect()
        };
        Self {
            primary: samples([100, 150, 300, 300, 300, 300], None),
            replica: samples([100, 150, 150, 150, 200, 300], Some(7000)),
            script,
        }
    }

    fn at_risk(self, level: Level, read: impl FnOnce(Script) -> Script) -> u64 {
        let history = read(self.script).history();
        let replicas = [self.replica];
        let report = LevelCheck::of(level)
            .nodes(&self.primary, &replicas)
            .run(&history);
        assert!(report.is_clean(), "{report}");
        report.at_risk.total()
    }
}

#[test]
fn a_read_is_at_risk_when_a_replica_lacks_the_very_version_that_is_required() {
    let at_risk = |level, session, start| {
        Sampled::new().at_risk(level, |script| script.read(session, start, 99, Some(2)))
    };
    // The second write began when the primary was at 150, and the replica was there until 40 and more.
    assert_eq!(at_risk(Level::ReadYourWrites, 0, 32), 1);
    assert_eq!(
        at_risk(Level::ReadYourWrites, 0, 42),
        0,
        "200 may or may not have it"
    );
    assert_eq!(at_risk(Level::ReadYourWrites, 1, 32), 0, "somebody else's");
    assert_eq!(at_risk(Level::Monotonic, 1, 32), 0);
    assert_eq!(at_risk(Level::Primary, 1, 32), 1);
    assert_eq!(at_risk(Level::Eventual, 1, 32), 1, "nodes differ");
    assert_eq!(at_risk(Level::Eventual, 1, 42), 0);
    assert_eq!(
        at_risk(BOUND, 1, 33),
        0,
        "the second write is as young as the bound, and the first is everywhere"
    );
    assert_eq!(at_risk(BOUND, 1, 34), 1);
    assert_eq!(at_risk(BOUND, 0, 32), 1, "its own");
}

#[test]
fn what_a_session_has_seen_is_at_risk_under_monotonic() {
    let seen = |level| {
        Sampled::new().at_risk(level, |script| {
            script.read(1, 26, 27, Some(2)).read(1, 32, 33, Some(2))
        })
    };
    assert_eq!(seen(Level::Monotonic), 1, "the second of the two");
    assert_eq!(seen(Level::ReadYourWrites), 0);
}

#[test]
fn another_key_that_is_behind_puts_no_read_at_risk() {
    // Session 0 wrote KEY twice; the first version is everywhere, and that is all that this session has to see.
    let read = |script: Script| script.read(5, 26, 27, Some(1)).read(5, 32, 33, Some(1));
    assert_eq!(Sampled::new().at_risk(Level::Monotonic, read), 0);
}

#[test]
fn without_samples_of_the_primary_nothing_is_known_to_be_at_risk() {
    let sampled = Sampled::new();
    let history = sampled
        .script
        .read_at(0, 32, 33, Some(2), Route::Replica, None)
        .history();
    let report = LevelCheck::of(Level::ReadYourWrites)
        .nodes(&Samples::default(), &[sampled.replica])
        .run(&history);
    assert_eq!(report.at_risk.total(), 0);
}

#[test]
fn reports_add_up() {
    let stale = Script::new().write(0, 0, 1, 1).read(0, 2, 3, None);
    let mut sum = Report::default();
    for _ in 0..300 {
        sum += LevelCheck::of(Level::ReadYourWrites).run(&stale.history());
    }
    assert_eq!((sum.writes, sum.reads.replica), (300, 300));
    assert_eq!(sum.count(ReadYourWrites), 300);
    assert_eq!(sum.violations().len(), 100);
    assert!(!sum.is_clean());
}
