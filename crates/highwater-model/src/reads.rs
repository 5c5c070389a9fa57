//! Reads and samples on their way to a node.

use highwater_core::Requirement;

use crate::{
    cluster::Node,
    process::{After, Aim, Asking, Command},
    state::Step,
    variant::Variant,
};

impl Step<'_> {
    /// A read at any node; of a session that has lost its token, the sample that comes first.
    pub(crate) fn begin_read(&mut self, at: usize, node: Node) -> bool {
        let process = &self.state.processes[at];
        let in_flight = process.writing.as_ref().is_some_and(|writing| writing.awaited);
        if in_flight || process.asking.is_some() {
            return false;
        }
        let requirement = process.requirement();
        let at_primary = node == process.primary;
        if requirement.in_doubt() && !at_primary {
            return false;
        }
        let aim = if requirement.needs_barrier() {
            Aim::Barrier
        } else if at_primary {
            Aim::Primary
        } else {
            Aim::Replica
        };
        let remembers = process.remembers();
        let commands = match aim {
            Aim::Barrier | Aim::Overdue => vec![Command::Trail],
            Aim::Primary if requirement.is_empty() && !remembers => vec![Command::Get],
            Aim::Primary => vec![Command::Trail, Command::Get],
            Aim::Replica if remembers => vec![Command::Trail, Command::Get, Command::Lead],
            Aim::Replica if requirement.is_empty() => vec![Command::Get],
            Aim::Replica if self.variant() == Variant::RememberedProgress => vec![Command::Get],
            Aim::Replica => vec![Command::Get, Command::Lead],
        };
        self.ask(at, node, aim, requirement, commands)
    }

    /// A session asks for a sample that settles what is too old to happen any more. The grace time stands for this: no
    /// write that the session is in doubt about can still arrive.
    pub(crate) fn begin_overdue(&mut self, at: usize) -> bool {
        let process = &self.state.processes[at];
        let requirement = process.requirement();
        let doubtful = process.needs.doubtful;
        let underway = |write: u8| doubtful & (1 << write) != 0;
        let network = self.state.network.iter().any(|late| underway(late.write));
        let flight = self
            .state
            .processes
            .iter()
            .filter_map(|process| process.writing.as_ref())
            .any(|writing| underway(writing.write));
        if network || flight || process.asking.is_some() || requirement.in_doubt_since().is_none() {
            return false;
        }
        let primary = process.primary;
        self.ask(at, primary, Aim::Overdue, requirement, vec![Command::Trail])
    }

    pub(crate) fn ask(
        &mut self,
        at: usize,
        node: Node,
        aim: Aim,
        requirement: Requirement,
        commands: Vec<Command>,
    ) -> bool {
        self.connect(at, node);
        let must = self.state.processes[at].needs.now(&self.state.cluster);
        self.process(at).asking = Some(Asking {
            aim,
            node,
            requirement,
            must,
            commands,
            value: 0,
            replied: None,
            low: None,
            high: None,
            after: After::default(),
        });
        if !self.scenario.split_reads {
            while self.step_read(at) {}
            let lasting = self.scenario.lasting;
            let process = self.process(at);
            if !lasting && process.primary != node && process.asking.is_none() {
                process.connections[node] = None;
            }
        }
        true
    }

    /// The server carries out the next command of a flush.
    pub(crate) fn step_read(&mut self, at: usize) -> bool {
        let process = self.process(at);
        let node = match &process.asking {
            Some(asking) if !asking.commands.is_empty() => asking.node,
            _ => return false,
        };
        // What was sent before it on the same connection comes first.
        if process
            .writing
            .as_ref()
            .is_some_and(|writing| writing.node == node)
        {
            return false;
        }
        let Some(mut asking) = process.asking.take() else {
            return false;
        };
        let (progress, data) = (self.info(node), self.state.cluster.servers[node].data);
        let after = self.after(node, &asking.requirement);
        let command = asking.commands.pop();
        let unchecked = self.variant() == Variant::UncheckedPush;
        let across = self.variant() == Variant::ProofAcrossIds;
        let remembered = self.variant() == Variant::RememberedProgress;
        let Some(connection) = &mut self.process(at).connections[node] else {
            return false;
        };
        let witness = &mut connection.witness;
        match command {
            Some(Command::Lead) => {
                witness.lead(Some(progress));
                asking.low = Some(progress);
                self.observe(at, node, progress);
            }
            Some(Command::Get) => {
                asking.replied = Some(witness.replied());
                asking.low = match witness.lower_bound() {
                    None if unchecked => asking.low,
                    bound => bound,
                };
                if remembered && asking.aim == Aim::Replica {
                    asking.low = Some(*witness.previous());
                }
                asking.value = data;
            }
            Some(Command::Trail) => {
                if asking.aim == Aim::Replica {
                    let bounds = asking
                        .replied
                        .and_then(|replied| witness.bounds(&replied, Some(&progress)));
                    (asking.low, asking.high) = bounds.unzip();
                } else {
                    let proves = witness.proves(&progress) || across && witness.marks(&progress);
                    asking.high = proves.then_some(progress);
                    asking.after = after;
                }
                self.observe(at, node, progress);
            }
            None => {}
        }
        let last = asking.commands.is_empty();
        if last && let Some(connection) = &mut self.process(at).connections[node] {
            connection.witness.end_flush();
        }
        self.process(at).asking = Some(asking);
        if last && !self.scenario.late_replies {
            self.deliver(at);
        }
        true
    }
}
