//! What callers do, over and over.

use std::{io::Write, sync::Arc};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    contenders::Caller,
    data::{Data, KEYS, PIPELINE, Strings},
};

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// GET of 100 bytes, at the replicas.
    Get,
    /// SET of 100 bytes, at the primary.
    Set,
    /// Nine reads of what the session wrote last to one write.
    Mix,
    /// Ten GETs in one pipeline, at the replicas.
    Pipeline,
    /// HGETALL of 20 fields, at the replicas.
    Hgetall,
    /// GET of 4 KiB, at the replicas.
    Get4k,
    /// SET of 4 KiB, at the primary.
    Set4k,
    /// As `mix`, with replicas that are held back.
    DelayedMix,
}

impl Operation {
    /// As it is called on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Mix => "mix",
            Self::Pipeline => "pipeline",
            Self::Hgetall => "hgetall",
            Self::Get4k => "get4k",
            Self::Set4k => "set4k",
            Self::DelayedMix => "delayed-mix",
        }
    }

    /// Reads and writes, so that reads can be stale.
    #[must_use]
    pub fn is_mix(self) -> bool {
        matches!(self, Self::Mix | Self::DelayedMix)
    }

    /// Nothing is written.
    #[must_use]
    pub fn only_reads(self) -> bool {
        !self.is_mix() && !self.writes_only()
    }

    /// Nothing is read.
    #[must_use]
    pub fn writes_only(self) -> bool {
        matches!(self, Self::Set | Self::Set4k)
    }

    /// The keys that it writes and does not read.
    #[must_use]
    pub fn written(self, data: &Data) -> Option<&Strings> {
        match self {
            Self::Set => Some(&data.small_out),
            Self::Set4k => Some(&data.large_out),
            _ => None,
        }
    }
}

/// How many operations of a mix there are to one write.
const WRITE_EVERY: usize = 10;
/// The version stands at the beginning of a mix's value.
const VERSION: usize = 12;

/// What one caller has to do.
#[derive(Debug)]
pub struct Work {
    operation: Operation,
    data: Arc<Data>,
    number: usize,
    count: usize,
    own: Vec<Own>,
    stale: u64,
}

/// The key of one session of a mix.
#[derive(Debug)]
struct Own {
    key: String,
    version: u64,
    value: Vec<u8>,
}

impl Work {
    /// Of the caller with this number. A mix writes versions after `since`, for so many `sessions` a caller.
    #[must_use]
    pub fn new(operation: Operation, data: &Arc<Data>, number: usize, sessions: usize, since: u64) -> Self {
        let sessions = if operation.is_mix() { sessions } else { 0 };
        let own = (0..sessions).map(|session| Own {
            key: mix_key(number * sessions + session),
            version: since,
            value: vec![b'v'; 100],
        });
        Self {
            operation,
            data: Arc::clone(data),
            number,
            count: 0,
            own: own.collect(),
            stale: 0,
        }
    }

    /// Reads that did not show what the session had written.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Does it once, and verifies the reply.
    pub async fn step<C: Caller>(&mut self, caller: &mut C) {
        self.count += 1;
        let place = (self.number * 31 + self.count) % KEYS;
        match self.operation {
            Operation::Get => get(&self.data.small, place, caller).await,
            Operation::Get4k => get(&self.data.large, place, caller).await,
            Operation::Set => set(&self.data.small_out, place, caller).await,
            Operation::Set4k => set(&self.data.large_out, place, caller).await,
            Operation::Pipeline => {
                let strings = &self.data.small;
                let values = caller.get_all(&strings.keys[place..place + PIPELINE]).await;
                let expected = &strings.values[place..place + PIPELINE];
                let right = values
                    .iter()
                    .map(AsRef::as_ref)
                    .eq(expected.iter().map(Vec::as_slice));
                assert!(right, "a pipeline's replies are somebody else's");
            }
            Operation::Hgetall => {
                let fields = caller.hash(&self.data.hashes[place]).await;
                assert!(fields == self.data.fields[place], "a hash is somebody else's");
            }
            Operation::Mix | Operation::DelayedMix => self.mix(caller).await,
        }
    }

    async fn mix<C: Caller>(&mut self, caller: &mut C) {
        let session = self.count % self.own.len();
        let turn = self.count / self.own.len();
        let own = &mut self.own[session];
        caller.turn_to(session);
        // Each begins with a write; after that not all write at once.
        if turn <= 1 || (turn + self.number + session).is_multiple_of(WRITE_EVERY) {
            own.version += 1;
            write!(&mut own.value[..VERSION], "{:0VERSION$}", own.version).expect("there is room");
            caller.set(&own.key, &own.value).await;
        } else {
            let value = caller.get(&own.key).await;
            let seen: u64 = std::str::from_utf8(&value.as_ref()[..VERSION])
                .expect("digits")
                .parse()
                .expect("a version");
            assert!(seen <= own.version, "a version that nobody wrote");
            self.stale += u64::from(seen < own.version);
        }
    }
}

/// The key of a mix's session, of all callers' sessions.
#[must_use]
pub fn mix_key(number: usize) -> String {
    format!("mix:{number:012}")
}

/// What is in such a key before anybody writes it.
#[must_use]
pub fn mix_value() -> String {
    format!("{:0VERSION$}", 0)
}

async fn get<C: Caller>(strings: &Strings, place: usize, caller: &mut C) {
    let value = caller.get(&strings.keys[place]).await;
    assert!(
        value.as_ref() == strings.values[place],
        "a reply that is somebody else's"
    );
}

async fn set<C: Caller>(strings: &Strings, place: usize, caller: &mut C) {
    caller.set(&strings.keys[place], &strings.values[place]).await;
}
