//! The choice of a replica, by hints.

use std::{sync::Arc, time::Instant};

use highwater_core::{Coverage, Point, Reason, Requirement, Role};

use super::Router;
use crate::{
    defaults::HINT_AGE,
    node::{Node, NodeId, Sample},
    topology::Members,
};

/// Where a read goes next.
pub(super) enum Choice<'a> {
    /// To this replica now.
    Ask(&'a Arc<Node>),
    /// To no replica yet: this one is likely to reach the point before the time.
    Wait(&'a Arc<Node>, Point, Instant),
    /// To the primary.
    Primary(Reason),
}

impl Router {
    /// Chooses among the replicas: the less loaded of two that have caught up by their last word, of the
    /// preferred zone if there are such;
    /// else the one that is likely to have caught up soonest, if that is within the wait; else the
    /// primary.
    pub(super) fn choose<'a>(
        &self,
        members: &'a Members,
        requirement: &Requirement,
        failed: Option<NodeId>,
        deadline: &mut Option<Instant>,
    ) -> Choice<'a> {
        let others = || members.replicas.iter().filter(|node| failed != Some(node.id));
        let covered = || {
            others().filter(|node| {
                let covers = |sample: &Sample| {
                    !self.check_proofs || self.coverage(requirement, &sample.progress) == Coverage::Covered
                };
                node.if_usable(requirement, covers) == Some(true)
            })
        };
        let near = if members.prefers_zone {
            less_loaded(covered().filter(|node| node.preferred))
        } else {
            None
        };
        if let Some(node) = near.or_else(|| less_loaded(covered())) {
            return Choice::Ask(node);
        }
        // The hints are behind. They may be old: go by when each replica is likely to be there.
        let Some(point) = requirement.points().first().copied() else {
            return Choice::Primary(Reason::Unhealthy);
        };
        let now = Instant::now();
        let deadline = *deadline.get_or_insert(now + self.max_wait);
        let mut soonest: Option<(&Arc<Node>, Instant)> = None;
        let usable = others().filter_map(|node| Some((node, node.if_usable(requirement, |sample| *sample)?)));
        for (node, sample) in usable {
            let ready = self.ready_at(node, &sample, point, now);
            if soonest.is_none_or(|(_, before)| ready < before) {
                soonest = Some((node, ready));
            }
        }
        let Some((node, ready)) = soonest else {
            return Choice::Primary(Reason::Unhealthy);
        };
        // A requirement of several histories (a failover is under way) is the primary's to judge.
        if requirement.points().len() > 1 {
            return Choice::Primary(Reason::Behind);
        }
        if ready <= now {
            // By now it should be there, and only its last word is old: the proof will tell.
            return Choice::Ask(node);
        }
        if ready > deadline {
            node.refresh_hint(HINT_AGE);
            return Choice::Primary(Reason::Behind);
        }
        Choice::Wait(node, point, deadline)
    }

    pub(super) fn ready_at(&self, node: &Node, sample: &Sample, point: Point, now: Instant) -> Instant {
        let timeline = self.knowledge.timeline();
        // What the primary has not been seen at was written elsewhere, just now for all we know.
        let reached = match (timeline.latest(), point.offset.position()) {
            (Some((history, _)), Some(position)) if history == point.history => timeline.reached(position),
            _ => None,
        };
        drop(timeline);
        node.lag().ready_at(reached.unwrap_or(now), sample.at)
    }
}

/// The less loaded of two of these, chosen at random.
fn less_loaded<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Option<&'a Arc<Node>> {
    let mut chosen: [Option<&Arc<Node>>; 2] = [None, None];
    // Reservoir sampling: each pair is equally likely, and nothing is allocated.
    for (seen, node) in nodes.enumerate() {
        let place = if seen < 2 { seen } else { fastrand::usize(..=seen) };
        if let Some(slot) = chosen.get_mut(place) {
            *slot = Some(node);
        }
    }
    let [Some(one), Some(other)] = chosen else {
        return chosen[0];
    };
    // One that has just lost its connection is loaded most.
    let [a, b] = [one, other].map(|node| {
        node.with_connection(|connection| connection.load())
            .unwrap_or(usize::MAX)
    });
    Some(if a < b || (a == b && fastrand::bool()) {
        one
    } else {
        other
    })
}

impl Node {
    /// Looks at the node's last word where it is, when a read of this requirement could be sent to it.
    fn if_usable<T>(&self, requirement: &Requirement, look: impl FnOnce(&Sample) -> T) -> Option<T> {
        self.with_hint(|sample| {
            let progress = &sample.progress;
            let fit = progress.role == Role::Replica
                && progress.read_only
                // A replica that has lost its primary covers what it has, and falls behind for the rest.
                && (progress.link_up || !requirement.is_empty())
                && !self.is_suspended();
            fit.then(|| look(sample))
        })
        .flatten()
    }
}
