//! The cache stage: hits, fills that callers share, probes that make entries good again; all else goes on to the
//! route stage.

use std::{
    future::ready,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use futures_util::future::{join_all, select};
use highwater_core::{Consistency, Progress, Role, Route};
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
    command::{Arguments, Command, Target, Terms, Unit, arguments},
    defaults::{FEED_PACE, MAX_CACHED_MGET},
    error::Error,
    node::{ProofWanted, Request},
    route::{Admitted, Needs, Outlook, Reply, RouteService, Router},
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

impl<'a> Wanted<'a> {
    pub(super) fn arguments(&self) -> impl Arguments<'a> {
        arguments(self.command)
    }
}

const GET: &[u8] = b"GET";

/// What the cache can say at once.
pub(crate) enum Look<'a, A> {
    Hit(Reply),
    /// It is none of the cache's.
    Pass,
    /// It has to be [asked](NearCache::ask) for.
    Ask(Box<Asked<'a, A>>),
}

/// What a read that was looked for asks for.
pub(crate) struct Asked<'a, A> {
    needs: Needs<'a>,
    target: Target<'a, A>,
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

    /// Carries out a command: by a reply that is there and proven to show enough, or else by asking for it.
    async fn call(&self, router: &Router, command: &Command) -> Result<Reply, Error> {
        match self.look_for(router, command)? {
            Look::Hit(reply) => Ok(reply),
            // Boxed: what is rarer is not to make every hit's future larger.
            Look::Ask(asked) => Box::pin(self.ask(router, command, &asked)).await,
            Look::Pass => router.call(command).await,
        }
    }

    /// What can be said at once of a command.
    ///
    /// # Errors
    ///
    /// When the client has been shut down.
    pub(crate) fn look_for<'a>(
        &self,
        router: &Router,
        command: &'a Command,
    ) -> Result<Look<'a, impl Arguments<'a>>, Error> {
        if command.unit != Unit::Single || command.bypass_cache {
            return Ok(Look::Pass);
        }
        self.look(router, command.terms(), &arguments(&command.packed))
    }

    /// What can be said at once of a single command with these arguments.
    ///
    /// # Errors
    ///
    /// When the client has been shut down.
    pub(crate) fn look<'a, A: Arguments<'a>>(
        &self,
        router: &Router,
        terms: Terms<'a>,
        asked: &A,
    ) -> Result<Look<'a, A>, Error> {
        if terms.level == Some(Consistency::Primary) {
            return Ok(Look::Pass);
        }
        let table = router.knowledge.table.get();
        let Some(target) = table.and_then(|table| table.cacheable(asked.clone())) else {
            return Ok(Look::Pass);
        };
        router.check_open()?;
        let hit = match &target {
            Target::One { key, .. } => match self.find(router, terms, key, asked) {
                Found::Hit(entry, read) => {
                    let upper = Some(entry.upper());
                    Some(router.answered(read, Route::Cache, entry.value(), upper))
                }
                Found::Uncovered | Found::Nothing => None,
            },
            // Without keys it is an error, and that is the server's to say.
            Target::Each(keys) => match keys.clone().take(MAX_CACHED_MGET + 1).count() {
                1..=MAX_CACHED_MGET => self.look_for_each(router, terms, keys.clone()),
                _ => return Ok(Look::Pass),
            },
        };
        if let Some(reply) = hit {
            return Ok(Look::Hit(reply));
        }
        let needs = router.needs_of_cache(terms);
        Ok(needs.map_or(Look::Pass, |needs| Look::Ask(Box::new(Asked { needs, target }))))
    }

    fn find<'t, 'a>(
        &self,
        router: &Router,
        terms: Terms<'t>,
        key: &[u8],
        command: &impl Arguments<'a>,
    ) -> Found<Admitted<'t>> {
        let admits = |lower: Option<&Progress>| router.admits(terms, lower);
        match &self.kind {
            Kind::Tracking(feeds) => match feeds.load().of(key) {
                Some(feed) => look(&self.shared.store, feed, key, command, admits),
                None => Found::Nothing,
            },
            Kind::TtlOnly(cache) => cache.find(&self.shared, key, command, admits),
        }
    }

    /// Carries out the command that was looked for: asks for what was not there, or goes on to the route stage.
    pub(crate) async fn ask<'a, A: Arguments<'a>>(
        &self,
        router: &Router,
        command: &Command,
        Asked { needs, target }: &Asked<'a, A>,
    ) -> Result<Reply, Error> {
        let answer = {
            // Those who wait for a fill or a probe are in flight as any others. Given back before the route stage
            // takes a place of its own.
            let _place = router.place_in_line().await?;
            match target {
                Target::One { key, may_have_fields } => {
                    let wanted = Wanted {
                        key,
                        command: &command.packed,
                        may_have_fields: *may_have_fields,
                    };
                    let answer = self.ask_for(router, needs, wanted).await;
                    answer.map(|answer| {
                        let Answer {
                            route,
                            waited,
                            value,
                            upper,
                        } = answer;
                        router.answered(needs.admitted(waited), route, value, upper)
                    })
                }
                Target::Each(keys) => self.ask_for_each(router, needs, keys.clone()).await,
            }
        };
        match answer {
            Some(reply) => Ok(reply),
            None => router.call(command).await,
        }
    }

    /// The values of several keys, each for itself. `None` if one of them has none that may be given out.
    async fn ask_for_each<'a>(
        &self,
        router: &Router,
        needs: &Needs<'_>,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Reply> {
        let commands: Vec<_> = keys.map(|key| (key, get_of(key))).collect();
        let answers = commands.iter().map(|(key, command)| {
            let wanted = Wanted {
                key,
                command,
                may_have_fields: false,
            };
            self.ask_for(router, needs, wanted)
        });
        let answers: Option<Vec<Answer>> = join_all(answers).await.into_iter().collect();
        let answers = answers?;
        let asked = answers.iter().find(|answer| answer.route != Route::Cache);
        let route = asked.map_or(Route::Cache, |answer| answer.route);
        let waited = answers.iter().any(|answer| answer.waited);
        let upper: Vec<_> = answers.iter().filter_map(|answer| answer.upper).collect();
        let values = answers.into_iter().map(|answer| answer.value).collect();
        Some(router.answered(needs.admitted(waited), route, Value::Array(values), upper))
    }

    pub(super) async fn ask_for(
        &self,
        router: &Router,
        needs: &Needs<'_>,
        wanted: Wanted<'_>,
    ) -> Option<Answer> {
        match &self.kind {
            Kind::Tracking(feeds) => {
                let feed = Arc::clone(feeds.load().of(wanted.key)?);
                self.ask_feed(router, needs, &feed, wanted).await
            }
            Kind::TtlOnly(cache) => cache.ask(self, router, needs, wanted).await,
        }
    }

    /// A reply from the feed: by a probe that makes the entry good again, or by a fill. `None` sends the caller on
    /// to the route stage.
    async fn ask_feed(
        &self,
        router: &Router,
        needs: &Needs<'_>,
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
            look(&shared.store, feed, key, &wanted.arguments(), |progress| {
                router.covered(needs, progress).then_some(())
            })
        };
        let mut waited = false;
        if !router.covered(needs, feed.view().progress.as_ref()) {
            let deadline = match router.outlook(&feed.node, needs) {
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
            Found::Hit(entry, ()) => return Some(hit(&entry, waited)),
            Found::Uncovered => {
                stats.not_covered(1);
                return None;
            }
            Found::Nothing => {}
        }
        let joined = shared.flights.join(key, command, || match look() {
            Found::Hit(entry, ()) => Some(entry),
            _ => None,
        });
        let waiting = match joined {
            Join::Found(entry) => return Some(hit(&entry, waited)),
            Join::Wait(waiting) => waiting,
            Join::Pass => {
                stats.misses(1);
                return None;
            }
            Join::Begin(waiting) => {
                self.fill(feed, key, command, may_have_fields);
                waiting
            }
        };
        stats.misses(1);
        let filled = waiting.await.ok()?;
        self.admit(router, needs, &filled, feed.node.expected_role, waited)
    }

    /// A fill's reply, for one of those who waited for it: if it is proven to show enough for this one.
    pub(super) fn admit(
        &self,
        router: &Router,
        needs: &Needs<'_>,
        filled: &Filled,
        role: Role,
        waited: bool,
    ) -> Option<Answer> {
        // An error may be this node's alone: the route stage knows what to do about it.
        if matches!(filled.value, Value::ServerError(_)) {
            return None;
        }
        let upper = filled.upper.map(|upper| (upper.history, upper.applied));
        if !router.covered(needs, filled.lower.as_ref()) || (upper.is_none() && needs.session.is_some()) {
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
    fn look_for_each<'a>(
        &self,
        router: &Router,
        terms: Terms<'_>,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Reply> {
        let (mut values, mut upper, mut admitted) = (Vec::new(), Vec::new(), None);
        for key in keys {
            let Found::Hit(entry, read) = self.find(router, terms, key, &[GET, key].into_iter()) else {
                return None;
            };
            upper.push(entry.upper());
            values.push(entry.value());
            admitted = Some(read);
        }
        Some(router.answered(admitted?, Route::Cache, Value::Array(values), upper))
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
    redis::cmd("GET").arg(key).get_packed_command()
}

pub(super) fn hit(entry: &Entry, waited: bool) -> Answer {
    Answer {
        route: Route::Cache,
        waited,
        value: entry.value(),
        upper: Some(entry.upper()),
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
        match self.cache.look_for(self.route.router(), &command) {
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
