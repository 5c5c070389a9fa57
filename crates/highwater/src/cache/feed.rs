//! A feed: one tracked connection to one node, which fills its part of the cache and carries its
//! invalidations.
//!
//! [`FeedWriter`] is the one piece of code that every fill and every invalidation goes through, in the order
//! in which they were read from the socket (invariant 6). [`Feed`] is what readers see of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_utils::atomic::AtomicCell;
use foldhash::fast::RandomState;
use highwater_core::{Progress, Role};
use redis::{PushKind, Value};
use tokio::sync::oneshot;

use super::{
    Shared,
    flights::Filled,
    store::{Entry, Expires},
};
use crate::{
    error::Error,
    node::{Connection, Node},
};

/// What readers see of a feed. Always loaded *before* an entry: whatever the progress covers had then been
/// applied to the store (law 7), and an entry of the same generation can't be of data that came later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Entries of another one are not valid.
    pub(crate) generation: u64,
    /// Where the feed is known to be: nothing is known after the data were replaced, until it says so anew.
    pub(crate) progress: Option<Progress>,
}

/// A longest time that need not be kept to a fraction of a second.
const COARSE: Duration = Duration::from_secs(60);

/// Generations are numbered through, so that no two feeds ever have the same.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

impl View {
    /// A new generation: nothing that was brought before is valid, and nothing is known.
    fn of_nothing() -> Self {
        Self {
            generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed),
            progress: None,
        }
    }
}

/// One feed, as readers and callers share it.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) node: Arc<Node>,
    view: AtomicCell<View>,
    link: RwLock<FeedLink>,
    /// Callers who wait for the feed to say where it is, and since when.
    asking: Mutex<Asking>,
    /// It is a primary without a backlog.
    stands_still: AtomicBool,
}

#[derive(Debug, Default)]
struct Asking {
    waiting: Vec<(Instant, oneshot::Sender<()>)>,
    /// When the INFO was sent that is under way for them.
    sent: Option<Instant>,
}

/// How it stands with a feed's connection.
#[derive(Clone, Debug, Default)]
pub(crate) enum FeedLink {
    #[default]
    Connecting,
    Up(Arc<Connection>),
    /// And why.
    Down(String),
    /// It will not be tried again: the server refuses what the cache needs.
    Refused(String),
}

