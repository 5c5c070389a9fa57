//! Schedules: which faults happen when. Made from a seed, printed as text, and read back from it.
//!
//! ```text
//! seed 7
//! family failover
//! stage load=swapdb backlog=64 filler=500
//! delays 0-3 30-80 150-300
//! process 0 policy=primary resp=3 connections=1 lists=replicas
//! length 8000
//! 1250 +400 freeze 2
//! 1700 +0 promote 1
//! ```
//!
//! A step has the millisecond at which it begins, how many it lasts, and what happens. Nodes are counted from 0, which is
//! the first primary; processes are those of the clients.

mod generate;
mod text;

use std::{fmt, str::FromStr};

use self::text::Words;
use crate::{Error, wire::Policy};

/// How many nodes there are: a primary, two replicas of it, and one that follows the second of these.
pub(crate) const NODES: usize = 4;
/// Whom the nodes follow at first.
pub(crate) const UPSTREAMS: [Option<usize>; NODES] = [None, Some(0), Some(0), Some(2)];
/// How many processes have a client.
pub(crate) const PROCESSES: usize = 3;

/// What a schedule is mostly about. Each seed has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
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
}

impl Family {
    pub(crate) const ALL: [Self; 6] = [
        Self::Lag,
        Self::Links,
        Self::Move,
        Self::Failover,
        Self::Restart,
        Self::Everything,
    ];

    fn of(seed: u64) -> Self {
        let place = usize::try_from(seed % 6).unwrap_or(0);
        Self::ALL.get(place).copied().unwrap_or(Self::Everything)
    }
}

/// Everything that is chosen about a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Of the sessions' choices, too.
    pub(crate) seed: u64,
    pub(crate) family: Family,
    /// `repl-diskless-load` of the replicas.
    pub(crate) load: String,
    /// `repl-backlog-size`, in KiB: a small one makes for full resyncs.
    pub(crate) backlog: u32,
    /// Keys of a kilobyte that are there from the start, so that full resyncs take time.
    pub(crate) filler: u32,
    /// By how many milliseconds the streams to nodes 1, 2 and 3 are delayed all the time.
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
    pub(crate) fn generate(seed: u64, length: u32) -> Self {
        generate::schedule(seed, Family::of(seed), length)
    }

    /// The step by which a history may first end; `None` says that nothing may ever be reported lost.
    pub(crate) fn first_failover(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.fault.begins_history())
    }

    /// Whether some replica is caught up all the time.
    pub(crate) fn has_caught_up_replica(&self) -> bool {
        self.first_failover().is_none() && !self.steps.iter().any(|step| step.fault.touches_node_1())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            let schedule = Schedule::generate(seed, 8000);
            let text = schedule.to_string();
            assert_eq!(text.parse::<Schedule>().unwrap(), schedule, "{text}");
        }
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(Schedule::generate(5, 8000), Schedule::generate(5, 8000));
        assert_ne!(
            Schedule::generate(5, 8000).steps,
            Schedule::generate(11, 8000).steps
        );
    }

    #[test]
    fn families_keep_to_what_they_are_about() {
        for seed in 0..600 {
            let schedule = Schedule::generate(seed, 8000);
            let calm = schedule.first_failover().is_none();
            match schedule.family {
                Family::Lag => assert!(schedule.has_caught_up_replica(), "{schedule}"),
                Family::Links | Family::Move => assert!(calm, "{schedule}"),
                Family::Failover | Family::Restart => assert!(!calm, "{schedule}"),
                Family::Everything => {}
            }
            assert!(schedule.steps.len() > 8, "{schedule}");
            assert!(schedule.steps.is_sorted_by_key(|step| step.at), "{schedule}");
        }
    }

    #[test]
    fn every_fault_is_drawn_somewhere() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..300 {
            kinds.extend(
                Schedule::generate(seed, 8000)
                    .steps
                    .iter()
                    .map(|step| step.fault.kind()),
            );
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
        ] {
            assert!(kinds.contains(kind), "{kind}");
        }
    }
}
