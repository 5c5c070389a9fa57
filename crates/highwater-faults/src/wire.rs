//! What the conductor and its processes say to each other: a JSON value a line, on standard input and output.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::operation::{Key, Operation, Ticket};

/// What a process is to be. Its first line of input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Casting {
    /// Counted from 0.
    pub(crate) process: u64,
    /// How many processes there are.
    pub(crate) processes: u64,
    pub(crate) seed: u64,
    pub(crate) client: ClientSetting,
    /// The mean pause between two operations of a session.
    pub(crate) think: Duration,
    /// Each write leaves a key that tells of it.
    pub(crate) witnesses: bool,
}

/// How a client is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientSetting {
    pub(crate) nodes: Nodes,
    pub(crate) policy: Policy,
    pub(crate) resp2: bool,
    pub(crate) connections: usize,
    pub(crate) cache: Option<Cache>,
    pub(crate) without: Without,
}

/// Where a client's nodes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Nodes {
    /// At these URLs.
    Fixed { primary: String, replicas: Vec<String> },
    /// Where the sentinels at these URLs say, of the deployment of this name.
    Sentinels { name: String, sentinels: Vec<String> },
}

/// A near cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cache {
    /// Its size. A small one is full soon.
    pub(crate) kib: u32,
    /// Without invalidations: entries are used for so many milliseconds.
    pub(crate) ttl: Option<u32>,
}

/// What is taken out, to see that the verdict then finds violations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Without {
    /// Replies are given out whatever their proofs say.
    pub(crate) proof_checks: bool,
    /// Caches apply invalidations after the replies that follow them.
    pub(crate) timely_invalidations: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    Primary,
    Error,
    Proceed,
}

/// To a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// A token from another one.
    Token(Passed),
    /// Answer once every session has had a read answered that began after this; and a write, if so wanted.
    Sync { number: u64, writes: bool },
    /// Drop the client, and build another.
    Rebuild,
    /// Stop, look at every key once more, and tell what was done.
    Finish,
}

/// From a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The client is connected.
    Ready,
    /// A token for another process.
    Token { to: u64, passed: Passed },
    /// The answer to a sync of this number.
    Synced(u64),
    /// What has been done, in pieces.
    Did(Vec<Operation>),
    /// The histories that marks name, as 40 hexadecimal digits; the last word.
    Histories(Vec<String>),
}

/// A token and some keys that its session has written or seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub(crate) ticket: Ticket,
    pub(crate) token: String,
    pub(crate) keys: Vec<Key>,
}
