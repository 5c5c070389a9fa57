//! Schedules: which faults happen when. Made from a seed, printed as text, and read back from it.
//!
//! ```text
//! topology fixed
//! seed 7
//! family failover
//! stage load=swapdb backlog=64 filler=500
//! delays 0-3 30-80 150-300
//! process 0 policy=primary resp=3 connections=1 lists=replicas cache=64kb
//! length 8000
//! 1250 +400 freeze 2
//! 1700 +0 promote 1
//! ```
//!
//! A step has the millisecond at which it begins, how many it lasts, and what happens. Nodes are counted from 0, which is
//! the first primary; processes are those of the clients. A cache without invalidations says for how long it uses its
//! entries: `cache=64kb:200ms`.
//!
//! In a topology that sentinels watch, nobody knows beforehand which node will be the primary. There `primary` is the one
//! that is when the step begins, and `follower1` and `follower2` are the nodes after it.

mod generate;
mod text;
mod watched;

use std::{fmt, str::FromStr};

use serde::Serialize;

use self::text::Words;
use crate::{
    Error,
    wire::{Cache, Policy},
};

/// How many nodes there are: a primary, two replicas of it, and one that follows the second of these.
pub(crate) const NODES: usize = 4;
/// Whom the nodes follow at first.
pub(crate) const UPSTREAMS: [Option<usize>; NODES] = [None, Some(0), Some(0), Some(2)];
/// How many processes have a client.
pub(crate) const PROCESSES: usize = 3;

/// How many nodes sentinels watch: a primary and two replicas.
pub(crate) const WATCHED: usize = 3;
/// How many sentinels there are.
pub(crate) const SENTINELS: usize = 3;
/// Stands for the primary of the moment; the numbers behind it for the nodes that come after that one.
pub(crate) const PRIMARY: usize = NODES;

/// What is brought onto the stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    /// A primary, two replicas and one more behind these; the schedule says which of them is the primary.
    #[default]
    Fixed,
    /// A primary and two replicas that sentinels watch, which say which of them is the primary.
    Sentinel,
}

impl Topology {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Sentinel => "sentinel",
        }
    }

    /// What its schedules are about.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::Fixed => &Family::FIXED,
            Self::Sentinel => &Family::WATCHED,
        }
    }
}

/// What a schedule is mostly about. Each seed has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// Replicas lag, but for one; the primary and the ways to it are well.
    Lag,
    /// Connections of clients fail, also to the primary.
    Links,
    /// Replicas move, die and come back; the primary stays.
    Move,
    /// Replicas become primaries.
    Failover,
    /// The primary is restarted: with its data, without, or with old ones.
    Restart,
    /// All of it.
    Everything,
    /// The primary falls silent, and sentinels choose another.
    Crash,
    /// The same while its replicas are caught up: as a rule nothing is lost, and then nothing may be said to be.
    Sudden,
    /// Sentinels are told to choose another primary while the old one lives, which goes on for a while.
    Handover,
    /// Sentinels die or stand still, and so do primaries.
    Sentinels,
    /// All of what happens under sentinels.
    Turmoil,
}

impl Family {
    const FIXED: [Self; 6] = [
        Self::Lag,
        Self::Links,
        Self::Move,
        Self::Failover,
        Self::Restart,
        Self::Everything,
    ];

    const WATCHED: [Self; 5] = [
        Self::Crash,
        Self::Handover,
        Self::Sudden,
        Self::Sentinels,
        Self::Turmoil,
    ];

    fn of(seed: u64, topology: Topology) -> Self {
        let families = topology.families();
        let place = usize::try_from(seed).unwrap_or(0) % families.len();
        families.get(place).copied().unwrap_or(Self::Everything)
    }
}

/// Everything that is chosen about a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) topology: Topology,
    /// Of the sessions' choices, too.
    pub(crate) seed: u64,
    pub(crate) family: Family,
    /// `repl-diskless-load` of the replicas.
    pub(crate) load: String,
    /// `repl-backlog-size`, in KiB: a small one makes for full resyncs.
    pub(crate) backlog: u32,
    /// Keys of a kilobyte that are there from the start, so that full resyncs take time.
    pub(crate) filler: u32,
    /// By how many milliseconds the streams to nodes 1, 2 and 3 are delayed all the time; those to nodes 0, 1 and 2 where
    /// each may be the primary.
    pub(crate) delays: [(u32, u32); NODES - 1],
    pub(crate) processes: Vec<ProcessSetting>,
    /// In milliseconds.
    pub(crate) length: u32,
    pub(crate) steps: Vec<Step>,
}

