//! Fallbacks: reads that go to the primary because no replica is proven to be good enough. When all replicas are
//! gone or far behind, that is all reads; a bound, where one is configured, keeps the primary for its writes.
//!
//! Who finds no place at the primary waits for one, or for a replica, whichever comes first. To look for a replica is
//! one caller's business at a time; each who has found one sends two more. So nothing is polled by thousands, and a
//! replica that has just come back is not asked by all of them at once.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use highwater_core::{Reason, Route};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep,
};

use super::{Asked, Read, Reply, Router, Tried, choose::Choice, closed};
use crate::{
    defaults::HINT_AGE,
    error::{Error, ErrorKind},
    node::Answer,
    status::FallbackStatus,
};

/// The bound on fallbacks.
#[derive(Debug)]
pub(crate) struct Fallbacks {
    places: Arc<Semaphore>,
    bound: usize,
    /// How long a read waits for a place.
    patience: Duration,
    /// Held by the one who looks at the replicas next.
    lookout: Semaphore,
    /// A replica has answered one of those who wait.
    found: Notify,
    waiting: AtomicUsize,
    /// More don't wait: they would take the places of writes among what is in flight.
    max_waiting: usize,
    waited: AtomicU64,
    refused: AtomicU64,
}

impl Fallbacks {
    /// At least one at a time, of a client with so many requests in flight.
    pub(crate) fn new(bound: usize, patience: Duration, in_flight: usize) -> Self {
        let bound = bound.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(bound)),
            bound,
            patience,
            lookout: Semaphore::new(1),
            found: Notify::new(),
            waiting: AtomicUsize::new(0),
            max_waiting: (in_flight / 2).max(1),
            waited: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(crate) fn status(&self) -> FallbackStatus {
        FallbackStatus {
            max: self.bound,
            at_primary: self.bound.saturating_sub(self.places.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            waited: self.waited.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// `None` when too many wait already.
    fn wait_in_line(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        let others = self.waiting.fetch_add(1, Ordering::Relaxed);
        (!self.patience.is_zero() && others < self.max_waiting).then_some(waiting)
    }

    fn refusal(&self) -> Error {
        let max = self.bound;
        Error::new(
            ErrorKind::Overloaded,
            format!(
                "no replica can answer this read, and the primary answers {max} in place of replicas already (max_fallbacks)"
            ),
        )
    }
}

/// One who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A read's place at the primary.
pub(super) struct Place(Option<OwnedSemaphorePermit>);

impl Place {
    /// Waits for the answer to what has been sent.
    ///
    /// # Cancel safety
    ///
    /// The place is given back once the primary has answered, also if the caller has gone by then: callers that run out
    /// of patience and ask again must not load it beyond the bound.
    pub(super) async fn until_answered(
        &mut self,
        answer: oneshot::Receiver<Result<Answer, Error>>,
    ) -> Result<Result<Answer, Error>, oneshot::error::RecvError> {
        let mut pending = Pending {
            place: self,
            answer: Some(answer),
        };
        let answered = match &mut pending.answer {
            Some(answer) => answer.await,
            None => Ok(Err(closed())),
        };
        pending.answer = None;
        answered
    }
}

/// An answer that has not come. Dropped, it is waited for without the caller.
struct Pending<'a> {
    place: &'a mut Place,
    answer: Option<oneshot::Receiver<Result<Answer, Error>>>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // Without a runtime no answer comes any more. There are no more of these tasks than there are places.
        if let Some(answer) = self.answer.take()
            && let Some(place) = self.place.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = answer.await;
                drop(place);
            });
        }
    }
}

/// What came of waiting.
enum Waited {
    Place(Place),
    /// A replica has caught up meanwhile.
    Answered(Reply),
}

impl Router {
    /// A read that no replica can answer: the primary does, within the bound.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] when it has not had its turn in time. Nothing has been sent to the primary then.
    ///
    /// # Cancel safety
    ///
    /// Who waits leaves the line.
    pub(super) async fn fall_back(&self, read: &Read<'_>, reason: Reason) -> Result<Reply, Error> {
        let mut place = match &self.fallbacks {
            None => None,
            Some(bound) => match Arc::clone(&bound.places).try_acquire_owned() {
                Ok(place) => Some(Place(Some(place))),
                // Rare, so it does not make the other reads' futures larger.
                Err(_) => match Box::pin(self.line_up(bound, read)).await? {
                    Waited::Place(place) => Some(place),
                    Waited::Answered(reply) => return Ok(reply),
                },
            },
        };
        self.counters.count_fallback(reason);
        self.read_primary(read, reason, place.as_mut()).await
    }

    async fn line_up(&self, bound: &Fallbacks, read: &Read<'_>) -> Result<Waited, Error> {
        let refused = || {
            bound.refused.fetch_add(1, Ordering::Relaxed);
            self.counters.count_refused_fallback();
            bound.refusal()
        };
        let _waiting = bound.wait_in_line().ok_or_else(refused)?;
        bound.waited.fetch_add(1, Ordering::Relaxed);
        self.counters.count_fallback_wait();
        let mut over = pin!(sleep(bound.patience));
        let mut place = pin!(Arc::clone(&bound.places).acquire_owned());
        loop {
            let found = pin!(async {
                self.time_to_look(bound).await;
                self.look_again(bound, read).await
            });
            match select(place.as_mut(), select(found, over.as_mut())).await {
                Either::Left((place, _)) => {
                    let place = Place(Some(place.map_err(|_| closed())?));
                    // The line was long, and the replicas have had that time.
                    let found = pin!(self.look_again(bound, read));
                    return Ok(match select(found, over).await {
                        Either::Left((Some(reply), _)) => Waited::Answered(reply),
                        Either::Left((None, _)) | Either::Right(_) => Waited::Place(place),
                    });
                }
                Either::Right((Either::Left((Some(reply), _)), _)) => return Ok(Waited::Answered(reply)),
                Either::Right((Either::Left((None, _)), _)) => {}
                Either::Right((Either::Right(_), _)) => return Err(refused()),
            }
        }
    }

    /// Waits for this caller's turn to look at the replicas: in line, a look each [`HINT_AGE`], or because another one
    /// has found one.
    async fn time_to_look(&self, bound: &Fallbacks) {
        let turn = async {
            let _turn = bound.lookout.acquire().await;
            for replica in &self.members().replicas {
                replica.refresh_hint(HINT_AGE);
            }
            sleep(HINT_AGE).await;
        };
        select(pin!(turn), pin!(bound.found.notified())).await;
    }

    /// The reply of a replica that has caught up by its last word, if one has and proves it.
    async fn look_again(&self, bound: &Fallbacks, read: &Read<'_>) -> Option<Reply> {
        let members = self.members.now();
        let (node, asked) = match self.choose(&members, read.at_replicas(), None, &mut None) {
            Choice::Ask(node) => (node.id, Asked::replica(node, read)),
            Choice::Wait(..) | Choice::Primary(_) => return None,
        };
        drop(members);
        let Tried::Admitted(value) = self.try_replica(read, node, asked).await else {
            return None;
        };
        for _ in 0..2 {
            bound.found.notify_one();
        }
        Some(Reply {
            value,
            route: Route::Replica,
            reason: Reason::Waited,
            acks: None,
        })
    }
}
