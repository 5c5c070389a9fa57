//! Random schedules for nodes that sentinels watch.
//!
//! Which node is the primary is not known beforehand, so most faults hit "the primary", or one that follows it. What hits
//! a place that is broken already when its time comes is left out then. Sentinels take about two seconds to choose
//! another primary, and then let some time pass before they do it again.

use std::collections::HashMap;

use fastrand::Rng;

use super::{
    Family, Fault, Front, PRIMARY, PROCESSES, Place, SENTINELS, Schedule, Step, Topology, WATCHED, Wire,
    generate::without_steps,
};

/// Between two faults at one place, in milliseconds.
const REST: u32 = 150;
/// Between two events that make sentinels choose, in milliseconds.
const EVENTS: std::ops::Range<u32> = 3800..5200;

/// Makes the schedule.
pub(super) fn schedule(seed: u64, family: Family, length: u32) -> Schedule {
    let mut random = Rng::with_seed(seed);
    let mut schedule = without_steps(&mut random, seed, family, length);
    schedule.topology = Topology::Sentinel;
    // Any node may become the primary; in some rounds a replica lags so much that its data are old.
    schedule.delays = match random.u32(..3) {
        _ if family == Family::Sudden => [(0, 0); 3],
        0 => [(0, 2), (0, 2), (0, 2)],
        1 => [(0, 3), (0, 3), (30, 80)],
        _ => [(0, 3), (20, 50), (150, 300)],
    };
    let mut generator = Generator {
        random,
        family,
        length,
        free_at: HashMap::new(),
        steps: Vec::new(),
    };
    generator.fill();
    schedule.steps = generator.steps;
    schedule.steps.sort_by_key(|step| step.at);
    schedule
}

struct Generator {
    random: Rng,
    family: Family,
    length: u32,
    /// From when on each place is free again.
    free_at: HashMap<Place, u32>,
    steps: Vec<Step>,
}

impl Generator {
    fn fill(&mut self) {
        let mut at = self.random.u32(500..900);
        loop {
            self.event(at);
            at += self.random.u32(EVENTS);
            if at + 1000 > self.length {
                break;
            }
        }
        let mut at = 200;
        while at < self.length && self.family != Family::Sudden {
            self.noise(at);
            at += self.random.u32(60..500);
        }
    }

    fn push(&mut self, at: u32, lasts: u32, fault: Fault) {
        self.steps.push(Step { at, lasts, fault });
    }

    /// Unless its place is busy.
    fn one(&mut self, at: u32, lasts: u32, fault: Fault) {
        if let Some(place) = fault.place() {
            let free = self.free_at.entry(place).or_default();
            if *free > at {
                return;
            }
            *free = at + lasts + REST;
        }
        self.push(at, lasts, fault);
    }

    /// Something that makes sentinels choose another primary, as a rule.
    fn event(&mut self, at: u32) {
        match self.family {
            Family::Handover => self.hand_over(at),
            Family::Sudden => {
                let lasts = self.random.u32(2500..3200);
                self.one(at, lasts, Fault::Kill(PRIMARY));
            }
            Family::Sentinels => {
                // Two that are left agree; one alone has to wait until another is back.
                let first = self.random.usize(..SENTINELS);
                let count = if self.random.u32(..3) == 0 { 2 } else { 1 };
                for sentinel in (first..first + count).map(|sentinel| sentinel % SENTINELS) {
                    let (before, lasts) = (self.random.u32(..400), self.random.u32(1200..2600));
                    let fault = if self.random.bool() {
                        Fault::KillSentinel(sentinel)
                    } else {
                        Fault::FreezeSentinel(sentinel)
                    };
                    self.one(at.saturating_sub(before), lasts, fault);
                }
                self.silence(at);
            }
            Family::Turmoil => match self.random.u32(..4) {
                0 => self.hand_over(at),
                1 => {
                    let lasts = self.random.u32(100..1500);
                    match self.random.u32(..2) {
                        0 => self.one(at, 0, Fault::Restart(PRIMARY)),
                        _ => self.one(at, lasts, Fault::Rollback(PRIMARY)),
                    }
                }
                _ => self.silence(at),
            },
            _ => self.silence(at),
        }
    }

    /// The primary does not answer: for long enough as a rule, but not always, for sentinels to agree on that.
    fn silence(&mut self, at: u32) {
        let brief = self.random.u32(..6) == 0;
        let lasts = if brief {
            self.random.u32(100..500)
        } else {
            self.random.u32(2000..3200)
        };
        let wire = |wire| Fault::Front(Front::Node(PRIMARY), wire);
        let fault = match self.random.u32(..8) {
            // Back before sentinels have chosen another one, it has nothing, and nobody has anything any more.
            0..3 if !brief || self.random.u32(..4) == 0 => Fault::Kill(PRIMARY),
            ..5 => Fault::Freeze(PRIMARY),
            5 => wire(Wire::BlackHole),
            6 => wire(Wire::Refuse),
            _ => wire(Wire::Pause),
        };
        self.one(at, lasts, fault);
    }

    /// The old primary lives on, and takes writes for as long as anybody sends it some.
    fn hand_over(&mut self, at: u32) {
        if self.random.u32(..3) == 0 {
            // Some writes are not at the new one yet when it parts.
            let lasts = self.random.u32(300..1200);
            for follower in 1..WATCHED {
                self.one(
                    at.saturating_sub(100),
                    lasts,
                    Fault::Link(PRIMARY + follower, Wire::Pause),
                );
            }
        }
        self.push(at, 0, Fault::FailOver);
    }

    fn follower(&mut self) -> usize {
        PRIMARY + self.random.usize(1..WATCHED)
    }

    fn noise(&mut self, at: u32) {
        let lasts = self.random.u32(60..700);
        let follower = self.follower();
        match self.random.u32(..20) {
            0..7 => {
                let wire = match self.random.u32(..6) {
                    0..3 => Wire::Pause,
                    3 => Wire::Slow(self.random.u32(2_000..60_000)),
                    4 => Wire::Delay(self.random.u32(20..400)),
                    _ => Wire::Cut,
                };
                self.one(at, lasts, Fault::Link(follower, wire));
            }
            7..11 => {
                let wire = match self.random.u32(..8) {
                    0 => Wire::Pause,
                    1 => Wire::Cut,
                    2 => Wire::BlackHole,
                    3 => Wire::Refuse,
                    4 => Wire::Delay(self.random.u32(1..60)),
                    5 => Wire::Hold(self.random.u32(1..6_000)),
                    6 => Wire::HoldReplies(self.random.u32(1..20_000)),
                    _ => Wire::Split(self.random.u32(1..400), self.random.u32(..3)),
                };
                self.one(at, lasts, Fault::Front(Front::Node(follower), wire));
            }
            11 => self.one(at, lasts, Fault::Freeze(follower)),
            12 if self.family != Family::Crash => self.one(at, lasts, Fault::Kill(follower)),
            12 => self.one(at, 0, Fault::Disconnect(PRIMARY)),
            13 => self.one(at, 0, Fault::Restart(follower)),
            14 => self.one(at, lasts, Fault::ClientPause(follower)),
            15 => self.one(at, 0, Fault::Disconnect(follower)),
            16 => {
                let process = self.random.usize(..PROCESSES);
                self.push(at, 0, Fault::Rebuild(process));
            }
            17 if self.family == Family::Turmoil => {
                let sentinel = self.random.usize(..SENTINELS);
                let lasts = self.random.u32(300..2000);
                self.one(at, lasts, Fault::KillSentinel(sentinel));
            }
            _ => {}
        }
    }
}
