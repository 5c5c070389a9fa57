//! The route stage's part in reads that the near cache may answer: what such a read must cover, whether a
//! progress does, and how the reply is accounted for.

use std::{sync::Arc, time::Instant};

use highwater_core::{Consistency, Coverage, History, Mark, Offset, Point, Progress, Role, Route};
use redis::Value;
use tracing::level_filters::LevelFilter;

use super::{
    LEAST_BOUND, Reply, Router, SPANS,
    admit::{Admitted, Needs, is_anyones},
    choose::Choice,
    closed,
    counters::InFlight,
    record_reply,
};
use crate::{
    command::Terms,
    error::Error,
    node::{Connection, Node},
    permits::Permit,
};

/// A place among what is in flight.
pub(crate) type InLine<'a> = (InFlight<'a>, Permit<'a>);

/// When a node is likely to cover a read.
pub(crate) enum Outlook {
    /// By now; only its last word may be old. Not to be waited for beyond the time.
    Now(Instant),
    /// Before the time.
    Soon(Point, Instant),
    /// Not in time.
    Late,
}

impl Router {
    /// What the cache must show to answer a read under these terms; `None` for one that must go to a node: at the primary's level, in doubt,
    /// or with a bound on staleness of which it is not known what it asks for.
    pub(crate) fn needs_of_cache<'a>(&self, terms: Terms<'a>) -> Option<Needs<'a>> {
        let mut read = self.needs(terms);
        if !self.proofs || read.requirement.in_doubt() {
            return None;
        }
        match read.level {
            level if is_anyones(level) => {}
            Consistency::BoundedStaleness(bound) if bound >= LEAST_BOUND => {
                let point = self
                    .knowledge
                    .moments()
                    .since(Instant::now().checked_sub(bound))?;
                read.at_replicas = Some(Box::new(read.requirement.clone().and(point)));
            }
            // The primary's level, and any that is not known here.
            _ => return None,
        }
        Some(read)
    }

    /// True when what shows at least `lower` may answer the read.
    pub(crate) fn covered(&self, read: &Needs<'_>, lower: Option<&Progress>) -> bool {
        let requirement = read.at_replicas();
        requirement.is_empty()
            || !self.check_proofs
            || lower.is_some_and(|lower| self.coverage(requirement, lower) == Coverage::Covered)
    }

    /// When a node is likely to cover the read, by hints.
    pub(crate) fn outlook(&self, node: &Node, read: &Needs<'_>) -> Outlook {
        let requirement = read.at_replicas();
        let now = Instant::now();
        let deadline = now + self.max_wait;
        let Some(sample) = node.hint().filter(|_| !node.is_suspended()) else {
            return Outlook::Late;
        };
        if self.coverage(requirement, &sample.progress) == Coverage::Covered {
            return Outlook::Now(deadline);
        }
        let ([point], Role::Replica) = (requirement.points(), sample.progress.role) else {
            return Outlook::Late;
        };
        // What is of another history than the node's, and not in its past, waiting does not bring.
        if point.history != sample.progress.history {
            return Outlook::Late;
        }
        let ready = self.ready_at(node, &sample, *point, now);
        if ready <= now {
            Outlook::Now(deadline)
        } else if ready <= deadline {
            Outlook::Soon(*point, deadline)
        } else {
            node.refresh_hint(crate::defaults::HINT_AGE);
            Outlook::Late
        }
    }

    /// A replica that is likely to cover the read by now, if there is one.
    pub(crate) fn replica_for(&self, read: &Needs<'_>) -> Option<(Arc<Node>, Arc<Connection>)> {
        match self.choose(&self.members.now(), read.at_replicas(), None, &mut None) {
            Choice::Ask(node) => Some((Arc::clone(node), node.connection().ok()?)),
            Choice::Wait(..) | Choice::Primary(_) => None,
        }
    }

    /// Whether what shows at least `lower` may answer a read under these terms, and why; `None` as well where
    /// [`needs_of_cache`](Self::needs_of_cache) says so.
    ///
    /// To be asked after what answers was looked up. By then the session may depend on more, and on other marks where a
    /// primary's proof has put one for another; it still depends on all that it did when the read began, but for what has been
    /// told to be lost meanwhile.
    pub(crate) fn admits<'a>(&self, terms: Terms<'a>, lower: Option<&Progress>) -> Option<Admitted<'a>> {
        // Nearly always the histories are equal, and all is known that the session depends on.
        if self.proofs
            && let Some(session) = terms.session
        {
            let (level, usual, shown) = session.is_shown_by(lower, &self.scope, terms.level, self.level);
            if is_anyones(level) && shown != Some(false) {
                return Some(Admitted::new(session, (level, usual), shown.is_some()));
            }
        }
        let needs = self.needs_of_cache(terms)?;
        self.covered(&needs, lower).then(|| needs.admitted(false))
    }

    /// Accounts for a read that was answered without the route stage.
    ///
    /// `upper` is where the newest data are from that the reply can show.
    pub(crate) fn answered(
        &self,
        read: Admitted<'_>,
        route: Route,
        value: Value,
        upper: impl IntoIterator<Item = (History, u64)>,
    ) -> Reply {
        let Admitted {
            session,
            remembered,
            reason,
        } = read;
        if let Some(session) = session {
            if remembered {
                for (history, offset) in upper {
                    session.add_read(&Mark {
                        scope: self.scope.clone(),
                        history,
                        offset: Offset::at(offset),
                    });
                }
            }
            session.record_route(route);
        }
        self.counters.count_read(route, reason);
        let reply = Reply {
            value,
            route,
            reason,
            acks: None,
        };
        if LevelFilter::current() >= SPANS {
            let span = self.span(false);
            record_reply(&span, &reply);
        }
        reply
    }

    /// A place among what is in flight, of which the client bounds the number: callers queue for it, in order.
    pub(crate) async fn place_in_line(&self) -> Result<InLine<'_>, Error> {
        let in_flight = self.counters.count_in_flight();
        let permit = self.permits.acquire().await.map_err(|_| closed())?;
        Ok((in_flight, permit))
    }

    /// The same, if nobody has to be waited for.
    pub(crate) fn place_at_once(&self) -> Option<InLine<'_>> {
        let permit = self.permits.try_acquire()?;
        Some((self.counters.count_in_flight(), permit))
    }
}
