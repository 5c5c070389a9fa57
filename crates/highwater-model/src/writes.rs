//! Writes, and the samples that trail them.

use highwater_core::{Conclusion, Coverage, Offset, Requirement, Role, Scope, View};

use crate::{
    cluster::Node,
    process::{After, Writing},
    state::Step,
    variant::Variant,
};

impl Step<'_> {
    pub(crate) fn begin_write(&mut self, at: usize) -> bool {
        let process = &self.state.processes[at];
        if process.writing.is_some() || process.asking.is_some() {
            return false;
        }
        let node = process.primary;
        self.connect(at, node);
        let old = self.variant() == Variant::WriteInReplicasHistory;
        let must = self.state.processes[at].needs.now(&self.state.cluster);
        let write = self.state.written;
        self.state.written += 1;
        let process = self.process(at);
        let requirement = process.requirement();
        let Some(connection) = &process.connections[node] else {
            return false;
        };
        let history = if old {
            connection.witness.previous().history
        } else {
            connection.witness.history()
        };
        let id = process.view.begin_write(&Scope::default(), history);
        process.writing = Some(Writing {
            id,
            write,
            node,
            requirement,
            must,
            value: 0,
            awaited: true,
            executed: None,
            before: None,
        });
        if !self.scenario.split_writes {
            self.step_write(at);
            self.step_write(at);
        }
        true
    }

    /// The caller of a write goes away.
    pub(crate) fn abandon(&mut self, at: usize) -> bool {
        let forgets = self.variant() == Variant::AbandonedForgotten;
        let process = self.process(at);
        let Some(writing) = process.writing.as_mut().filter(|writing| writing.awaited) else {
            return false;
        };
        writing.awaited = false;
        if forgets {
            process.view.conclude(writing.id, Conclusion::NotSent);
        } else {
            process.view.abandon(writing.id);
        }
        process.needs.doubtful |= 1 << writing.write;
        true
    }

    /// The server carries out the write, or the `INFO` behind it.
    pub(crate) fn step_write(&mut self, at: usize) -> bool {
        let Some(mut writing) = self.process(at).writing.take() else {
            return false;
        };
        let node = writing.node;
        let Some(applied) = writing.executed else {
            writing.before = (self.variant() == Variant::MarkInsideMulti).then(|| self.info(node));
            let mut notices = Vec::new();
            let applied = self.state.cluster.write(node, writing.write, &mut notices);
            writing.executed = Some(applied);
            writing.value = self.state.cluster.servers[node].data;
            self.process(at).writing = Some(writing);
            self.notice(&notices);
            return true;
        };
        let progress = writing.before.unwrap_or_else(|| self.info(node));
        let after = self.after(node, &writing.requirement);
        let gap = self.variant() == Variant::MarkAcrossGap && progress.role == Role::Primary;
        let process = self.process(at);
        let (marks, proves) = process.connections[node]
            .as_ref()
            .map_or((false, false), |connection| {
                let witness = &connection.witness;
                (witness.marks(&progress), witness.proves(&progress))
            });
        let primary = (marks || gap).then_some(progress);
        self.observe(at, node, progress);
        let forgets = self.variant() == Variant::UnmarkedForgotten;
        let conclusion = match primary {
            _ if !applied || primary.is_none() && forgets => Conclusion::NotSent,
            Some(progress) => Conclusion::Settled {
                history: progress.history,
                offset: Offset::at(progress.applied),
            },
            None => Conclusion::Applied,
        };
        self.conclude(at, writing.id, conclusion);
        if applied && writing.awaited {
            self.process(at).needs.acknowledged |= 1 << writing.write;
        }
        // The reply to a write is judged as well, and shows data: as that of `INCR` does.
        let Some(progress) = primary.filter(|_| proves && applied) else {
            return true;
        };
        let unjudged = [Variant::PrimaryExempt, Variant::WritesUnjudged].contains(&self.variant());
        let coverage = self.primarys_coverage(at, &writing.requirement, &progress);
        if unjudged || coverage == Coverage::Covered {
            if writing.awaited && !writing.requirement.needs_barrier() {
                self.judge(at, writing.must & !writing.value);
            }
        } else if !writing.requirement.needs_barrier() {
            self.admit(at, &writing.requirement, &progress, &after);
        }
        true
    }

    /// What became of a write is known.
    pub(crate) fn conclude(&mut self, at: usize, id: u64, conclusion: Conclusion) {
        let forgets = self.variant() == Variant::OverflowForgotten;
        let view = &mut self.process(at).view;
        let before = view.marks();
        view.conclude(id, conclusion);
        if forgets && view.marks().is_in_doubt(&Scope::default()) {
            *view = View::of(before);
        }
    }

    pub(crate) fn after(&self, node: Node, requirement: &Requirement) -> After {
        let cluster = &self.state.cluster;
        let mut after = After {
            data: cluster.servers[node].data,
            ..After::default()
        };
        for (place, point) in requirement.points().iter().enumerate() {
            let lacks = point
                .offset
                .position()
                .is_none_or(|offset| cluster.lacks(node, point.history, offset));
            after.lacks |= u8::from(lacks) << place;
            after.tells |= u8::from(cluster.tells_parent(node, point.history)) << place;
        }
        after
    }
}