/// How the client of a process is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessSetting {
    pub(crate) policy: Policy,
    pub(crate) resp2: bool,
    pub(crate) connections: usize,
    /// All nodes are given as replicas, also the first primary, which may become one.
    pub(crate) every_node: bool,
    pub(crate) cache: Option<Cache>,
}

/// Which processes have a near cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Caches {
    /// All.
    On,
    /// None.
    Off,
    /// Those that the seed says, about half.
    #[default]
    Mixed,
}

impl Caches {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Mixed => "mixed",
        }
    }
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// In milliseconds from the start.
    pub(crate) at: u32,
    /// In milliseconds; 0 for what has no end.
    pub(crate) lasts: u32,
    pub(crate) fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGSTOP, then SIGCONT.
    Freeze(usize),
    /// A replica stands still until every session has had an answer all the same, and that long at least.
    Stall(usize),
    /// kill -9, then a start without data.
    Kill(usize),
    /// An orderly restart with the data.
    Restart(usize),
    /// The data is saved; then kill -9 and a start with what was saved.
    Rollback(usize),
    /// What a node hears from the one that it follows.
    Link(usize, Wire),
    /// A client's way to a node.
    Front(Front, Wire),
    /// CLIENT PAUSE ALL: flushes are split.
    ClientPause(usize),
    /// CLIENT KILL TYPE normal.
    Disconnect(usize),
    /// REPLICAOF another node.
    Follow(usize, usize),
    /// REPLICAOF NO ONE.
    Promote(usize),
    /// The primary's address, as a process knows it, leads to a node from now on, as a virtual IP does.
    Point(usize, usize),
    /// A process drops its client and builds another.
    Rebuild(usize),
    /// SENTINEL FAILOVER.
    FailOver,
    /// A sentinel: kill -9, then a start with what it had learnt.
    KillSentinel(usize),
    /// A sentinel: SIGSTOP, then SIGCONT.
    FreezeSentinel(usize),
}

/// What is broken, and can't be broken twice at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Node(usize),
    Link(usize),
    FrontOfNode(usize),
    FrontOfPrimary(usize),
    Sentinel(usize),
}

/// A relay on the clients' side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// The primary's address of a process.
    Primary(usize),
    /// The address of a node, of all processes.
    Node(usize),
}

/// What a relay does to what it passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Pause,
    /// Bytes a second.
    Slow(u32),
    /// Milliseconds.
    Delay(u32),
    Cut,
    BlackHole,
    Refuse,
    /// Pieces of at most so many bytes, with so many milliseconds between.
    Split(u32, u32),
    /// So many bytes of each connection's requests pass, and the rest when it ends.
    Hold(u32),
    /// The same, of its replies.
    HoldReplies(u32),
}

