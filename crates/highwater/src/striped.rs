//! Counters that many threads count at once: each has one of its own, and who wants to know adds them up. A count that
//! two processors write in turn costs each of them a cache miss.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// More threads than this share.
const STRIPES: usize = 8;

/// Several of a kind, each in cache lines of its own.
#[derive(Debug, Default)]
pub(crate) struct Striped<T>([Line<T>; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> Striped<T> {
    /// The one that this thread counts on.
    pub(crate) fn mine(&self) -> &T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        let place = PLACE.try_with(|place| {
            if place.get() == usize::MAX {
                place.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
            }
            place.get()
        });
        // The thread may be about to end.
        let [first, ..] = &self.0;
        &self.0.get(place.unwrap_or_default()).unwrap_or(first).0
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_threads_counts_are_in_the_sum() {
        let counters = Striped::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * STRIPES {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counters.mine().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let sum: u64 = counters.all().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 24_000);
        assert!(std::ptr::eq(counters.mine(), counters.mine()));
    }
}
