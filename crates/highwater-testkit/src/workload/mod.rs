//! Runs sessions that write and read against a client, and records what they did and saw.

mod subject;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::JoinSet;

pub use self::subject::{Functions, ReadReply, Subject};
use crate::history::{History, Kind, Outcome, Recorder};
use crate::{Error, ErrorKind, Result};

/// A session lets others run after so many operations, also when the client answers without waiting.
const YIELD_EVERY: u64 = 32;

/// Keeps the seeds of sessions apart, also where workloads have seeds that follow each other.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What sessions do, how often and for how long.
///
/// Every session is a task. It writes keys of its own only, and reads its own and those of others. A key whose write
/// was left in doubt is not used again; a new one takes its place, as the checker's convention wants.
#[derive(Debug, Clone)]
#[must_use]
pub struct Workload {
    sessions: usize,
    writers: Option<usize>,
    keys: usize,
    write_share: f64,
    own_share: f64,
    adopt_share: f64,
    think_time: Option<Duration>,
    seed: u64,
    operations: u64,
    duration: Option<Duration>,
    stop: Option<Arc<AtomicBool>>,
}

impl Default for Workload {
    fn default() -> Self {
        Self::new()
    }
}

impl Workload {
    /// 8 sessions with 10 keys each, a fifth of all operations writes, half of the reads of what the session wrote
    /// last, no think time, 10,000 operations.
    pub fn new() -> Self {
        Self {
            sessions: 8,
            writers: None,
            keys: 10,
            write_share: 0.2,
            own_share: 0.5,
            adopt_share: 0.0,
            think_time: None,
            seed: 0,
            operations: 10_000,
            duration: None,
            stop: None,
        }
    }

