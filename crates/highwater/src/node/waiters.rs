//! Callers that wait for a node to catch up, ordered by the offset that they wait for.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use highwater_core::History;
use tokio::sync::oneshot;

/// The waiters of one node. Their number is bounded by the client's bound on requests in flight.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    state: Mutex<State>,
    /// Somebody wants to know where the node is.
    asked: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// By (offset, number), each with the history that the offset counts in.
    waiting: BTreeMap<(u64, u64), (History, oneshot::Sender<bool>)>,
    next: u64,
}

impl Waiters {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits, or has asked where the node is.
    pub(super) fn any(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || !self.state().waiting.is_empty()
    }

    /// The node is being asked.
    pub(super) fn asking(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Asks for one sample.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Waits for `offset` of `history`. True once it has been reached; false when that can't be.
    pub(super) fn join(&self, history: History, offset: u64) -> Waiter<'_> {
        let (done, reached) = oneshot::channel();
        let mut state = self.state();
        let key = (offset, state.next);
        state.next += 1;
        state.waiting.insert(key, (history, done));
        Waiter {
            waiters: self,
            key,
            reached,
        }
    }

    /// Wakes those whose offset has been reached, and those of other histories: they decide anew.
    pub(super) fn reached(&self, history: History, applied: u64) {
        let mut state = self.state();
        while let Some(first) = state.waiting.first_entry() {
            if first.key().0 > applied {
                break;
            }
            let (of, done) = first.remove();
            let _ = done.send(of == history);
        }
    }

    /// Wakes everybody: the node can't be waited for.
    pub(super) fn wake_all(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for (_, done) in waiting.into_values() {
            let _ = done.send(false);
        }
    }
}

/// One caller's wait.
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    key: (u64, u64),
    reached: oneshot::Receiver<bool>,
}

impl Future for Waiter<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.reached)
            .poll(context)
            .map(|woken| woken.unwrap_or(false))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.state().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll_once(waiter: &mut Waiter<'_>) -> Poll<bool> {
        Pin::new(waiter).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn wakes_by_offset_and_forgets_the_dropped() {
        let history = History::from_bytes([1; 20]);
        let waiters = Waiters::default();
        assert!(!waiters.any());
        let mut low = waiters.join(history, 10);
        let mut high = waiters.join(history, 20);
        let foreign = waiters.join(History::from_bytes([2; 20]), 5);
        assert!(poll_once(&mut low).is_pending());
        waiters.reached(history, 15);
        assert_eq!(poll_once(&mut low), Poll::Ready(true));
        assert!(poll_once(&mut high).is_pending());
        drop(foreign);
        drop(high);
        assert!(!waiters.any());
    }

    #[test]
    fn the_end_of_the_connection_wakes_all() {
        let waiters = Waiters::default();
        let mut waiter = waiters.join(History::from_bytes([1; 20]), 10);
        waiters.wake_all();
        assert_eq!(poll_once(&mut waiter), Poll::Ready(false));
    }
}
