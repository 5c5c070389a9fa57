//! The cache stage: hits, fills that callers share, probes that make entries good again; all else goes on to the
//! route stage.

use std::{
    future::ready,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, join_all, select};
use highwater_core::{Role, Route};
use redis::Value;
use tower_service::Service;

use super::{
    CacheMode, CacheOptions, CacheStats, Shared,
    feed::{Feed, Fill},
    feeds::Feeds,
    flights::{Filled, Join},
    future::CacheFuture,
    lookup::{Found, look},
    store::Entry,
    ttl_only::TtlOnly,
};
use crate::{
    command::{Command, Keys, Target, Unit},
    defaults::{FEED_PACE, MAX_CACHED_MGET},
    error::Error,
    node::{ProofWanted, Request},
    route::{Outlook, Read, Reply, RouteService, Router},
};

/// The near cache of a client.
#[derive(Debug)]
pub(crate) struct NearCache {
    pub(super) shared: Arc<Shared>,
    pub(super) kind: Kind,
    pub(super) mode: CacheMode,
}

/// How entries are kept valid.
#[derive(Debug)]
pub(super) enum Kind {
    Tracking(ArcSwap<Feeds>),
    TtlOnly(TtlOnly),
}

/// One key's reply that a read asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) key: &'a [u8],
    /// As encoded.
    pub(super) command: &'a [u8],
    pub(super) may_have_fields: bool,
}

/// What the cache can say at once.
enum Look<'a> {
    Hit(Reply),
    /// It is none of the cache's.
    Pass,
    /// It has to be asked for.
    Ask(Box<(Read<'a>, Wants<'a>)>),
}

/// A command that is the cache's.
pub(crate) enum Begun<'a> {
    Hit(Reply),
    Asked(BoxFuture<'a, Result<Reply, Error>>),
}

