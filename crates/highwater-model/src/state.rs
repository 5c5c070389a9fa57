//! A state of the model, and what servers and clients do to each other in it.

use highwater_core::{Ancestor, Mark, Offset, Progress, Scope, TokenCodec};

use crate::{
    cluster::{Cluster, Node, Notice, Writes},
    judge::{Event, Violation, silent},
    process::{Late, Process},
    scenario::{Budget, Scenario},
    variant::Variant,
};

/// When tokens are issued and read, in Unix seconds.
const NOW: u64 = 1_700_000_000;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub cluster: Cluster,
    pub processes: Vec<Process>,
    pub network: Vec<Late>,
    pub budget: Budget,
    pub written: u8,
    pub event: Event,
    pub violation: Option<Violation>,
}

/// The mark of a primary's or a replica's progress.
pub(crate) fn mark(progress: &Progress) -> Mark {
    Mark {
        scope: Scope::default(),
        history: progress.history,
        offset: Offset::at(progress.applied),
    }
}

/// A step of a state under a scenario.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub scenario: &'a Scenario,
    pub state: &'a mut State,
}

impl Step<'_> {
    pub(crate) fn variant(&self) -> Variant {
        self.scenario.variant
    }

    pub(crate) fn process(&mut self, process: usize) -> &mut Process {
        &mut self.state.processes[process]
    }

    pub(crate) fn info(&self, node: Node) -> Progress {
        let progress = self
            .state
            .cluster
            .info(node, self.variant() == Variant::BelievesWithoutBacklog);
        if self.variant() != Variant::ForkIgnored {
            return progress;
        }
        let ancestor = progress.ancestor.map(|ancestor| Ancestor {
            fork: u64::MAX,
            ..ancestor
        });
        Progress { ancestor, ..progress }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.state.event = self.state.event.max(event);
    }

    pub(crate) fn violation(&mut self, violation: Option<Violation>) {
        self.state.violation = self.state.violation.or(violation);
    }

    /// Connections notice what servers do.
    pub(crate) fn notice(&mut self, notices: &[Notice]) {
        for notice in notices {
            for process in 0..self.state.processes.len() {
                match *notice {
                    Notice::Null(node) => {
                        if let Some(connection) = &mut self.process(process).connections[node] {
                            connection.witness.null_push();
                        }
                    }
                    Notice::Ended(node) => self.lose(process, node, false, false),
                    Notice::Applied(_) => {}
                }
                if let Some(cache) = &mut self.process(process).cache {
                    cache.notice(*notice);
                }
            }
        }
    }

    /// A reply goes to the caller, without a word of loss.
    pub(crate) fn judge(&mut self, at: usize, missing: Writes) {
        let primary = self.state.processes[at].primary;
        let violation = silent(&self.state.cluster, primary, missing);
        self.violation(violation);
    }

    /// A token travels.
    pub(crate) fn pass_token(&mut self, from: usize, to: usize, readable: bool) -> bool {
        let (needs, marks) = {
            let from = &self.state.processes[from];
            (from.needs, from.view.marks())
        };
        if marks.is_empty() {
            return false;
        }
        let marks = if readable {
            let codec = TokenCodec::unsigned();
            let token = codec.encode(&marks, NOW);
            codec
                .decode(token.as_bytes(), NOW)
                .expect("a token can be read by who issued it")
        } else {
            highwater_core::Marks::in_doubt()
        };
        let ignored = !readable && self.variant() == Variant::BadTokenIgnored;
        let to = self.process(to);
        if !ignored {
            to.view.merge(&marks);
        }
        to.needs.merge(&needs);
        true
    }
}
