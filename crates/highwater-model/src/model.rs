//! The model: what can happen next.

use highwater_core::{History, MAX_MARKS, Mark, Marks, Offset, Scope, View};
use stateright::{Model, Property};

use crate::{
    cache::Cache,
    cluster::{Cluster, Node, Restart, Sync},
    judge::{Event, Violation},
    process::{Aim, Process},
    scenario::Scenario,
    state::{State, Step},
};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A replica applies the next entry of its upstream's stream.
    Apply(Node),
    /// A replica resumes from its upstream.
    Resume(Node, Sync),
    /// The stream moves without a write.
    Ping(Node),
    /// `REPLICAOF NO ONE`.
    Promote(Node),
    /// `REPLICAOF` that node.
    Follow(Node, Node),
    /// A replica's link breaks, for longer than the backlog lasts.
    Cut(Node),
    /// Killed and started anew.
    Restart(Node, Restart),
    /// A snapshot is written.
    Save(Node),
    /// The backlog is freed, and the ID changes.
    FreeBacklog(Node),
    /// A write of a lost connection arrives.
    Land(usize),
    /// A session writes.
    Write(usize),
    /// The server carries out the next command of the write's flush.
    StepWrite(usize),
    /// A session reads at that node.
    Read(usize, Node),
    /// The server carries out the next command of the read's flush.
    StepRead(usize),
    /// The replies to a read arrive.
    Deliver(usize),
    /// The caller of a write goes away.
    Abandon(usize),
    /// The connection to that node is lost; true: after the reply to the write in flight had come.
    Lose(usize, Node, bool),
    /// The grace time for the lost connections to that node has passed.
    Grace(usize, Node),
    /// Doubt from a token is too old to matter: the session asks for a sample.
    Overdue(usize),
    /// The process takes that node for the primary.
    Switch(usize, Node),
    /// The first session's token reaches the second.
    Token(usize, usize),
    /// As `Token`, but it can't be read.
    BadToken(usize, usize),
    /// The feed asks for the value.
    Fill(usize),
    /// The feed asks where its node is.
    Probe(usize),
    /// The feed's node answers.
    ServeFeed(usize),
    /// The client takes a message from the feed's wire.
    TakeFeed(usize),
    /// A caller's task stores a fill that it was handed.
    Store(usize),
    /// The feed's connection is lost.
    LoseFeed(usize),
    /// A read loads the first of the feed's progress and the cache's entry.
    LoadFirst(usize),
    /// The other.
    LoadSecond(usize),
}

impl Action {
    fn take(self, step: &mut Step<'_>) -> bool {
        let mut notices = Vec::new();
        let cluster = &mut step.state.cluster;
        let budget = &mut step.state.budget;
        let mut spend = |of: fn(&mut crate::scenario::Budget) -> &mut u8| {
            let left = of(budget);
            let possible = *left > 0;
            *left = left.saturating_sub(1);
            possible
        };
        let done = match self {
            Self::Apply(node) => cluster.apply(node, &mut notices),
            Self::Resume(node, how) => {
                (how != Sync::Failed || spend(|b| &mut b.failed_syncs))
                    && cluster.sync(node, how, &mut notices)
            }
            Self::Ping(node) => spend(|b| &mut b.pings) && cluster.ping(node),
            Self::Promote(node) => spend(|b| &mut b.promotions) && cluster.promote(node),
            Self::Follow(node, upstream) => {
                node != upstream && spend(|b| &mut b.follows) && cluster.follow(node, upstream)
            }
            Self::Cut(node) => spend(|b| &mut b.cuts) && cluster.cut(node),
            Self::Restart(node, how) => {
                spend(|b| &mut b.restarts) && cluster.restart(node, how, &mut notices)
            }
            Self::Save(node) => spend(|b| &mut b.saves) && cluster.save(node),
            Self::FreeBacklog(node) => spend(|b| &mut b.freed_backlogs) && cluster.free_backlog(node),
            Self::Land(place) => step.land(place),
            Self::Write(process) => spend(|b| &mut b.writes) && step.begin_write(process),
            Self::StepWrite(process) => step.step_write(process),
            Self::Read(process, node) => step.begin_read(process, node),
            Self::StepRead(process) => step.step_read(process),
            Self::Deliver(process) => step.deliver(process),
            Self::Abandon(process) => spend(|b| &mut b.abandons) && step.abandon(process),
            Self::Lose(process, node, replied) => {
                let connected = step.state.processes[process].connections[node].is_some();
                let executed = step.state.processes[process]
                    .writing
                    .as_ref()
                    .is_some_and(|writing| writing.executed.is_some());
                let possible = connected && (executed || !replied) && spend(|b| &mut b.losses);
                if possible {
                    step.lose(process, node, replied, true);
                }
                possible
            }
            Self::Grace(process, node) => {
                !step.state.processes[process].lost.is_empty() && step.grace(process, node)
            }
            Self::Overdue(process) => step.begin_overdue(process),
            Self::Switch(process, node) => {
                let news = spend(|b| &mut b.switches) && step.state.processes[process].primary != node;
                step.state.processes[process].primary = node;
                news
            }
            Self::Token(from, to) => spend(|b| &mut b.tokens) && step.pass_token(from, to, true),
            Self::BadToken(from, to) => spend(|b| &mut b.bad_tokens) && step.pass_token(from, to, false),
            Self::Fill(process) | Self::Probe(process) => {
                let fill = matches!(self, Self::Fill(_));
                let affordable = if fill {
                    spend(|b| &mut b.fills)
                } else {
                    spend(|b| &mut b.probes)
                };
                let cache = step.process(process).cache.as_mut();
                affordable && cache.is_some_and(|cache| cache.ask(fill))
            }
            Self::ServeFeed(process) => step.serve_feed(process),
            Self::TakeFeed(process) => step.take_feed(process),
            Self::Store(process) => {
                let cache = step.process(process).cache.as_mut();
                cache.is_some_and(Cache::store)
            }
            Self::LoseFeed(process) => {
                let affordable = spend(|b| &mut b.losses);
                let cache = step.process(process).cache.as_mut();
                match cache.filter(|cache| affordable && cache.is_open()) {
                    Some(cache) => {
                        cache.lost();
                        true
                    }
                    None => false,
                }
            }
            Self::LoadFirst(process) => step.begin_hit(process),
            Self::LoadSecond(process) => step.finish_hit(process),
        };
        step.notice(&notices);
        done
    }
}