impl Feed {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        let view = View::of_nothing();
        Arc::new(Self {
            node,
            view: AtomicCell::new(view),
            link: RwLock::default(),
            asking: Mutex::default(),
            stands_still: AtomicBool::new(false),
        })
    }

    pub(crate) fn view(&self) -> View {
        self.view.load()
    }

    fn publish(&self, view: View) {
        self.view.store(view);
    }

    /// Its connection has ended: nothing that it brought is valid any more.
    pub(crate) fn is_down(&self, why: &Error) {
        self.publish(View::of_nothing());
        self.set_link(FeedLink::Down(why.to_string()));
    }

    pub(crate) fn link(&self) -> FeedLink {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_link(&self, link: FeedLink) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    pub(crate) fn connection(&self) -> Option<Arc<Connection>> {
        match &*self.link.read().unwrap_or_else(PoisonError::into_inner) {
            FeedLink::Up(connection) => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// Why nothing is kept of what the feed brings, although it is up and has been heard of.
    pub(crate) fn why_unproven(&self) -> Option<String> {
        if self.view().progress.is_some() {
            return None;
        }
        let told = self.node.hint()?.progress;
        match told.role {
            role if role != self.node.expected_role => {
                Some(format!("{} has another role", self.node.address))
            }
            Role::Replica if !told.read_only => Some(format!("{} can be written to", self.node.address)),
            Role::Primary if self.stands_still.load(Ordering::Relaxed) => Some(format!(
                "{} has no replication backlog, so its offset does not tell of writes: attach a replica",
                self.node.address
            )),
            _ => None,
        }
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the feed has said where it is, asked after this call began; one INFO serves all who wait.
    /// False when it did not by the deadline. `count` is called if this is the caller who asks.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the others' waits as they are.
    pub(crate) async fn probe(&self, deadline: Instant, count: impl FnOnce()) -> bool {
        let Some(connection) = self.connection() else {
            return false;
        };
        let (done, said) = oneshot::channel();
        {
            let mut asking = self.asking();
            let now = Instant::now();
            asking.waiting.retain(|(_, done)| !done.is_closed());
            asking.waiting.push((now, done));
            if asking.sent.is_none() {
                asking.sent = Some(now);
                drop(asking);
                count();
                connection.probe();
            }
        }
        matches!(tokio::time::timeout_at(deadline.into(), said).await, Ok(Ok(())))
    }

    /// The feed has said where it is, asked at `sent`. True when callers came in later, and have to be asked for.
    fn said(&self, sent: Instant) -> bool {
        let mut asking = self.asking();
        let mut later = Vec::new();
        for (since, done) in std::mem::take(&mut asking.waiting) {
            if since <= sent {
                let _ = done.send(());
            } else if !done.is_closed() {
                later.push((since, done));
            }
        }
        asking.waiting = later;
        if asking.sent.is_some_and(|asked| asked > sent) {
            // Theirs is still under way.
            return false;
        }
        let again = !asking.waiting.is_empty();
        asking.sent = again.then(Instant::now);
        again
    }
}

/// A read that a feed is asked for on the cache's behalf: `PTTL` of the key, and the command. Dropped before it is
/// concluded, it has failed.
#[derive(Debug)]
pub(crate) struct Fill {
    shared: Arc<Shared>,
    pub(crate) key: Box<[u8]>,
    pub(crate) command: Box<[u8]>,
    /// Just before it was sent: the key's time to live counts from here.
    sent: Instant,
    /// The reply can show fields of a hash.
    may_have_fields: bool,
    open: bool,
}

impl Fill {
    pub(crate) fn new(shared: &Arc<Shared>, key: &[u8], command: &[u8], may_have_fields: bool) -> Self {
        Self {
            shared: Arc::clone(shared),
            key: key.into(),
            command: command.into(),
            sent: Instant::now(),
            may_have_fields,
            open: true,
        }
    }

    /// When the entry expires, by the reply to `PTTL` that came before the value: `None` when it can't be said,
    /// or is over.
    ///
    /// Asked before the value, since on a replica a key can expire between the two without any invalidation:
    /// then this still says when.
    fn expires(&self, ttl: &Value) -> Option<Expires> {
        let Shared { longest, store, .. } = &*self.shared;
        let at = expires(self.sent, ttl, *longest)?;
        Some(match ttl {
            // Not for a promise to users, who have invalidations: so that nothing is ever kept for good.
            Value::Int(-1 | -2) if *longest >= COARSE => store.clock.about(at),
            _ => Expires::At(at),
        })
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if self.open {
            self.shared.flights.fail(&self.command);
        }
    }
}

/// What a feed's INFO says besides the progress.
#[derive(Clone, Copy, Debug, Default)]
struct Extras {
    /// The primary's stream moves with its writes.
    backlog: bool,
    /// Hashes in this database have fields with a time to live, or it is not known whether.
    fields_expire: bool,
}

/// Applies what a feed's connection brings, in wire order. Owned by the connection's driver.
#[derive(Debug)]
pub(crate) struct FeedWriter {
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    view: View,
    /// Counts invalidations.
    clock: u64,
    /// When the first reply to the fill in front came, if it has and the second has not.
    opened: Option<u64>,
    /// Fills that have their replies, and wait for the INFO behind them.
    pending: Vec<Pending>,
    /// When keys were last invalidated, since there are fills that this matters to.
    recent: HashMap<Box<[u8]>, u64, RandomState>,
    /// When everything last was.
    flushed: u64,
    extras: Extras,
    /// The server knows times to live of hash fields.
    field_ttls: bool,
    /// What a test has applied late: since the last INFO but one, and since the last.
    late: [Vec<Value>; 2],
}

#[derive(Debug)]
struct Pending {
    fill: Fill,
    opened: u64,
    ttl: Value,
    value: Value,
}

impl FeedWriter {
    /// For a connection that is new: nothing of an earlier one is valid.
    pub(crate) fn new(feed: Arc<Feed>, shared: Arc<Shared>, field_ttls: bool) -> Self {
        let view = View::of_nothing();
        feed.publish(view);
        Self {
            feed,
            shared,
            view,
            clock: 0,
            opened: None,
            pending: Vec::new(),
            recent: HashMap::default(),
            flushed: 0,
            extras: Extras::default(),
            field_ttls,
            late: Default::default(),
        }
    }

    /// The first reply to a fill has come: from here on, an invalidation of its key makes it unfit to be kept.
    pub(crate) fn opened(&mut self) {
        self.opened.get_or_insert(self.clock);
    }

    /// Both replies to a fill have come.
    pub(crate) fn filled(&mut self, fill: Fill, replies: Vec<Value>) {
        let opened = self.opened.take().unwrap_or(self.clock);
        let mut replies = replies.into_iter();
        if let (Some(ttl), Some(value)) = (replies.next(), replies.next()) {
            self.pending.push(Pending {
                fill,
                opened,
                ttl,
                value,
            });
        }
    }

    /// A push has come.
    pub(crate) fn pushed(&mut self, kind: &PushKind, data: &[Value]) {
        if *kind != PushKind::Invalidate {
            return;
        }
        match data.first() {
            Some(Value::Array(keys) | Value::Set(keys)) => {
                if self.shared.faults.late_invalidations {
                    let [_, late] = &mut self.late;
                    late.extend(keys.iter().cloned());
                    return;
                }
                self.invalidate(keys);
            }
            // Everything: the data were replaced, or flushed. So does what is not understood.
            _ => self.flush(),
        }
    }

    fn invalidate(&mut self, keys: &[Value]) {
        self.shared.stats.invalidations(keys.len() as u64);
        for key in keys {
            let key: &[u8] = match key {
                Value::BulkString(key) => key,
                Value::SimpleString(key) => key.as_bytes(),
                _ => {
                    self.flush();
                    continue;
                }
            };
            self.clock += 1;
            self.shared.store.invalidate(key);
            if self.opened.is_some() || !self.pending.is_empty() {
                self.recent.insert(key.into(), self.clock);
            }
        }
    }

    /// All entries of this feed are given up.
    fn flush(&mut self) {
        self.clock += 1;
        self.flushed = self.clock;
        self.view = View::of_nothing();
        self.feed.publish(self.view);
        self.shared.flushed();
    }

    /// What else an INFO says, before [`sampled`](Self::sampled) is told of its progress.
    pub(crate) fn read_info(&mut self, text: &[u8]) {
        self.extras = Extras {
            backlog: memchr::memmem::find(text, b"repl_backlog_active:1").is_some(),
            fields_expire: self.field_ttls && fields_expire(text, self.feed.node.address.database),
        };
        self.feed
            .stands_still
            .store(!self.extras.backlog, Ordering::Relaxed);
    }

    /// The reply to an INFO that was sent at `sent` has come; `None` when it was refused.
    pub(crate) fn sampled(&mut self, progress: Option<Progress>, sent: Instant) {
        let before = self.view.progress;
        self.view.progress = progress.filter(|progress| self.counts(progress));
        for pending in std::mem::take(&mut self.pending) {
            self.conclude(pending, before);
        }
        if self.opened.is_none() {
            self.recent.clear();
        }
        self.feed.publish(self.view);
        if self.shared.faults.late_invalidations {
            let [before, now] = std::mem::take(&mut self.late);
            self.late = [now, Vec::new()];
            self.invalidate(&before);
        }
        if self.feed.said(sent)
            && let Some(connection) = self.feed.connection()
        {
            self.shared.stats.probes(1);
            connection.probe();
        }
    }

    /// Whether invalidations of all writes up to a progress have come, once it has, and replies before it show nothing above.
    fn counts(&self, progress: &Progress) -> bool {
        progress.role == self.feed.node.expected_role
            && progress.tells_its_place()
            && match progress.role {
                Role::Replica => progress.read_only,
                // Without a backlog the offset stands still, whatever is written.
                Role::Primary => self.extras.backlog,
            }
    }

    /// The INFO behind a fill has come. No invalidation of its key came in between: then the reply shows all up to
    /// it (law 7, because the read has had its key tracked), and nothing above it.
    fn conclude(&self, pending: Pending, before: Option<Progress>) {
        let Pending {
            mut fill,
            opened,
            ttl,
            value,
        } = pending;
        let now = self.view.progress;
        let replaced = self.flushed > opened;
        let written = self.recent.get(&fill.key).is_some_and(|at| *at > opened);
        let lower = match (replaced, written) {
            (true, _) => None,
            // It is no older than the data were when the feed last said where it was, before.
            (false, true) => before,
            (false, false) => now,
        };
        let filled = Filled {
            value,
            lower,
            upper: now.filter(|_| !replaced),
        };
        let stats = &self.shared.stats;
        if replaced || written {
            stats.lost_races(1);
        }
        let expires = fill.expires(&ttl);
        let keep = |filled: &Filled| {
            let (Some(upper), Some(expires), false) = (now, expires, replaced || written) else {
                return;
            };
            if is_error(&filled.value) || (fill.may_have_fields && self.extras.fields_expire) {
                return;
            }
            let upper = (upper.history, upper.applied);
            let generation = self.view.generation;
            let entry = Entry::new(&fill.command, &filled.value, generation, upper, None, expires);
            self.shared.store.insert(&fill.key, entry);
            stats.fills(1);
        };
        self.shared.flights.end(&fill.command, filled, keep);
        fill.open = false;
    }
}

impl Drop for FeedWriter {
    /// The connection has ended: writes are no longer told of.
    fn drop(&mut self) {
        self.flush();
        *self.feed.asking() = Asking::default();
    }
}

/// When a key that was asked after at `sent` expires, by the reply to `PTTL`, and at most so much later.
pub(super) fn expires(sent: Instant, ttl: &Value, longest: Duration) -> Option<Instant> {
    let lives = match ttl {
        // No expiry, or no key. Given one meanwhile, or made meanwhile, there is an invalidation in between.
        Value::Int(-1 | -2) => longest,
        Value::Int(millis) => Duration::from_millis(u64::try_from(*millis).ok()?).min(longest),
        _ => return None,
    };
    (!lives.is_zero()).then(|| sent + lives)
}

/// True for a reply that must not be kept.
pub(super) fn is_error(value: &Value) -> bool {
    match value {
        Value::ServerError(_) => true,
        Value::Array(items) | Value::Set(items) => items.iter().any(is_error),
        _ => false,
    }
}

/// Whether INFO's keyspace section shows hashes with fields that expire, in this database; true when it does not
/// say.
fn fields_expire(info: &[u8], database: i64) -> bool {
    let Some(start) = memchr::memmem::find(info, b"# Keyspace") else {
        return true;
    };
    let name = format!("db{database}:");
    let line = info
        .get(start..)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes()));
    // A database without keys has no line.
    let Some(line) = line else { return false };
    let counts = line.trim_ascii_end().split(|byte| *byte == b',');
    let count = counts
        .filter_map(|field| {
            // Redis and Valkey call it by different names.
            field
                .strip_prefix(b"subexpiry=")
                .or_else(|| field.strip_prefix(b"keys_with_volatile_items="))
        })
        .next();
    count != Some(b"0")
}