impl Fault {
    /// By which the report counts.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Freeze(PRIMARY) => "freeze-primary",
            Self::Kill(PRIMARY) => "kill-primary",
            Self::Restart(PRIMARY) => "restart-primary",
            Self::Rollback(PRIMARY) => "rollback-primary",
            Self::Front(Front::Node(PRIMARY), wire) => match wire {
                Wire::Pause => "primary-pause",
                Wire::BlackHole => "primary-black-hole",
                Wire::Refuse => "primary-refuse",
                _ => "primary-wire",
            },
            Self::Freeze(_) => "freeze",
            Self::Stall(_) => "stall",
            Self::Kill(_) => "kill",
            Self::Restart(_) => "restart",
            Self::Rollback(_) => "rollback",
            Self::Link(_, wire) => match wire {
                Wire::Pause => "link-pause",
                Wire::Slow(_) => "link-slow",
                Wire::Delay(_) => "link-delay",
                Wire::Cut => "link-cut",
                Wire::BlackHole => "link-black-hole",
                Wire::Refuse => "link-refuse",
                Wire::Split(..) => "link-split",
                Wire::Hold(_) | Wire::HoldReplies(_) => "link-hold",
            },
            Self::Front(_, wire) => match wire {
                Wire::Pause => "client-pause",
                Wire::Slow(_) => "client-slow",
                Wire::Delay(_) => "client-delay",
                Wire::Cut => "client-cut",
                Wire::BlackHole => "client-black-hole",
                Wire::Refuse => "client-refuse",
                Wire::Split(..) => "client-split",
                Wire::Hold(_) => "client-hold",
                Wire::HoldReplies(_) => "client-hold-replies",
            },
            Self::ClientPause(_) => "server-pause",
            Self::Disconnect(_) => "disconnect",
            Self::Follow(..) => "follow",
            Self::Promote(_) => "promote",
            Self::Point(..) => "point",
            Self::Rebuild(_) => "rebuild",
            Self::FailOver => "sentinel-failover",
            Self::KillSentinel(_) => "kill-sentinel",
            Self::FreezeSentinel(_) => "freeze-sentinel",
        }
    }

    /// Where it is, if it is somewhere.
    pub(crate) fn place(self) -> Option<Place> {
        Some(match self {
            Self::Freeze(node)
            | Self::Stall(node)
            | Self::Kill(node)
            | Self::Restart(node)
            | Self::Rollback(node)
            | Self::ClientPause(node)
            | Self::Disconnect(node) => Place::Node(node),
            Self::Link(node, _) => Place::Link(node),
            Self::Front(Front::Node(node), _) => Place::FrontOfNode(node),
            Self::Front(Front::Primary(process), _) => Place::FrontOfPrimary(process),
            Self::KillSentinel(sentinel) | Self::FreezeSentinel(sentinel) => Place::Sentinel(sentinel),
            Self::Follow(..) | Self::Promote(_) | Self::Point(..) | Self::Rebuild(_) | Self::FailOver => {
                return None;
            }
        })
    }

    /// The same, at other nodes.
    pub(crate) fn at_nodes(self, other: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Freeze(node) => Self::Freeze(other(node)),
            Self::Stall(node) => Self::Stall(other(node)),
            Self::Kill(node) => Self::Kill(other(node)),
            Self::Restart(node) => Self::Restart(other(node)),
            Self::Rollback(node) => Self::Rollback(other(node)),
            Self::Link(node, wire) => Self::Link(other(node), wire),
            Self::Front(Front::Node(node), wire) => Self::Front(Front::Node(other(node)), wire),
            Self::ClientPause(node) => Self::ClientPause(other(node)),
            Self::Disconnect(node) => Self::Disconnect(other(node)),
            Self::Follow(node, upstream) => Self::Follow(other(node), other(upstream)),
            Self::Promote(node) => Self::Promote(other(node)),
            Self::Point(process, node) => Self::Point(process, other(node)),
            Self::Front(Front::Primary(_), _)
            | Self::Rebuild(_)
            | Self::FailOver
            | Self::KillSentinel(_)
            | Self::FreezeSentinel(_) => self,
        }
    }

    /// Whether node 1, or a way to it, is touched: where it is not, some replica is caught up.
    fn touches_node_1(self) -> bool {
        matches!(
            self,
            Self::Freeze(1)
                | Self::Stall(1)
                | Self::Kill(1)
                | Self::Restart(1)
                | Self::Rollback(1)
                | Self::Link(1, _)
                | Self::Front(Front::Node(1), _)
                | Self::ClientPause(1)
                | Self::Disconnect(1)
                | Self::Follow(1, _)
        )
    }

    /// Whether a history may begin by it, in a schedule in which none has begun before.
    fn begins_history(self) -> bool {
        matches!(
            self,
            Self::Promote(_) | Self::Kill(0) | Self::Restart(0) | Self::Rollback(0)
        )
    }
}

impl Schedule {
    /// The schedule of a seed.
    pub(crate) fn generate(topology: Topology, seed: u64, length: u32, caches: Caches) -> Self {
        let family = Family::of(seed, topology);
        let mut schedule = match topology {
            Topology::Fixed => generate::schedule(seed, family, length),
            Topology::Sentinel => watched::schedule(seed, family, length),
        };
        generate::give_caches(&mut schedule, caches);
        schedule
    }