    /// How many sessions run at a time.
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions.max(1);
        self
    }

    /// How many of the sessions write. The others only read, and take sessions over. The default is all.
    pub fn writers(mut self, writers: usize) -> Self {
        self.writers = Some(writers.max(1));
        self
    }

    /// How many keys each session that writes has.
    pub fn keys_per_session(mut self, keys: usize) -> Self {
        self.keys = keys.max(1);
        self
    }

    /// The share of writes in all operations, from 0 to 1.
    pub fn writes(mut self, share: f64) -> Self {
        self.write_share = share;
        self
    }

    /// The share of reads that read what the session itself wrote last, from 0 to 1. The others read any key.
    pub fn own_reads(mut self, share: f64) -> Self {
        self.own_share = share;
        self
    }

    /// The share of adoptions in all operations, from 0 to 1: the session takes over the token of another one.
    pub fn adoptions(mut self, share: f64) -> Self {
        self.adopt_share = share;
        self
    }

    /// Sessions wait a random time after each operation, exponentially distributed with this mean.
    pub fn think_time(mut self, mean: Duration) -> Self {
        self.think_time = Some(mean);
        self
    }

    /// The seed of all choices. Which operations meet is still up to the machine.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Stops after so many operations of all sessions together. This bounds the memory of the history as well.
    pub fn operations(mut self, operations: u64) -> Self {
        self.operations = operations;
        self
    }

    /// Stops after this time, if the number of operations is not reached earlier.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Stops when this becomes true, if nothing else does earlier.
    pub fn until(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = Some(stop);
        self
    }

    fn writing_sessions(&self) -> usize {
        self.writers.unwrap_or(self.sessions).min(self.sessions)
    }

    /// Runs all sessions on the current tokio runtime, and returns what they recorded.
    ///
    /// # Errors
    ///
    /// If there are too many sessions to number them.
    ///
    /// # Panics
    ///
    /// If the subject panics in a session, so that a failed assertion in it fails the test.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the sessions, and their records are lost.
    pub async fn run(&self, subject: impl Subject) -> Result<History> {
        let sessions = u32::try_from(self.sessions)
            .map_err(|_| Error::new(ErrorKind::Usage, "too many sessions for one workload: use fewer"))?;
        let keys = self.writing_sessions() * self.keys;
        let run = Arc::new(Run {
            workload: self.clone(),
            subject,
            left: AtomicU64::new(self.operations),
            deadline: self.duration.map(|duration| Instant::now() + duration),
            slots: (0..keys as u64).map(AtomicU64::new).collect(),
            next_key: AtomicU64::new(keys as u64),
        });
        let mut tasks = JoinSet::new();
        for session in 0..sessions {
            tasks.spawn(Session::new(Arc::clone(&run), session).run());
        }
        let mut history = History::default();
        while let Some(recorder) = tasks.join_next().await {
            match recorder {
                Ok(recorder) => history.merge(recorder),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        Ok(history)
    }
}

/// What the sessions of a run share.
struct Run<S> {
    workload: Workload,
    subject: S,
    left: AtomicU64,
    deadline: Option<Instant>,
    /// The key in use in each slot. The slots of one session follow each other.
    slots: Vec<AtomicU64>,
    next_key: AtomicU64,
}

impl<S> Run<S> {
    /// Takes one operation of those that are left.
    fn goes_on(&self) -> bool {
        let stopped = self
            .workload
            .stop
            .as_ref()
            .is_some_and(|stop| stop.load(Ordering::Relaxed));
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let take = |left: u64| left.checked_sub(1);
        !stopped
            && !late
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
    }

    fn key(&self, slot: usize) -> u64 {
        self.slots.get(slot).map_or(0, |key| key.load(Ordering::Relaxed))
    }
}

struct Session<S> {
    run: Arc<Run<S>>,
    number: u32,
    index: usize,
    random: Rng,
    recorder: Recorder,
    /// The version last written in each of its slots. It has none if it only reads.
    versions: Vec<u64>,
    /// Which of its slots it wrote last.
    last: usize,
}

impl<S: Subject> Session<S> {
    fn new(run: Arc<Run<S>>, number: u32) -> Self {
        let random = Rng::with_seed(
            run.workload
                .seed
                .wrapping_add(u64::from(number).wrapping_mul(SEED_STEP)),
        );
        let index = number as usize;
        let writes = index < run.workload.writing_sessions();
        let versions = vec![0; if writes { run.workload.keys } else { 0 }];
        Self {
            run,
            number,
            index,
            random,
            recorder: Recorder::new(),
            versions,
            last: 0,
        }
    }

    async fn run(mut self) -> Recorder {
        let mut count = 0;
        while self.run.goes_on() {
            let Workload {
                write_share,
                adopt_share,
                sessions,
                ..
            } = self.run.workload;
            let dice = self.random.f64();
            if dice < write_share && !self.versions.is_empty() {
                self.write().await;
            } else if (write_share..write_share + adopt_share).contains(&dice) && sessions > 1 {
                self.adopt().await;
            } else {
                self.read().await;
            }
            self.think().await;
            count += 1;
            if count % YIELD_EVERY == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.recorder
    }

    async fn write(&mut self) {
        let own = self.random.usize(..self.versions.len());
        let slot = self.index * self.versions.len() + own;
        let Some(version) = self.versions.get_mut(own) else {
            return;
        };
        *version += 1;
        let (key, version) = (self.run.key(slot), *version);
        let start = Instant::now();
        let outcome = self.run.subject.write(self.index, key, version).await;
        self.recorder.record(
            self.number,
            start,
            Kind::Write {
                key,
                version,
                outcome,
            },
        );
        self.last = own;
        if outcome == Outcome::InDoubt {
            self.replace_key(own, slot);
        }
    }

    /// The write in doubt could arrive at any later time, so this key is not written any more.
    fn replace_key(&mut self, own: usize, slot: usize) {
        let fresh = self.run.next_key.fetch_add(1, Ordering::Relaxed);
        if let (Some(version), Some(key)) = (self.versions.get_mut(own), self.run.slots.get(slot)) {
            *version = 0;
            key.store(fresh, Ordering::Relaxed);
        }
    }

    async fn read(&mut self) {
        let slot = if self.random.f64() < self.run.workload.own_share && !self.versions.is_empty() {
            self.index * self.versions.len() + self.last
        } else {
            self.random.usize(..self.run.slots.len())
        };
        let key = self.run.key(slot);
        let start = Instant::now();
        let reply = self.run.subject.read(self.index, key).await;
        let kind = if reply.failed {
            Kind::FailedRead { key }
        } else {
            Kind::Read {
                key,
                version: reply.version,
                newest: reply.newest,
                route: reply.route,
                mark: reply.mark,
            }
        };
        self.recorder.record(self.number, start, kind);
        if reply.guarantees_lost {
            self.recorder.record(self.number, start, Kind::GuaranteesLost);
        }
    }

    async fn adopt(&mut self) {
        let others = self.run.workload.sessions - 1;
        let from = (self.index + 1 + self.random.usize(..others)) % (others + 1);
        let start = Instant::now();
        self.run.subject.adopt(self.index, from).await;
        if let Ok(from) = u32::try_from(from) {
            self.recorder.record(self.number, start, Kind::Adopt { from });
        }
    }

    async fn think(&mut self) {
        let Some(mean) = self.run.workload.think_time else {
            return;
        };
        let time = mean.mul_f64(-(1.0 - self.random.f64()).ln());
        let left = self.run.deadline.map_or(time, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        tokio::time::sleep(time.min(left)).await;
    }
}
