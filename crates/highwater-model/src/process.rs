//! The client's parts: one process with one user's session each.

use highwater_core::{Consistency, Edges, Progress, Replied, Requirement, Scope, View, Witness};

use crate::{
    cache::Cache,
    cluster::{Node, Writes},
    judge::Needs,
};

/// One process: a client, and the one session that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The node that it takes for the primary.
    pub primary: Node,
    pub edges: Edges,
    pub connections: Vec<Option<Connection>>,
    next_connection: u8,
    /// The session.
    pub view: View,
    pub level: Consistency,
    /// What the session really depends on.
    pub needs: Needs,
    pub writing: Option<Writing>,
    pub asking: Option<Asking>,
    /// Writes of lost connections.
    pub lost: Vec<Lost>,
    pub cache: Option<Cache>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// `CLIENT ID`.
    pub id: u8,
    /// The server process that it goes to.
    pub run: u8,
    pub witness: Witness,
}

/// A write in flight: the command, and the `INFO` that trails it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Writing {
    /// The session's name for it, and ours.
    pub id: u64,
    pub write: u8,
    pub node: Node,
    /// What the session depended on.
    pub requirement: Requirement,
    /// What a reply that shows data must show.
    pub must: Writes,
    /// What the reply shows.
    pub value: Writes,
    /// The caller waits.
    pub awaited: bool,
    /// It was carried out, or refused.
    pub executed: Option<bool>,
    /// Where the primary was just before.
    pub before: Option<Progress>,
}

/// What an [`Asking`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aim {
    /// A read at a replica.
    Replica,
    /// A read at the primary.
    Primary,
    /// A sample that settles a bad token.
    Barrier,
    /// A sample that settles writes in doubt that are too old to happen any more.
    Overdue,
}

/// One command of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    Lead,
    Get,
    Trail,
}

/// A flush in flight that writes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asking {
    pub aim: Aim,
    pub node: Node,
    pub requirement: Requirement,
    /// What a reply must show.
    pub must: Writes,
    /// What has not been carried out yet, the next one last.
    pub commands: Vec<Command>,
    pub value: Writes,
    pub replied: Option<Replied>,
    /// The lower and the upper bound, as far as they are proven.
    pub low: Option<Progress>,
    pub high: Option<Progress>,
    /// For the model's own judgement, from the moment of the trailing sample.
    pub after: After,
}

/// How it stood with a primary when it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct After {
    pub data: Writes,
    /// For each point of the requirement: whether the primary's stream really lacks it.
    pub lacks: u8,
    /// For each point: whether the primary tells of that history.
    pub tells: u8,
}

/// The writes of one lost connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lost {
    pub node: Node,
    pub connection: u8,
    pub run: u8,
    pub history: highwater_core::History,
    pub id: u64,
    pub write: u8,
}

/// A write that the network still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    pub process: usize,
    pub connection: u8,
    pub node: Node,
    pub run: u8,
    pub write: u8,
}

impl Process {
    pub fn new(nodes: usize, level: Consistency) -> Self {
        Self {
            primary: 0,
            edges: Edges::default(),
            connections: vec![None; nodes],
            next_connection: 0,
            view: View::default(),
            level,
            needs: Needs::default(),
            writing: None,
            asking: None,
            lost: Vec::new(),
            cache: None,
        }
    }

    pub fn requirement(&self) -> Requirement {
        self.view.requirement(&Scope::default(), self.level)
    }

    /// Makes states alike that differ in nothing that matters.
    pub fn recount(&mut self) {
        let asking = self.asking.as_mut().map(|asking| &mut asking.requirement);
        let writing = self.writing.as_mut().map(|writing| &mut writing.requirement);
        let mut in_use: Vec<_> = [asking, writing].into_iter().flatten().collect();
        self.view.recount(&mut in_use);
    }

    pub fn remembers(&self) -> bool {
        self.level == Consistency::Monotonic
    }

    /// A new connection, whose handshake has taken this sample.
    pub fn connected(&mut self, node: Node, run: u8, first: Progress) {
        let id = self.next_connection;
        self.next_connection += 1;
        self.connections[node] = Some(Connection {
            id,
            run,
            witness: Witness::new(Some(first), true),
        });
    }
}
