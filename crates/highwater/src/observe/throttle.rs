//! A failover must not flood the log: an event of one kind is told at most once a second, with the
//! count of those that were not.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The least time between two events of one kind and node.
const PACE: Duration = Duration::from_secs(1);

/// Admits one event a second.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Whether an event may be told now: then with how many have not been told since the last one.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < PACE)
        {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_second_and_counted() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let mut told = Vec::new();
        for millis in 0..3_500_u64 {
            told.extend(throttle.admit(start + Duration::from_millis(millis)));
        }
        assert_eq!(told, [0, 999, 999, 999]);
    }
}
