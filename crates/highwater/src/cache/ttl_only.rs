//! A cache without invalidations, by explicit choice: each entry is used for a short time, and only for reads that
//! the proof covers which it was read with.

use std::time::Instant;

use highwater_core::{Progress, Role};
use redis::Value;

use super::{
    NearCache, Shared,
    feed::{expires, is_error},
    flights::{Filled, Flights, Join},
    lookup::{Found, find},
    service::{Answer, Wanted, hit, with_ttl},
    store::{Entry, Expires},
};
use crate::{
    command::Arguments,
    node::{Connection, Proof, ProofWanted, Request},
    route::{Needs, Router},
};

/// Entries without feeds.
#[derive(Debug)]
pub(super) struct TtlOnly;

/// All entries are of one generation: each has a proof of its own.
const GENERATION: u64 = 0;

impl TtlOnly {
    pub(super) fn find<'a, T>(
        &self,
        shared: &Shared,
        key: &[u8],
        command: &impl Arguments<'a>,
        admits: impl FnOnce(Option<&Progress>) -> Option<T>,
    ) -> Found<T> {
        find(&shared.store, key, command, GENERATION, |entry| {
            admits(entry.lower())
        })
    }

    /// A reply from a replica that is likely to cover the read, which is kept; `None` sends the caller on to the
    /// route stage.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future of the one who asks fails the fill for all who wait for it; they ask a node
    /// themselves.
    pub(super) async fn ask(
        &self,
        cache: &NearCache,
        router: &Router,
        needs: &Needs<'_>,
        wanted: Wanted<'_>,
    ) -> Option<Answer> {
        let shared = &cache.shared;
        let Some((node, connection)) = router.replica_for(needs) else {
            shared.stats.misses(1);
            return None;
        };
        let covers = |progress: Option<&Progress>| router.covered(needs, progress).then_some(());
        let found = || match self.find(shared, wanted.key, &wanted.arguments(), covers) {
            Found::Hit(entry, ()) => Some(entry),
            Found::Uncovered | Found::Nothing => None,
        };
        let waiting = match shared.flights.join(wanted.key, wanted.command, found) {
            Join::Found(entry) => return Some(hit(&entry, false)),
            Join::Wait(waiting) => waiting,
            Join::Pass => {
                shared.stats.misses(1);
                return None;
            }
            Join::Begin(waiting) => {
                let asking = Asking {
                    flights: &shared.flights,
                    wanted,
                    open: true,
                };
                asking.fill(shared, node.expected_role, &connection).await;
                waiting
            }
        };
        shared.stats.misses(1);
        let filled = waiting.await.ok()?;
        cache.admit(router, needs, &filled, node.expected_role, false)
    }
}

/// A fill by its first caller. Dropped before it has ended, it has failed.
struct Asking<'a> {
    flights: &'a Flights,
    wanted: Wanted<'a>,
    open: bool,
}

impl Asking<'_> {
    async fn fill(mut self, shared: &Shared, role: Role, connection: &Connection) {
        let Wanted {
            key,
            command,
            may_have_fields,
        } = self.wanted;
        let packed = with_ttl(key, command);
        let request = Request {
            packed: &packed,
            replies: 2,
            proof: ProofWanted::Both,
            may_write: false,
            writer: None,
        };
        let sent = Instant::now();
        let Ok(request) = connection.send(&request) else {
            return;
        };
        let Ok(Ok(answer)) = request.answer.await else {
            return;
        };
        let (Proof::Between(lower, Some(upper)), Value::Array(replies)) = (answer.proof, answer.value) else {
            return;
        };
        if !upper.tells_its_place() {
            return;
        }
        let mut replies = replies.into_iter();
        let (Some(ttl), Some(value)) = (replies.next(), replies.next()) else {
            return;
        };
        let proven = |progress: &Progress| progress.role == role && progress.read_only;
        let filled = Filled {
            value,
            lower: Some(lower).filter(proven),
            upper: Some(upper),
        };
        self.open = false;
        // What fields of hashes live for is not asked: these entries are short-lived by choice, but a field can be
        // seen for as long beyond its end.
        let _ = may_have_fields;
        self.flights.end(command, filled, |filled| {
            let (Some(expires), false) = (expires(sent, &ttl, shared.longest), is_error(&filled.value))
            else {
                return;
            };
            let upper = (upper.history, upper.applied);
            let expires = Expires::At(expires);
            let entry = Entry::new(command, &filled.value, GENERATION, upper, filled.lower, expires);
            shared.store.insert(key, entry);
            shared.stats.fills(1);
        });
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.open {
            self.flights.fail(self.wanted.command);
        }
    }
}
