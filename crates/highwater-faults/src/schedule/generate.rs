//! Random schedules.
//!
//! The generator knows who follows whom and what is busy, so that no fault hits a place that is broken already in the
//! same way, and replication has no circles. What it holds back of a client's bytes, it holds for less time than clients
//! are configured to doubt (`doubt_grace`), since that is what the promise rests on.

use fastrand::Rng;

use super::{
    Caches, Family, Fault, Front, NODES, PROCESSES, Place, ProcessSetting, Schedule, Step, Topology,
    UPSTREAMS, Wire,
};
use crate::wire::{Cache, Policy};

/// The longest time for which bytes of clients' requests are held back, in milliseconds.
const HOLD: u32 = 800;
/// Between two faults at one place, in milliseconds.
const REST: u32 = 150;

/// Makes the schedule.
pub(super) fn schedule(seed: u64, family: Family, length: u32) -> Schedule {
    let mut random = Rng::with_seed(seed);
    let mut schedule = without_steps(&mut random, seed, family, length);
    let mut generator = Generator {
        random,
        family,
        length,
        upstreams: UPSTREAMS,
        primary: 0,
        free_at: [0; PLACES],
        steps: Vec::new(),
    };
    generator.fill();
    schedule.steps = generator.steps;
    schedule.steps.sort_by_key(|step| step.at);
    schedule
}

/// What is chosen before any fault is.
pub(super) fn without_steps(random: &mut Rng, seed: u64, family: Family, length: u32) -> Schedule {
    let mut pick = |choices: &[u32]| random.choice(choices).copied().unwrap_or(0);
    let (backlog, filler) = (pick(&[16, 64, 1024]), pick(&[0, 500, 4000]));
    let load = match pick(&[0, 1, 1]) {
        0 => "disabled",
        _ => "swapdb",
    };
    let processes = (0..PROCESSES)
        .map(|number| ProcessSetting {
            policy: match (number, random.u32(..2)) {
                (0, _) | (_, 0) => Policy::Primary,
                (1, _) => Policy::Error,
                _ => Policy::Proceed,
            },
            resp2: random.u32(..6) == 0,
            connections: if random.u32(..4) == 0 { 2 } else { 1 },
            every_node: random.bool(),
            cache: None,
        })
        .collect();
    Schedule {
        topology: Topology::Fixed,
        seed,
        family,
        load: load.to_owned(),
        backlog,
        filler,
        delays: [(0, 3), (30, 80), (150, 300)],
        processes,
        length,
        steps: Vec::new(),
    }
}

/// Gives processes their caches. By dice of their own: what else a seed stands for does not depend on it.
pub(super) fn give_caches(schedule: &mut Schedule, caches: Caches) {
    let mut random = Rng::with_seed(!schedule.seed);
    for process in &mut schedule.processes {
        let drawn = random.bool();
        let kib = if random.u32(..3) == 0 { 32 } else { 16 << 10 };
        let by_time = random.u32(..8) == 0;
        let ttl = if random.bool() { 40 } else { 400 };
        let has = match caches {
            Caches::On => true,
            Caches::Off => false,
            Caches::Mixed => drawn,
        };
        process.cache = has.then_some(Cache {
            kib,
            ttl: (by_time || process.resp2).then_some(ttl),
        });
    }
}

/// Each is broken by one fault at a time.
const PLACES: usize = 3 * NODES + PROCESSES;

/// The number of a place of this topology.
fn index(place: Place) -> usize {
    match place {
        Place::Node(node) => node,
        Place::Link(node) => NODES + node,
        Place::FrontOfNode(node) => 2 * NODES + node,
        Place::FrontOfPrimary(process) => 3 * NODES + process,
        // There are none here.
        Place::Sentinel(_) => PLACES,
    }
}

#[derive(Clone, Copy, Debug)]
enum Draw {
    Link,
    FreezeReplica,
    Stall,
    KillReplica,
    RestartReplica,
    FrontOfNode,
    FrontOfPrimary,
    FreezePrimary,
    PauseReplica,
    PausePrimary,
    DisconnectReplica,
    DisconnectPrimary,
    Move,
    Rebuild,
    Failover,
    RestartPrimary,
}