    /// The step by which a history may first end; `None` says that nothing may ever be reported lost. Where sentinels
    /// decide, it is not known beforehand.
    pub(crate) fn first_failover(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.fault.begins_history())
    }

    /// Whether some replica is caught up all the time.
    pub(crate) fn has_caught_up_replica(&self) -> bool {
        self.topology == Topology::Fixed
            && self.first_failover().is_none()
            && !self.steps.iter().any(|step| step.fault.touches_node_1())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "topology {}", self.topology.name())?;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "family {}", self.family)?;
        writeln!(
            f,
            "stage load={} backlog={} filler={}",
            self.load, self.backlog, self.filler
        )?;
        write!(f, "delays")?;
        for (least, most) in self.delays {
            write!(f, " {least}-{most}")?;
        }
        writeln!(f)?;
        for (number, process) in self.processes.iter().enumerate() {
            writeln!(f, "process {number} {process}")?;
        }
        writeln!(f, "length {}", self.length)?;
        self.steps
            .iter()
            .try_for_each(|Step { at, lasts, fault }| writeln!(f, "{at} +{lasts} {fault}"))
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut schedule = Self {
            topology: Topology::Fixed,
            seed: 0,
            family: Family::Everything,
            load: "disabled".to_owned(),
            backlog: 1024,
            filler: 0,
            delays: [(0, 0); NODES - 1],
            processes: Vec::new(),
            length: 0,
            steps: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                schedule
                    .take(&mut Words::of(line))
                    .map_err(|error| format!("line {number} of the schedule, `{line}`: {error}"))?;
            }
        }
        if schedule.processes.len() != PROCESSES || schedule.length == 0 {
            return Err(format!("a schedule has a length, and {PROCESSES} processes").into());
        }
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_survive_their_text() {
        for seed in 0..300 {
            for topology in [Topology::Fixed, Topology::Sentinel] {
                let schedule = Schedule::generate(topology, seed, 8000, Caches::Mixed);
                let text = schedule.to_string();
                assert_eq!(text.parse::<Schedule>().unwrap(), schedule, "{text}");
            }
        }
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(
            Schedule::generate(Topology::Fixed, 5, 8000, Caches::Mixed),
            Schedule::generate(Topology::Fixed, 5, 8000, Caches::Mixed)
        );
        assert_ne!(
            Schedule::generate(Topology::Fixed, 5, 8000, Caches::Mixed).steps,
            Schedule::generate(Topology::Fixed, 11, 8000, Caches::Mixed).steps
        );
    }

    #[test]
    fn families_keep_to_what_they_are_about() {
        for seed in 0..600 {
            let schedule = Schedule::generate(Topology::Fixed, seed, 8000, Caches::Mixed);
            let calm = schedule.first_failover().is_none();
            match schedule.family {
                Family::Lag => assert!(schedule.has_caught_up_replica(), "{schedule}"),
                Family::Links | Family::Move => assert!(calm, "{schedule}"),
                Family::Failover | Family::Restart => assert!(!calm, "{schedule}"),
                _ => {}
            }
            assert!(schedule.steps.len() > 8, "{schedule}");
            assert!(schedule.steps.is_sorted_by_key(|step| step.at), "{schedule}");
        }
        for seed in 0..100 {
            let schedule = Schedule::generate(Topology::Sentinel, seed, 8000, Caches::Mixed);
            assert!(schedule.steps.is_sorted_by_key(|step| step.at), "{schedule}");
            let kills = schedule
                .steps
                .iter()
                .all(|step| step.fault == Fault::Kill(PRIMARY));
            assert_eq!(kills, schedule.family == Family::Sudden, "{schedule}");
        }
    }

    #[test]
    fn caches_change_nothing_else() {
        let without = |schedule: &Schedule| {
            let mut schedule = schedule.clone();
            schedule
                .processes
                .iter_mut()
                .for_each(|process| process.cache = None);
            schedule
        };
        let (mut some, mut none) = (0, 0);
        for seed in 0..100 {
            let [off, mixed, on] = [Caches::Off, Caches::Mixed, Caches::On]
                .map(|caches| Schedule::generate(Topology::Fixed, seed, 8000, caches));
            assert_eq!(without(&off), off);
            assert_eq!(without(&mixed), off);
            assert_eq!(without(&on), off);
            for process in &on.processes {
                let cache = process.cache.unwrap();
                assert!(
                    !process.resp2 || cache.ttl.is_some(),
                    "RESP2 has no invalidations"
                );
            }
            let has = mixed
                .processes
                .iter()
                .filter(|process| process.cache.is_some())
                .count();
            some += has;
            none += PROCESSES - has;
        }
        assert!(some > 100 && none > 100, "{some} with, {none} without");
    }

    #[test]
    fn every_fault_is_drawn_somewhere() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..300 {
            for topology in [Topology::Fixed, Topology::Sentinel] {
                let schedule = Schedule::generate(topology, seed, 8000, Caches::Mixed);
                kinds.extend(schedule.steps.iter().map(|step| step.fault.kind()));
            }
        }
        for kind in [
            "freeze",
            "stall",
            "kill",
            "restart",
            "rollback",
            "link-pause",
            "link-slow",
            "link-delay",
            "link-cut",
            "link-black-hole",
            "client-pause",
            "client-delay",
            "client-cut",
            "client-black-hole",
            "client-refuse",
            "client-split",
            "client-hold",
            "client-hold-replies",
            "server-pause",
            "disconnect",
            "follow",
            "promote",
            "point",
            "rebuild",
            "kill-primary",
            "freeze-primary",
            "restart-primary",
            "rollback-primary",
            "primary-pause",
            "primary-black-hole",
            "primary-refuse",
            "sentinel-failover",
            "kill-sentinel",
            "freeze-sentinel",
        ] {
            assert!(kinds.contains(kind), "{kind}");
        }
    }
}
