//! How many requests may be in flight.
//!
//! Every command takes a permit and gives it back, and what two processors write in turn costs each of them a cache
//! miss, a lock even more. So threads keep a few at hand, and go to the semaphore in between.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::striped::Striped;

/// How many are fetched at once; twice as many are kept.
const BATCH: u32 = 16;
/// Beyond all who can wait.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// The permits: as many as there were at first, wherever they are.
#[derive(Debug)]
pub(crate) struct Permits {
    /// Those that nobody has, and the line of those who wait for one.
    rest: Semaphore,
    at_hand: Striped<AtomicUsize>,
    /// How many wait in line, or are about to, and whether it is closed: then nothing is kept at hand.
    waiting: AtomicUsize,
}

/// One request's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Permits);

/// All of them.
#[derive(Debug)]
pub(crate) struct All<'a> {
    _permits: SemaphorePermit<'a>,
    _waiting: Waiting<'a>,
}

/// One who waits, until it is dropped.
#[derive(Debug)]
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Permits {
    pub(crate) fn new(permits: usize) -> Self {
        Self {
            rest: Semaphore::new(permits),
            at_hand: Striped::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A permit, if nobody has to be waited for.
    pub(crate) fn try_acquire(&self) -> Option<Permit<'_>> {
        let permit = self.take()?;
        // One that was given back at this very moment may be on its way to those in line: then it goes there.
        (self.waiting.load(Ordering::SeqCst) == 0).then_some(permit)
    }

    fn take(&self) -> Option<Permit<'_>> {
        let mine = self.at_hand.mine();
        if take_one(mine) {
            return Some(Permit(self));
        }
        if let Ok(batch) = self.rest.try_acquire_many(BATCH) {
            let others = batch.num_permits() - 1;
            batch.forget();
            self.keep(mine, others);
        } else if let Ok(last) = self.rest.try_acquire() {
            last.forget();
        } else if !self.at_hand.all().any(take_one) {
            return None;
        }
        Some(Permit(self))
    }

    /// A permit. Callers who find none wait in line, in order.
    ///
    /// # Errors
    ///
    /// When it is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Who waits leaves the line.
    pub(crate) async fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
        if let Some(permit) = self.try_acquire() {
            return Ok(permit);
        }
        // Behind all who wait already.
        let _waiting = self.line_up();
        self.rest.acquire().await?.forget();
        Ok(Permit(self))
    }

    /// All of them, `permits` in number, once they are back.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub(crate) async fn acquire_all(&self, permits: u32) -> Result<All<'_>, AcquireError> {
        let waiting = self.line_up();
        Ok(All {
            _permits: self.rest.acquire_many(permits).await?,
            _waiting: waiting,
        })
    }

    /// There are no more from here on; those who wait are told.
    pub(crate) fn close(&self) {
        self.waiting.fetch_or(CLOSED, Ordering::SeqCst);
        drop(self.line_up());
        self.rest.close();
    }

    /// From here until the guard is dropped, what is given back goes to those in line.
    ///
    /// Who puts permits at hand looks afterwards whether anyone waits; who waits says so and then collects what is at hand.
    /// Whichever comes first, in the one order in which all see it, the permits get to the line.
    fn line_up(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        for at_hand in self.at_hand.all() {
            self.collect(at_hand);
        }
        Waiting(&self.waiting)
    }

    fn keep(&self, at_hand: &AtomicUsize, permits: usize) {
        let before = at_hand.fetch_add(permits, Ordering::SeqCst);
        if before >= 2 * BATCH as usize || self.waiting.load(Ordering::SeqCst) > 0 {
            self.collect(at_hand);
        }
    }

    fn collect(&self, at_hand: &AtomicUsize) {
        match at_hand.swap(0, Ordering::SeqCst) {
            0 => {}
            permits => self.rest.add_permits(permits),
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Self(permits) = self;
        permits.keep(permits.at_hand.mine(), 1);
    }
}

fn take_one(at_hand: &AtomicUsize) -> bool {
    let one_less = |kept: usize| kept.checked_sub(1);
    at_hand
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn runtime(threads: usize) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap()
    }

    /// Callers who take and give back on all threads, some at once and some in line, some of whom leave it.
    #[test]
    fn never_more_than_there_are_and_everybody_has_a_turn() {
        for permits in [1_usize, 3, 20, 100] {
            let runtime = runtime(4);
            let shared = Arc::new((Permits::new(permits), AtomicUsize::new(0)));
            let callers: Vec<_> = (0..40)
                .map(|caller| {
                    let shared = Arc::clone(&shared);
                    runtime.spawn(async move {
                        let (line, held) = &*shared;
                        for turn in 0..500 {
                            let permit = match (caller + turn) % 4 {
                                0 => line.try_acquire(),
                                1 => {
                                    let impatient = tokio::time::timeout(Duration::ZERO, line.acquire());
                                    impatient.await.ok().transpose().unwrap()
                                }
                                _ => Some(line.acquire().await.unwrap()),
                            };
                            let Some(permit) = permit else { continue };
                            assert!(held.fetch_add(1, Ordering::SeqCst) < permits);
                            if turn % 3 == 0 {
                                tokio::task::yield_now().await;
                            }
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    })
                })
                .collect();
            runtime.block_on(async {
                let all = async {
                    for caller in callers {
                        caller.await.unwrap();
                    }
                    // None was lost.
                    drop(shared.0.acquire_all(permits.try_into().unwrap()).await.unwrap());
                };
                tokio::time::timeout(Duration::from_secs(60), all)
                    .await
                    .expect("somebody waits for ever");
            });
        }
    }

    #[test]
    fn what_another_thread_has_at_hand_is_found() {
        let permits = Permits::new(1);
        drop(permits.try_acquire());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope
                    .spawn(|| drop(permits.try_acquire().unwrap()))
                    .join()
                    .unwrap();
            }
        });
    }

    #[test]
    fn closed_there_are_none_also_of_those_that_come_back() {
        let permits = Permits::new(3);
        let held = [permits.try_acquire().unwrap(), permits.try_acquire().unwrap()];
        permits.close();
        std::thread::scope(|scope| {
            for permit in held {
                scope.spawn(move || drop(permit));
            }
            for _ in 0..10_000 {
                assert!(permits.try_acquire().is_none());
            }
        });
        assert!(runtime(1).block_on(permits.acquire()).is_err());
    }
}