/// How often what is drawn, by family.
fn weights(family: Family) -> &'static [(u32, Draw)] {
    use Draw::{
        DisconnectPrimary, DisconnectReplica, Failover, FreezePrimary, FreezeReplica, FrontOfNode,
        FrontOfPrimary, KillReplica, Link, Move, PausePrimary, PauseReplica, Rebuild, RestartPrimary,
        RestartReplica, Stall,
    };
    match family {
        Family::Lag => &[
            (8, Link),
            (2, FreezeReplica),
            (1, Stall),
            (4, FrontOfNode),
            (1, PauseReplica),
        ],
        Family::Links => &[
            (6, FrontOfPrimary),
            (6, FrontOfNode),
            (2, FreezePrimary),
            (1, PausePrimary),
            (1, PauseReplica),
            (1, DisconnectPrimary),
            (1, DisconnectReplica),
            (1, Rebuild),
            (5, Link),
        ],
        Family::Move => &[
            (4, Move),
            (2, KillReplica),
            (2, RestartReplica),
            (3, Link),
            (2, FrontOfNode),
            (1, FreezeReplica),
            (1, DisconnectReplica),
        ],
        Family::Failover => &[
            (3, Link),
            (2, FrontOfNode),
            (1, FrontOfPrimary),
            (1, FreezeReplica),
            (1, Rebuild),
            (2, Failover),
        ],
        Family::Restart => &[
            (3, Link),
            (2, FrontOfNode),
            (1, FrontOfPrimary),
            (1, KillReplica),
            (2, RestartPrimary),
        ],
        // What is not of this topology is not made here.
        _ => &[
            (4, Link),
            (2, FreezeReplica),
            (2, KillReplica),
            (1, RestartReplica),
            (3, FrontOfNode),
            (3, FrontOfPrimary),
            (1, FreezePrimary),
            (1, PausePrimary),
            (1, PauseReplica),
            (1, DisconnectPrimary),
            (2, Move),
            (1, Rebuild),
            (1, Failover),
            (1, RestartPrimary),
        ],
    }
}

struct Generator {
    random: Rng,
    family: Family,
    length: u32,
    upstreams: [Option<usize>; NODES],
    primary: usize,
    /// From when on each place is free again.
    free_at: [u32; PLACES],
    steps: Vec<Step>,
}

impl Generator {
    fn fill(&mut self) {
        let mut at = 300;
        // What the family is named after comes once in any case.
        let must = match self.family {
            Family::Failover => Some(Draw::Failover),
            Family::Restart => Some(Draw::RestartPrimary),
            Family::Move => Some(Draw::Move),
            _ => None,
        };
        let must_at = self.random.u32(self.length / 6..self.length / 3);
        let mut must = must.map(|draw| (must_at, draw));
        while at < self.length {
            if let Some((due, draw)) = must
                && at >= due
            {
                if self.draw(draw, at) {
                    must = None;
                }
            } else {
                let draw = self.any();
                self.draw(draw, at);
            }
            at += self.random.u32(30..300);
        }
    }

    fn any(&mut self) -> Draw {
        let weights = weights(self.family);
        let total: u32 = weights.iter().map(|(weight, _)| weight).sum();
        let mut dice = self.random.u32(..total);
        for (weight, draw) in weights {
            match dice.checked_sub(*weight) {
                Some(rest) => dice = rest,
                None => return *draw,
            }
        }
        Draw::Link
    }