/// What a read asks for.
enum Wants<'a> {
    One(Wanted<'a>),
    /// A `GET` of each key.
    Each(Keys<'a>),
}

/// What came of asking.
pub(super) struct Answer {
    pub(super) route: Route,
    pub(super) waited: bool,
    pub(super) value: Value,
    pub(super) upper: Option<(highwater_core::History, u64)>,
}

impl NearCache {
    /// A cache over the nodes in use, whichever these are.
    pub(crate) fn start(options: &CacheOptions, router: &Arc<Router>) -> Arc<Self> {
        let kind = match options.mode {
            CacheMode::TtlOnly(_) => Kind::TtlOnly(TtlOnly),
            CacheMode::Tracking => Kind::Tracking(ArcSwap::default()),
        };
        let cache = Arc::new(Self {
            shared: Shared::new(options, &router.scope),
            kind,
            mode: options.mode,
        });
        cache.follow(router);
        let task = tokio::spawn(look_after(Arc::clone(&cache), Arc::clone(router)));
        router.steward.accompanied_by(task);
        cache
    }

    /// Has a feed for each replica in use, or for the primary, if there is none.
    fn follow(&self, router: &Router) {
        let Kind::Tracking(feeds) = &self.kind else {
            return;
        };
        let members = router.members();
        let nodes = match members.primary() {
            Ok(primary) if members.replicas.is_empty() => std::slice::from_ref(primary),
            _ => &members.replicas,
        };
        let before = feeds.load_full();
        let Some(now) = before.follow(nodes) else {
            return;
        };
        let news: Vec<_> = now
            .all
            .iter()
            .filter(|feed| !before.all.iter().any(|old| Arc::ptr_eq(old, feed)))
            .map(Arc::clone)
            .collect();
        self.shared.alone.store(now.all.len() == 1, Ordering::Relaxed);
        feeds.store(Arc::new(now));
        let tasks = news.into_iter().map(|feed| {
            let node = Arc::clone(&feed.node);
            tokio::spawn(node.keep_fed(feed, Arc::clone(&self.shared)))
        });
        router.steward.keep(tasks);
    }

    /// Carries out a command, as far as it is the cache's: a reply that is there and proven to show enough, or else
    /// what becomes of asking for it. `None` is the route stage's.
    pub(crate) fn begin<'a>(
        &'a self,
        router: &'a Router,
        command: &'a Command,
    ) -> Result<Option<Begun<'a>>, Error> {
        Ok(match self.look(router, command)? {
            Look::Hit(reply) => Some(Begun::Hit(reply)),
            Look::Pass => None,
            // Boxed: what is rarer is not to make every hit's future larger.
            Look::Ask(asked) => Some(Begun::Asked(Box::pin(async move {
                let (read, wants) = &*asked;
                self.ask(router, command, read, wants).await
            }))),
        })
    }

    async fn call(&self, router: &Router, command: &Command) -> Result<Reply, Error> {
        match self.begin(router, command)? {
            Some(Begun::Hit(reply)) => Ok(reply),
            Some(Begun::Asked(reply)) => reply.await,
            None => router.call(command).await,
        }
    }

    /// What can be said at once.
    fn look<'a>(&self, router: &Router, command: &'a Command) -> Result<Look<'a>, Error> {
        if command.unit != Unit::Single || command.bypass_cache {
            return Ok(Look::Pass);
        }
        let target = router
            .knowledge
            .table
            .get()
            .and_then(|table| table.cacheable(&command.packed));
        let Some(target) = target else {
            return Ok(Look::Pass);
        };
        router.check_open()?;
        let Some(read) = router.read_for_cache(command) else {
            return Ok(Look::Pass);
        };
        match target {
            Target::One { key, may_have_fields } => {
                let wanted = Wanted {
                    key,
                    command: &command.packed,
                    may_have_fields,
                };
                Ok(match self.find(router, &read, wanted) {
                    Found::Hit(entry) => {
                        let upper = Some(entry.upper);
                        Look::Hit(router.answered(&read, Route::Cache, false, entry.value(), upper))
                    }
                    Found::Uncovered | Found::Nothing => Look::Ask(Box::new((read, Wants::One(wanted)))),
                })
            }
            Target::Each(keys) => Ok(self.look_for_each(router, read, keys)),
        }
    }

    fn find(&self, router: &Router, read: &Read<'_>, wanted: Wanted<'_>) -> Found {
        let Wanted { key, command, .. } = wanted;
        match &self.kind {
            Kind::Tracking(feeds) => match feeds.load().of(key) {
                Some(feed) => look(&self.shared.store, feed, key, command, |progress| {
                    router.covered(read, progress)
                }),
                None => Found::Nothing,
            },
            Kind::TtlOnly(cache) => cache.find(&self.shared, router, read, wanted),
        }
    }

    async fn ask(
        &self,
        router: &Router,
        command: &Command,
        read: &Read<'_>,
        wants: &Wants<'_>,
    ) -> Result<Reply, Error> {
        let answer = {
            // Those who wait for a fill or a probe are in flight as any others. Given back before the route stage
            // takes a place of its own.
            let _place = router.place_in_line().await?;
            match wants {
                Wants::One(wanted) => {
                    let answer = self.ask_for(router, read, *wanted).await;
                    answer.map(|answer| {
                        let Answer {
                            route,
                            waited,
                            value,
                            upper,
                        } = answer;
                        router.answered(read, route, waited, value, upper)
                    })
                }
                Wants::Each(keys) => self.ask_for_each(router, read, keys).await,
            }
        };
        match answer {
            Some(reply) => Ok(reply),
            None => router.call(command).await,
        }
    }

    /// The values of several keys, each for itself. `None` if one of them has none that may be given out.
    async fn ask_for_each(&self, router: &Router, read: &Read<'_>, keys: &Keys<'_>) -> Option<Reply> {
        let commands: Vec<_> = keys.clone().map(|key| (key, get_of(key))).collect();
        let answers = commands.iter().map(|(key, command)| {
            let wanted = Wanted {
                key,
                command,
                may_have_fields: false,
            };
            self.ask_for(router, read, wanted)
        });
        let answers: Option<Vec<Answer>> = join_all(answers).await.into_iter().collect();
        let answers = answers?;
        let asked = answers.iter().find(|answer| answer.route != Route::Cache);
        let route = asked.map_or(Route::Cache, |answer| answer.route);
        let waited = answers.iter().any(|answer| answer.waited);
        let upper: Vec<_> = answers.iter().filter_map(|answer| answer.upper).collect();
        let values = answers.into_iter().map(|answer| answer.value).collect();
        Some(router.answered(read, route, waited, Value::Array(values), upper))
    }

    pub(super) async fn ask_for(
        &self,
        router: &Router,
        read: &Read<'_>,
        wanted: Wanted<'_>,
    ) -> Option<Answer> {
        match &self.kind {
            Kind::Tracking(feeds) => {
                let feed = Arc::clone(feeds.load().of(wanted.key)?);
                self.ask_feed(router, read, &feed, wanted).await
            }
            Kind::TtlOnly(cache) => cache.ask(self, router, read, wanted).await,
        }
    }

    /// A reply from the feed: by a probe that makes the entry good again, or by a fill. `None` sends the caller on
    /// to the route stage.
    async fn ask_feed(
        &self,
        router: &Router,
        read: &Read<'_>,
        feed: &Arc<Feed>,
        wanted: Wanted<'_>,
    ) -> Option<Answer> {
        let Wanted {
            key,
            command,
            may_have_fields,
        } = wanted;
        let shared = &self.shared;
        let stats = &shared.stats;
        let look = || {
            look(&shared.store, feed, key, command, |progress| {
                router.covered(read, progress)
            })
        };
        let mut waited = false;
        if !router.covered(read, feed.view().progress.as_ref()) {
            let deadline = match router.outlook(&feed.node, read) {
                Outlook::Now(deadline) => deadline,
                Outlook::Soon(point, deadline) => {
                    feed.node.wait_for(point.history, point.offset, deadline).await;
                    waited = true;
                    deadline
                }
                Outlook::Late => {
                    match look() {
                        Found::Nothing => stats.misses(1),
                        _ => stats.not_covered(1),
                    }
                    return None;
                }
            };
            if let Found::Uncovered = look() {
                waited = true;
                feed.probe(deadline, || stats.probes(1)).await;
            }
        }
        match look() {
            Found::Hit(entry) => return Some(hit(&entry, waited)),
            Found::Uncovered => {
                stats.not_covered(1);
                return None;
            }
            Found::Nothing => {}
        }
        let joined = shared.flights.join(key, command, || match look() {
            Found::Hit(entry) => Some(entry),
            _ => None,
        });
        let waiting = match joined {
            Join::Found(entry) => return Some(hit(&entry, waited)),
            Join::Wait(waiting) => waiting,
            Join::Begin(waiting) => {
                self.fill(feed, key, command, may_have_fields);
                waiting
            }
        };
        stats.misses(1);
        let filled = waiting.await.ok()?;
        self.admit(router, read, &filled, feed.node.expected_role, waited)
    }

    /// A fill's reply, for one of those who waited for it: if it is proven to show enough for this one.
    pub(super) fn admit(
        &self,
        router: &Router,
        read: &Read<'_>,
        filled: &Filled,
        role: Role,
        waited: bool,
    ) -> Option<Answer> {
        // An error may be this node's alone: the route stage knows what to do about it.
        if matches!(filled.value, Value::ServerError(_)) {
            return None;
        }
        let upper = filled.upper.map(|upper| (upper.history, upper.applied));
        if !router.covered(read, filled.lower.as_ref()) || (upper.is_none() && read.session.is_some()) {
            self.shared.stats.not_covered(1);
            return None;
        }
        Some(Answer {
            route: match role {
                Role::Primary => Route::Primary,
                Role::Replica => Route::Replica,
            },
            waited,
            value: filled.value.clone(),
            upper,
        })
    }

    /// Sends a fill. If that can't be done, those who wait for it learn at once.
    fn fill(&self, feed: &Arc<Feed>, key: &[u8], command: &[u8], may_have_fields: bool) {
        let fill = Box::new(Fill::new(&self.shared, key, command, may_have_fields));
        let Some(connection) = feed.connection() else {
            return;
        };
        let packed = with_ttl(key, command);
        let request = Request {
            packed: &packed,
            replies: 2,
            proof: ProofWanted::Trailing,
            may_write: false,
            writer: None,
        };
        // Refused, the fill is dropped, and so fails.
        let _ = connection.send_for(&request, Some(fill));
    }

    /// Drops what is kept of a key, also what is under way.
    pub(crate) fn invalidate(&self, key: &[u8]) {
        let shared = &self.shared;
        shared.flights.give_up(key, || shared.store.invalidate(key));
    }

    /// The counts, but for the hits.
    pub(crate) fn stats(&self) -> CacheStats {
        let (entries, weight) = self.shared.store.size();
        CacheStats {
            oversized: self.shared.store.oversized(),
            entries,
            weight,
            ..self.shared.stats.counts()
        }
    }

    /// What can be said at once of an `MGET`: all of it, or nothing.
    fn look_for_each<'a>(&self, router: &Router, read: Read<'a>, keys: Keys<'a>) -> Look<'a> {
        let (mut values, mut upper) = (Vec::new(), Vec::new());
        let mut command = Vec::new();
        for key in keys.clone() {
            if values.len() == MAX_CACHED_MGET {
                return Look::Pass;
            }
            write_get(key, &mut command);
            let wanted = Wanted {
                key,
                command: &command,
                may_have_fields: false,
            };
            let Found::Hit(entry) = self.find(router, &read, wanted) else {
                let many = keys.clone().nth(MAX_CACHED_MGET).is_some();
                return if many {
                    Look::Pass
                } else {
                    Look::Ask(Box::new((read, Wants::Each(keys))))
                };
            };
            upper.push(entry.upper);
            values.push(entry.value());
        }
        if values.is_empty() {
            // Without keys it is an error, and that is the server's to say.
            return Look::Pass;
        }
        Look::Hit(router.answered(&read, Route::Cache, false, Value::Array(values), upper))
    }
}

