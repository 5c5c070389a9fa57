//! Connections: samples, losses, and what settles the writes that they leave in doubt.

use highwater_core::{Conclusion, Progress, Role};

use crate::{
    cluster::Node,
    judge::Event,
    process::{Late, Lost},
    state::Step,
    variant::Variant,
};

impl Step<'_> {
    /// A sample has come in on a connection.
    pub(crate) fn observe(&mut self, process: usize, node: Node, progress: Progress) {
        let variant = self.variant();
        let process = self.process(process);
        let edge = process.connections[node].as_mut().and_then(|connection| {
            let edge = connection.witness.edge(&progress);
            connection.witness.observe(progress);
            edge
        });
        if node == process.primary {
            if let Some(edge) = edge {
                process.edges.learn(edge.child, edge.parent, edge.fork);
            }
            process.edges.learn_from(&progress);
        }
        if let (Variant::ForkFromReplica, Role::Replica, Some(ancestor)) =
            (variant, progress.role, progress.ancestor)
        {
            process
                .edges
                .learn(progress.history, ancestor.history, ancestor.fork);
        }
    }

    /// Connects, if there is no connection: ends the lost ones first, where that is allowed, and takes a sample.
    pub(crate) fn connect(&mut self, at: usize, node: Node) {
        if self.state.processes[at].connections[node].is_some() {
            return;
        }
        let run = self.state.cluster.servers[node].run;
        let lost = std::mem::take(&mut self.process(at).lost);
        let (kills, settles) = (
            self.scenario.kill_allowed && self.variant() != Variant::SettledByNewConnection,
            self.variant() == Variant::SettledByNewConnection,
        );
        let (gone, kept): (Vec<_>, Vec<_>) = lost
            .into_iter()
            .partition(|lost| lost.node == node && (lost.run != run || kills || settles));
        self.process(at).lost = kept;
        if kills {
            self.state
                .network
                .retain(|late| late.process != at || late.node != node);
        }
        let sample = self.info(node);
        self.process(at).connected(node, run, sample);
        self.observe(at, node, sample);
        self.settle(at, gone, &sample);
    }

    pub(crate) fn settle(&mut self, process: usize, lost: Vec<Lost>, sample: &Progress) {
        for lost in lost {
            let conclusion = Conclusion::of_doubt(lost.history, sample);
            self.conclude(process, lost.id, conclusion);
            if matches!(conclusion, Conclusion::Settled { .. }) {
                self.event(Event::Settled);
            }
        }
    }

    /// The grace time of lost connections has passed, where they may not be ended: the network holds nothing of them.
    pub(crate) fn grace(&mut self, at: usize, node: Node) -> bool {
        let held = self
            .state
            .network
            .iter()
            .any(|late| late.process == at && late.node == node);
        if self.scenario.kill_allowed || held {
            return false;
        }
        self.connect(at, node);
        let lost = std::mem::take(&mut self.process(at).lost);
        let (due, kept): (Vec<_>, Vec<_>) = lost.into_iter().partition(|lost| lost.node == node);
        self.process(at).lost = kept;
        if due.is_empty() {
            return false;
        }
        let sample = self.info(node);
        self.observe(at, node, sample);
        self.settle(at, due, &sample);
        true
    }

    /// A connection is lost. What was sent and not carried out can arrive later, unless the server has ended; a reply may
    /// have come before.
    pub(crate) fn lose(&mut self, at: usize, node: Node, replied: bool, arrives: bool) {
        let variant = self.variant();
        let process = &mut self.state.processes[at];
        let Some(connection) = process.connections[node].take() else {
            return;
        };
        if process.asking.as_ref().is_some_and(|asking| asking.node == node) {
            process.asking = None;
        }
        let Some(writing) = process.writing.take_if(|writing| writing.node == node) else {
            return;
        };
        match writing.executed {
            Some(applied) if replied => {
                let forgotten = !applied || variant == Variant::UnmarkedForgotten;
                let conclusion = if forgotten {
                    Conclusion::NotSent
                } else {
                    Conclusion::Applied
                };
                process.view.conclude(writing.id, conclusion);
                if applied && writing.awaited {
                    process.needs.acknowledged |= 1 << writing.write;
                }
                return;
            }
            None if arrives => self.state.network.push(Late {
                process: at,
                connection: connection.id,
                node,
                run: connection.run,
                write: writing.write,
            }),
            Some(_) | None => {}
        }
        // One whose caller has gone is in doubt already, or was reported since.
        if writing.awaited {
            process.needs.doubtful |= 1 << writing.write;
        }
        if variant == Variant::LostForgotten {
            process.view.conclude(writing.id, Conclusion::NotSent);
            return;
        }
        process.view.abandon(writing.id);
        process.lost.push(Lost {
            node,
            connection: connection.id,
            run: connection.run,
            history: connection.witness.history(),
            id: writing.id,
            write: writing.write,
        });
    }

    /// A write of a lost connection arrives after all.
    pub(crate) fn land(&mut self, place: usize) -> bool {
        if place >= self.state.network.len() {
            return false;
        }
        let late = self.state.network.remove(place);
        if self.state.cluster.servers[late.node].run == late.run {
            let mut notices = Vec::new();
            self.state.cluster.write(late.node, late.write, &mut notices);
            self.notice(&notices);
        }
        true
    }
}
