//! What the replies show, and what proofs of the primary conclude.

use highwater_core::{Coverage, Offset, Progress, Requirement, Role, Scope, View};

use crate::{
    cluster::Server,
    judge::{Event, Violation},
    process::{After, Aim, Asking},
    state::{Step, mark},
    variant::Variant,
};

impl Step<'_> {
    /// The client takes in the replies to a flush.
    pub(crate) fn deliver(&mut self, at: usize) -> bool {
        let process = self.process(at);
        let Some(asking) = process.asking.take_if(|asking| asking.commands.is_empty()) else {
            return false;
        };
        match asking.aim {
            Aim::Replica => self.take_replicas(at, &asking),
            Aim::Primary => self.take_primarys(at, &asking),
            Aim::Barrier => {
                let now = process.requirement();
                let requirement = if self.variant() == Variant::IgnoresClock {
                    &now
                } else {
                    &asking.requirement
                };
                match asking.high {
                    Some(progress) if self.process(at).view.settle_doubt(requirement, &mark(&progress)) => {
                        // It is visible that doubt was settled; what of it a failover has lost can't be said any more.
                        let lost = asking.must & !asking.after.data;
                        self.process(at).needs.reduce(!lost);
                        self.event(Event::Settled);
                    }
                    _ => self.event(Event::Refused),
                }
            }
            Aim::Overdue => match asking.high {
                Some(progress)
                    if self
                        .process(at)
                        .view
                        .settle_overdue(&asking.requirement, &mark(&progress)) =>
                {
                    self.event(Event::Settled);
                }
                _ => self.event(Event::Refused),
            },
        }
        true
    }

    pub(crate) fn take_replicas(&mut self, at: usize, asking: &Asking) {
        let unchecked = self.variant() == Variant::ProofUnchecked;
        let proves = unchecked
            || asking.requirement.is_empty() && !self.state.processes[at].remembers()
            || asking.low.is_some_and(|low| {
                low.role == Role::Replica
                    && low.read_only
                    && self.coverage(&asking.requirement, &low, at) == Coverage::Covered
            });
        if !proves {
            self.event(Event::Refused);
            return;
        }
        self.judge(at, asking.must & !asking.value);
        let behind = |server: &Server| asking.must & !server.data != 0;
        if asking.must != 0 {
            let at_risk = self.state.cluster.servers.iter().any(behind);
            self.event(if at_risk { Event::AtRisk } else { Event::Served });
        }
        let bound = if self.variant() == Variant::LowerBoundRemembered {
            asking.low
        } else {
            asking.high
        };
        let cleared = self.variant() == Variant::ClearedByOneReplica;
        let forgets = self.variant() == Variant::ReadsForgotten;
        let process = self.process(at);
        if process.remembers() {
            if let Some(bound) = bound.filter(|_| !forgets) {
                process.view.add_read(&mark(&bound));
            }
            process.needs.seen |= asking.value;
        }
        if cleared {
            process.view = View::default();
        }
    }

    /// What a replica's progress covers, by the rules or without one of them.
    pub(crate) fn coverage(&self, requirement: &Requirement, low: &Progress, at: usize) -> Coverage {
        let edges = &self.state.processes[at].edges;
        match self.variant() {
            Variant::RoleWithoutHistory => {
                let behind = requirement
                    .points()
                    .iter()
                    .any(|point| point.offset > Offset::at(low.applied));
                if behind {
                    Coverage::Behind
                } else {
                    Coverage::Covered
                }
            }
            Variant::BelievesOffsetOne => {
                // Of what a replica may conclude, this rule alone does not hold for a primary.
                let low = Progress {
                    role: Role::Primary,
                    ..*low
                };
                requirement.coverage(&low, edges)
            }
            _ => requirement.coverage(low, edges),
        }
    }

    pub(crate) fn take_primarys(&mut self, at: usize, asking: &Asking) {
        let needless = asking.requirement.is_empty() && !self.state.processes[at].remembers();
        if needless || self.variant() == Variant::PrimaryExempt {
            self.judge(at, asking.must & !asking.value);
            return;
        }
        let Some(progress) = asking.high else {
            self.event(Event::Refused);
            return;
        };
        let coverage = self.primarys_coverage(at, &asking.requirement, &progress);
        if coverage == Coverage::Covered {
            self.judge(at, asking.must & !asking.value);
        } else if self.variant() == Variant::UnmetRefused {
            self.event(Event::Refused);
            return;
        }
        if self.process(at).remembers() {
            self.process(at).needs.seen |= asking.value;
        }
        self.admit(at, &asking.requirement, &progress, &asking.after);
    }

    /// What a primary's progress covers, by the rules or without one of them.
    pub(crate) fn primarys_coverage(
        &self,
        at: usize,
        requirement: &Requirement,
        progress: &Progress,
    ) -> Coverage {
        let coverage = requirement.coverage(progress, &self.state.processes[at].edges);
        match (coverage, self.variant()) {
            (Coverage::PossiblyLost, Variant::LossUnsaid) | (Coverage::Unknown, Variant::UnknownCovered) => {
                Coverage::Covered
            }
            (coverage, _) => coverage,
        }
    }

    /// Takes in what a primary's proof says, of a read or of a write.
    pub(crate) fn admit(&mut self, at: usize, requirement: &Requirement, progress: &Progress, after: &After) {
        let scope = Scope::default();
        let edges = self.state.processes[at].edges.clone();
        let coverage = self.primarys_coverage(at, requirement, progress);
        match coverage {
            Coverage::Covered => {}
            Coverage::Behind => self.violation(Some(Violation::Disbelief)),
            worst => {
                for (place, point) in requirement.points().iter().enumerate() {
                    let (lacks, tells) = (after.lacks >> place & 1 == 1, after.tells >> place & 1 == 1);
                    let known = !point.offset.is_unknown();
                    let false_loss = match progress.covers(point.history, point.offset, &edges) {
                        Coverage::PossiblyLost => known && !lacks,
                        Coverage::Unknown => known && !lacks && tells,
                        Coverage::Covered | Coverage::Behind => false,
                    };
                    if false_loss {
                        self.violation(Some(Violation::FalseLoss));
                    }
                }
                if worst == Coverage::PossiblyLost {
                    if self.process(at).needs.acknowledged & !after.data != 0 {
                        self.event(Event::Loss);
                    }
                    self.process(at).needs.reduce(after.data);
                } else {
                    self.event(Event::Unknown);
                }
            }
        }
        let process = self.process(at);
        if coverage != Coverage::Covered {
            process
                .view
                .record_discontinuity(&scope, requirement, progress, &edges);
        }
        process
            .view
            .proven_by_primary(&scope, requirement, progress, &edges);
        if process.remembers() {
            process.view.add_read(&mark(progress));
        }
    }
}