/// How often a reader asks before it gives up: once for a sample that settles a token, once for a proof that an ID which
/// has changed makes void, and once for the reply.
const PATIENCE: usize = 4;

/// If nothing else happens from here on, a read of this process at a primary has an answer (invariant 7).
fn is_answered(scenario: &Scenario, state: &State, at: usize) -> bool {
    let process = &state.processes[at];
    let primary = process.primary;
    let busy = process.asking.is_some() || process.writing.is_some();
    if busy || state.cluster.servers[primary].upstream.is_some() || state.violation.is_some() {
        return true;
    }
    let mut state = state.clone();
    (0..PATIENCE).any(|_| {
        state.event = Event::Nothing;
        let mut step = Step {
            scenario,
            state: &mut state,
        };
        if !step.begin_read(at, primary) {
            return false;
        }
        while step.step_read(at) {}
        let barrier = step.state.processes[at].asking.as_ref().map(|asking| asking.aim) == Some(Aim::Barrier);
        step.deliver(at);
        let settled = barrier || step.state.event == Event::Settled;
        !settled && step.state.event != Event::Refused
    })
}

/// As many marks of other deployments as a session has room for.
fn crowd() -> Marks {
    let mut marks = Marks::new();
    for number in 0..MAX_MARKS {
        marks.add_written(&Mark {
            scope: Scope::new(&format!("other-{number}")).expect("a scope's name"),
            history: History::from_bytes([1; 20]),
            offset: Offset::at(1),
        });
    }
    marks
}

