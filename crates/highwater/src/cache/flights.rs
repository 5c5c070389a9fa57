//! Fills that are under way: callers who miss the same reply share one round trip.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use highwater_core::Progress;
use redis::Value;
use tokio::sync::oneshot;

/// A reply that a fill has brought, kept or not, and what it is proven to show.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) value: Value,
    /// At least this; `None` when nothing is proven.
    pub(crate) lower: Option<Progress>,
    /// At most this.
    pub(crate) upper: Option<Progress>,
}

/// Waits for a fill. It fails when the fill does: ask a node then.
pub(crate) type Waiting = oneshot::Receiver<Arc<Filled>>;

/// The fills that are under way, by command. Their number is bounded by what a feed's connection takes, and
/// their waiters' by the client's bound on what is in flight.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Box<[u8]>, Flight, RandomState>>);

#[derive(Debug)]
struct Flight {
    key: Box<[u8]>,
    /// False: the key was given up by hand after this had been sent.
    keep: bool,
    waiting: Vec<oneshot::Sender<Arc<Filled>>>,
}

/// What a caller who found nothing does.
pub(crate) enum Join<T> {
    /// It has come meanwhile.
    Found(T),
    /// Another caller has asked.
    Wait(Waiting),
    /// It is for this caller to ask.
    Begin(Waiting),
    /// What is under way was asked for before the key was given up by hand: a node answers.
    Pass,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Flight, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fill of a command, or begins it. `look` looks into the store once more: what was put there
    /// since the caller last looked is found, because a fill is put there before it ends.
    pub(crate) fn join<T>(&self, key: &[u8], command: &[u8], look: impl FnOnce() -> Option<T>) -> Join<T> {
        let (done, waiting) = oneshot::channel();
        let mut flights = self.lock();
        if let Some(flight) = flights.get_mut(command) {
            if !flight.keep {
                return Join::Pass;
            }
            flight.waiting.push(done);
            return Join::Wait(waiting);
        }
        if let Some(found) = look() {
            return Join::Found(found);
        }
        flights.insert(
            command.into(),
            Flight {
                key: key.into(),
                keep: true,
                waiting: vec![done],
            },
        );
        Join::Begin(waiting)
    }

    /// Ends a fill: `keep` puts it into the store, unless its key was given up by hand. Those who wait get it.
    pub(crate) fn end(&self, command: &[u8], filled: Filled, keep: impl FnOnce(&Filled)) {
        let mut flights = self.lock();
        let flight = flights.remove(command);
        if flight.as_ref().is_none_or(|flight| flight.keep) {
            // Under the lock, so that nobody who misses now begins another one, and giving a key up by hand comes
            // before or after, never in between.
            keep(&filled);
        }
        drop(flights);
        let filled = Arc::new(filled);
        for done in flight.into_iter().flat_map(|flight| flight.waiting) {
            // The caller may be gone.
            let _ = done.send(Arc::clone(&filled));
        }
    }

    /// Ends a fill that has brought nothing.
    pub(crate) fn fail(&self, command: &[u8]) {
        let flight = self.lock().remove(command);
        drop(flight);
    }

    /// Fills of this key that are under way won't be kept; `now` is done before any other can be.
    pub(crate) fn give_up(&self, key: &[u8], now: impl FnOnce()) {
        let mut flights = self.lock();
        for flight in flights.values_mut().filter(|flight| *flight.key == *key) {
            flight.keep = false;
        }
        now();
    }
}
