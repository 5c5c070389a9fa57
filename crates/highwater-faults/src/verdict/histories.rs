//! When histories began, by what the nodes said of themselves all the time.

use std::collections::{HashMap, HashSet};

use highwater_testkit::{ReplicationId, Samples};

use crate::clock::{Epoch, Nanos};

/// A history that was not there from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// It began after this.
    pub(crate) after: Nanos,
    /// It was seen then.
    pub(crate) seen: Nanos,
    /// A replica began it, and became a primary by that. Else it was a primary that was started again.
    pub(crate) promotion: bool,
}

/// The histories that primaries have begun, in order.
pub(crate) fn begun(nodes: &[Samples], epoch: Epoch) -> Vec<Begun> {
    let first = |samples: &Samples| samples.iter().next().map(|sample| sample.applied.history);
    let initial: HashSet<ReplicationId> = nodes.iter().filter_map(first).collect();
    let mut begun: HashMap<ReplicationId, Begun> = HashMap::new();
    for samples in nodes {
        for (before, now) in samples.iter().zip(samples.iter().skip(1)) {
            let history = now.applied.history;
            if now.source.is_some() || initial.contains(&history) {
                continue;
            }
            let new = Begun {
                after: epoch.nanos(before.sent_at),
                seen: epoch.nanos(now.received_at),
                promotion: before.source.is_some(),
            };
            let known = begun.entry(history).or_insert(new);
            if new.seen < known.seen {
                *known = new;
            }
        }
    }
    let mut begun: Vec<Begun> = begun.into_values().collect();
    begun.sort_unstable_by_key(|begun| begun.seen);
    begun
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use highwater_testkit::{Mark, Sample};

    use super::*;

    #[test]
    fn a_promotion_is_told_from_a_restart() {
        let epoch = Epoch::new();
        let start = Instant::now();
        let sample = |at: u64, history: &str, source: Option<u16>| {
            let sent_at = start + Duration::from_millis(at);
            Sample {
                sent_at,
                received_at: sent_at + Duration::from_millis(1),
                applied: Mark::new(history.repeat(40).parse().unwrap(), 5),
                readable: true,
                source,
            }
        };
        let restarted: Samples = [
            sample(0, "a", None),
            sample(10, "a", None),
            sample(20, "c", None),
            sample(30, "c", None),
        ]
        .into_iter()
        .collect();
        let promoted: Samples = [
            sample(0, "a", Some(1)),
            sample(50, "b", None),
            sample(60, "b", None),
        ]
        .into_iter()
        .collect();
        let follows: Samples = [sample(0, "a", Some(1)), sample(70, "b", Some(2))]
            .into_iter()
            .collect();
        let at = |millis| epoch.nanos(start + Duration::from_millis(millis));
        assert_eq!(
            begun(&[restarted, promoted, follows], epoch),
            [
                Begun {
                    after: at(10),
                    seen: at(21),
                    promotion: false
                },
                Begun {
                    after: at(0),
                    seen: at(51),
                    promotion: true
                },
            ]
        );
    }
}