/// `PTTL` of the key, and the command.
pub(super) fn with_ttl(key: &[u8], command: &[u8]) -> Vec<u8> {
    let mut packed = redis::cmd("PTTL").arg(key).get_packed_command();
    packed.extend_from_slice(command);
    packed
}

/// `GET key`, as redis-rs encodes it: so that `GET` and `MGET` share their entries.
fn get_of(key: &[u8]) -> Vec<u8> {
    let mut command = Vec::with_capacity(key.len() + 32);
    write_get(key, &mut command);
    command
}

fn write_get(key: &[u8], command: &mut Vec<u8>) {
    command.clear();
    command.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$");
    command.extend_from_slice(key.len().to_string().as_bytes());
    command.extend_from_slice(b"\r\n");
    command.extend_from_slice(key);
    command.extend_from_slice(b"\r\n");
}

pub(super) fn hit(entry: &Entry, waited: bool) -> Answer {
    Answer {
        route: Route::Cache,
        waited,
        value: entry.value(),
        upper: Some(entry.upper),
    }
}

/// Keeps feeds in step with the nodes in use, and keys with the feeds that are fit for them. Ended with the client.
async fn look_after(cache: Arc<NearCache>, router: Arc<Router>) {
    let mut members = router.members.subscribe();
    loop {
        members.mark_unchanged();
        cache.follow(&router);
        if let Kind::Tracking(feeds) = &cache.kind {
            feeds.load().assign();
        }
        cache.shared.store.clock.tick();
        cache.shared.stats.weighs(cache.shared.store.size().1);
        let changes = async {
            select(pin!(cache.shared.changes.notified()), pin!(members.changed())).await;
        };
        // Also now and then without: how far behind they are changes by itself.
        let _ = tokio::time::timeout(FEED_PACE, changes).await;
    }
}

/// The cache stage around the route stage. Clones are the same cache.
#[derive(Clone, Debug)]
pub(crate) struct CacheService {
    cache: Arc<NearCache>,
    route: RouteService,
}

impl CacheService {
    pub(super) fn new(cache: Arc<NearCache>, route: RouteService) -> Self {
        Self { cache, route }
    }
}

impl Service<Command> for CacheService {
    type Response = Reply;
    type Error = Error;
    type Future = CacheFuture;

    /// Always ready, as the route stage.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, command: Command) -> CacheFuture {
        match self.cache.look(self.route.router(), &command) {
            Ok(Look::Hit(reply)) => return CacheFuture::Hit(ready(Ok(reply))),
            Err(error) => return CacheFuture::Hit(ready(Err(error))),
            Ok(Look::Pass | Look::Ask(_)) => {}
        }
        let (cache, route) = (Arc::clone(&self.cache), self.route.clone());
        CacheFuture::Asked(Box::pin(
            async move { cache.call(route.router(), &command).await },
        ))
    }
}