    /// Draws a fault at this time. False when its place is busy.
    fn draw(&mut self, draw: Draw, at: u32) -> bool {
        let lasts = self.random.u32(60..900);
        let held = lasts.min(HOLD);
        match draw {
            Draw::Link => {
                let node = self.replica();
                let wire = self.link_fault();
                self.one(Place::Link(node), at, lasts, Fault::Link(node, wire))
            }
            Draw::FreezeReplica => {
                let node = self.replica();
                self.one(Place::Node(node), at, lasts, Fault::Freeze(node))
            }
            Draw::Stall => {
                let node = self.replica();
                self.one(Place::Node(node), at, lasts, Fault::Stall(node))
            }
            Draw::KillReplica => {
                let node = self.replica();
                // Without data, or with those of some time ago.
                let fault = if self.random.bool() {
                    Fault::Kill(node)
                } else {
                    Fault::Rollback(node)
                };
                self.one(Place::Node(node), at, lasts, fault)
            }
            Draw::RestartReplica => {
                let node = self.replica();
                self.one(Place::Node(node), at, 0, Fault::Restart(node))
            }
            Draw::FrontOfNode => {
                let node = self.replica();
                let wire = self.front_fault();
                let front = Fault::Front(Front::Node(node), wire);
                self.one(Place::FrontOfNode(node), at, held, front)
            }
            Draw::FrontOfPrimary => {
                let process = self.random.usize(..PROCESSES);
                let wire = self.front_fault();
                let front = Fault::Front(Front::Primary(process), wire);
                self.one(Place::FrontOfPrimary(process), at, held, front)
            }
            Draw::FreezePrimary => {
                let node = self.primary;
                self.one(Place::Node(node), at, held, Fault::Freeze(node))
            }
            Draw::PauseReplica => {
                let node = self.replica();
                self.one(Place::Node(node), at, lasts, Fault::ClientPause(node))
            }
            Draw::PausePrimary => {
                let node = self.primary;
                self.one(Place::Node(node), at, held, Fault::ClientPause(node))
            }
            Draw::DisconnectReplica => {
                let node = self.replica();
                self.one(Place::Node(node), at, 0, Fault::Disconnect(node))
            }
            Draw::DisconnectPrimary => {
                let node = self.primary;
                self.one(Place::Node(node), at, 0, Fault::Disconnect(node))
            }
            Draw::Rebuild => {
                let process = self.random.usize(..PROCESSES);
                self.push(at, 0, Fault::Rebuild(process));
                true
            }
            Draw::Move => self.move_to_a_lagging_one(at),
            Draw::Failover => self.fail_over(at),
            Draw::RestartPrimary => self.restart_primary(at),
        }
    }

    /// One of those that follow; of a family that wants one caught up, never that one.
    fn replica(&mut self) -> usize {
        loop {
            let node = self.random.usize(..NODES);
            if node != self.primary && (self.family != Family::Lag || node != 1) {
                return node;
            }
        }
    }

    fn link_fault(&mut self) -> Wire {
        match self.random.u32(..7) {
            0 | 1 => Wire::Pause,
            2 => Wire::Slow(self.random.u32(2_000..60_000)),
            3 => Wire::Delay(self.random.u32(20..400)),
            4 => Wire::Cut,
            5 => Wire::BlackHole,
            _ => Wire::Split(self.random.u32(1..2000), self.random.u32(..4)),
        }
    }

    fn front_fault(&mut self) -> Wire {
        match self.random.u32(..12) {
            0 => Wire::Pause,
            1 => Wire::Delay(self.random.u32(1..60)),
            2 | 3 => Wire::Cut,
            4 => Wire::BlackHole,
            5 => Wire::Refuse,
            6 | 7 => Wire::Split(self.random.u32(1..400), self.random.u32(..3)),
            8 | 9 => Wire::Hold(self.random.u32(1..6_000)),
            _ => Wire::HoldReplies(self.random.u32(1..20_000)),
        }
    }

    fn is_free(&self, place: Place, at: u32) -> bool {
        self.free_at.get(index(place)).is_some_and(|free| *free <= at)
    }

    fn occupy(&mut self, place: Place, until: u32) {
        if let Some(free) = self.free_at.get_mut(index(place)) {
            *free = (*free).max(until + REST);
        }
    }

    fn push(&mut self, at: u32, lasts: u32, fault: Fault) {
        self.steps.push(Step { at, lasts, fault });
    }

    fn one(&mut self, place: Place, at: u32, lasts: u32, fault: Fault) -> bool {
        let free = self.is_free(place, at);
        if free {
            self.occupy(place, at + lasts);
            self.push(at, lasts, fault);
        }
        free
    }

    /// Occupies all nodes and their links, if they are free.
    fn occupy_nodes(&mut self, at: u32, until: u32) -> bool {
        let places = || (0..NODES).flat_map(|node| [Place::Node(node), Place::Link(node)]);
        if !places().all(|place| self.is_free(place, at)) {
            return false;
        }
        places().for_each(|place| self.occupy(place, until));
        true
    }

    fn set_upstream(&mut self, node: usize, upstream: Option<usize>) {
        if let Some(slot) = self.upstreams.get_mut(node) {
            *slot = upstream;
        }
    }

    fn follow(&mut self, at: u32, node: usize, upstream: usize) {
        self.push(at, 0, Fault::Follow(node, upstream));
        self.set_upstream(node, Some(upstream));
    }