impl Model for Scenario {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nodes = self.upstreams.len();
        let mut processes: Vec<_> = self
            .levels
            .iter()
            .map(|level| Process::new(nodes, *level))
            .collect();
        if self.crowded {
            for process in &mut processes {
                process.view = View::of(crowd());
            }
        }
        if let Some(first) = processes.first_mut() {
            first.cache = self.feed.map(Cache::new);
        }
        vec![State {
            cluster: Cluster::new(&self.upstreams, self.attached),
            processes,
            network: Vec::new(),
            budget: self.budget,
            written: 0,
            event: Event::Nothing,
            violation: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        let budget = &state.budget;
        for node in 0..state.cluster.servers.len() {
            actions.push(Action::Apply(node));
            match state.cluster.syncs(node) {
                Some(Sync::Full) => {
                    actions.push(Action::Resume(node, Sync::Full));
                    actions.push(Action::Resume(node, Sync::Failed));
                }
                Some(how) => actions.push(Action::Resume(node, how)),
                None => {}
            }
            actions.extend((budget.pings > 0).then_some(Action::Ping(node)));
            actions.extend((budget.promotions > 0).then_some(Action::Promote(node)));
            if budget.follows > 0 {
                actions
                    .extend((0..state.cluster.servers.len()).map(|upstream| Action::Follow(node, upstream)));
            }
            actions.extend((budget.cuts > 0).then_some(Action::Cut(node)));
            if budget.restarts > 0 {
                actions.push(Action::Restart(node, Restart::WithData));
                actions.push(Action::Restart(node, Restart::Empty));
            }
            actions.extend((budget.saves > 0).then_some(Action::Save(node)));
            actions.extend((budget.freed_backlogs > 0).then_some(Action::FreeBacklog(node)));
        }
        actions.extend((0..state.network.len()).map(Action::Land));
        for (at, process) in state.processes.iter().enumerate() {
            if budget.writes > 0 && (at == 0 || !self.one_writer) {
                actions.push(Action::Write(at));
            }
            for node in 0..state.cluster.servers.len() {
                if self.plain_reads && (!self.one_reader || at + 1 == state.processes.len()) {
                    actions.push(Action::Read(at, node));
                }
                if budget.losses > 0 {
                    actions.push(Action::Lose(at, node, false));
                    actions.push(Action::Lose(at, node, true));
                }
                actions.push(Action::Grace(at, node));
                actions.extend((budget.switches > 0).then_some(Action::Switch(at, node)));
            }
            if process.writing.is_some() {
                actions.push(Action::StepWrite(at));
                actions.extend((budget.abandons > 0).then_some(Action::Abandon(at)));
            }
            if process.asking.is_some() {
                actions.push(Action::StepRead(at));
                actions.push(Action::Deliver(at));
            }
            actions.push(Action::Overdue(at));
            for to in (0..state.processes.len()).filter(|to| *to != at) {
                actions.extend((budget.tokens > 0).then_some(Action::Token(at, to)));
                actions.extend((budget.bad_tokens > 0).then_some(Action::BadToken(at, to)));
            }
            if process.cache.is_some() {
                actions.extend((budget.fills > 0).then_some(Action::Fill(at)));
                actions.extend((budget.probes > 0).then_some(Action::Probe(at)));
                actions.push(Action::ServeFeed(at));
                actions.push(Action::TakeFeed(at));
                actions.push(Action::Store(at));
                actions.extend((budget.losses > 0).then_some(Action::LoseFeed(at)));
                actions.push(Action::LoadFirst(at));
                actions.push(Action::LoadSecond(at));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.event = Event::Nothing;
        let mut step = Step {
            scenario: self,
            state: &mut next,
        };
        if !action.take(&mut step) {
            return None;
        }
        next.processes.iter_mut().for_each(Process::recount);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no stale read", |_, state: &State| {
                state.violation != Some(Violation::Stale)
            }),
            Property::always(
                "a loss is reported before a reply misses the write",
                |_, state: &State| state.violation != Some(Violation::SilentLoss),
            ),
            Property::always("nothing is reported lost that is there", |_, state: &State| {
                state.violation != Some(Violation::FalseLoss)
            }),
            Property::always("no sound mark is disbelieved", |_, state: &State| {
                state.violation != Some(Violation::Disbelief)
            }),
            Property::always("whoever asks a primary is answered", |scenario, state: &State| {
                (0..state.processes.len()).all(|at| is_answered(scenario, state, at))
            }),
        ];
        for event in self.shows {
            properties.push(match event {
                Event::Served => Property::sometimes("a replica answers a session", |_, state: &State| {
                    matches!(state.event, Event::Served | Event::AtRisk)
                }),
                Event::AtRisk => {
                    Property::sometimes("a replica answers a read at risk", |_, state: &State| {
                        state.event == Event::AtRisk
                    })
                }
                Event::Loss => Property::sometimes("a loss is reported", |_, state: &State| {
                    state.event == Event::Loss
                }),
                Event::Unknown => {
                    Property::sometimes("an unknown history is reported", |_, state: &State| {
                        state.event == Event::Unknown
                    })
                }
                Event::Hit => {
                    Property::sometimes("the cache answers", |_, state: &State| state.event == Event::Hit)
                }
                Event::Settled => Property::sometimes("doubt is settled", |_, state: &State| {
                    state.event == Event::Settled
                }),
                Event::Refused => Property::sometimes("a reply is refused", |_, state: &State| {
                    state.event == Event::Refused
                }),
                Event::Nothing => continue,
            });
        }
        properties
    }
}