    /// Whether one gets its stream from the other, if through others.
    fn follows(&self, node: usize, other: usize) -> bool {
        let upstream = |node: usize| self.upstreams.get(node).copied().flatten();
        std::iter::successors(upstream(node), |node| upstream(*node))
            .take(NODES)
            .any(|node| node == other)
    }

    /// A replica is sent to one that lags, and back: its data go back in time, in the same history (law 4 of the
    /// protocol facts).
    fn move_to_a_lagging_one(&mut self, at: u32) -> bool {
        let away = self.random.u32(300..900);
        let end = at + 250 + away;
        if !self.occupy_nodes(at, end) {
            return false;
        }
        let node = self.replica();
        let mut lagging = self.replica();
        while lagging == node {
            lagging = self.replica();
        }
        if self.follows(lagging, node) {
            self.follow(at, lagging, self.primary);
            let delay = Wire::Delay(self.random.u32(300..900));
            self.push(at, 250 + away, Fault::Link(lagging, delay));
        } else {
            // It stays where it is now, and its link stays up, without which nobody could follow it.
            self.push(at, 250 + away, Fault::Link(lagging, Wire::Pause));
        }
        let front = Place::FrontOfNode(node);
        if self.random.u32(..4) > 0 && self.is_free(front, at + 200) {
            // A flush that takes this long is asked before the move, and answered after it.
            let split = Wire::Split(self.random.u32(10..80), self.random.u32(1..5));
            self.occupy(front, at + 200 + HOLD);
            self.push(at + 200, HOLD, Fault::Front(Front::Node(node), split));
        }
        self.follow(at + 250, node, lagging);
        let home = if self.random.bool() { self.primary } else { lagging };
        self.follow(end, node, home);
        true
    }

    /// A replica becomes the primary. The old one has died, stands still, or goes on as before; processes hear of it
    /// at different times; some writes have not reached the new one.
    fn fail_over(&mut self, at: u32) -> bool {
        let (old, new) = (self.primary, self.replica());
        let lead = self.random.u32(50..500);
        let promoted = at + lead;
        let parted = self.random.u32(100..1_200);
        let until = promoted + parted + 400;
        if !self.occupy_nodes(at, until) {
            return false;
        }
        for process in 0..PROCESSES {
            self.occupy(Place::FrontOfPrimary(process), until);
        }
        if self.random.bool() {
            self.push(at, lead + 50, Fault::Link(new, Wire::Pause));
        }
        match self.random.u32(..3) {
            0 => self.push(promoted.saturating_sub(30), parted, Fault::Kill(old)),
            1 => self.push(promoted.saturating_sub(30), parted.min(HOLD), Fault::Freeze(old)),
            _ => {}
        }
        self.push(promoted, 0, Fault::Promote(new));
        self.set_upstream(new, None);
        self.primary = new;
        for node in (0..NODES).filter(|node| *node != new && *node != old) {
            let at = promoted + self.random.u32(..parted);
            // One that has followed the new one already may be left as it is.
            if self.upstreams.get(node) != Some(&Some(new)) || self.random.bool() {
                self.follow(at, node, new);
            }
        }
        for process in 0..PROCESSES {
            let at = promoted + self.random.u32(..parted);
            self.push(at, 0, Fault::Point(process, new));
        }
        self.follow(promoted + parted + 100, old, new);
        true
    }

    /// The primary is restarted in its place, now and then behind a link that says nothing (law 5).
    fn restart_primary(&mut self, at: u32) -> bool {
        let away = self.random.u32(50..900);
        let until = at + away + 600;
        if !self.occupy_nodes(at, until) {
            return false;
        }
        if self.random.bool() {
            let (node, longer) = (self.replica(), self.random.u32(200..1_500));
            let wire = if self.random.bool() {
                Wire::BlackHole
            } else {
                Wire::Pause
            };
            self.push(at, away + longer, Fault::Link(node, wire));
            self.occupy(Place::Link(node), at + away + longer);
        }
        let fault = match self.random.u32(..3) {
            0 => Fault::Kill(self.primary),
            1 => Fault::Restart(self.primary),
            _ => Fault::Rollback(self.primary),
        };
        let lasts = if matches!(fault, Fault::Restart(_)) {
            0
        } else {
            away
        };
        self.push(at + 20, lasts, fault);
        true
    }
}
