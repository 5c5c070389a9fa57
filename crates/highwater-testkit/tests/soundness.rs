//! "Surely behind" against a model of what a replica really had applied: it never says too much.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use highwater_testkit::{Mark, Sample, Samples};
use proptest::prelude::*;

/// What a replica does in one millisecond.
#[derive(Clone, Copy, Debug)]
enum Step {
    Stays,
    Applies(u64),
    /// It is moved to a primary that is so far behind, and loads that one's data.
    Moves(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Stays),
        4 => (1..20_u64).prop_map(Step::Applies),
        1 => (1..60_u64).prop_map(Step::Moves),
    ]
}

/// An INFO that was sent at a millisecond, looked at the node so much later, and arrived so much later again.
type Info = (usize, usize, usize);

proptest! {
    #[test]
    fn it_never_says_too_much(
        steps in prop::collection::vec(step(), 80),
        pauses in prop::collection::vec((0..9_usize, 0..4_usize, 0..4_usize), 40),
    ) {
        // What it has applied, and from whom, at each millisecond.
        let (mut applied, mut source) = (100_u64, 7000_u16);
        let truth: Vec<(u64, u16)> = steps
            .iter()
            .map(|step| {
                match step {
                    Step::Stays => {}
                    Step::Applies(bytes) => applied += bytes,
                    Step::Moves(bytes) => {
                        applied = applied.saturating_sub(*bytes);
                        source += 1;
                    }
                }
                (applied, source)
            })
            .collect();
        let history = "a".repeat(40).parse().unwrap();
        let start = Instant::now();
        let at = |millis: usize| start + Duration::from_millis(millis as u64);
        let mut now = 0;
        let samples: Samples = pauses
            .iter()
            .map_while(|&(pause, there, back): &Info| {
                let sent = now + pause;
                let &(applied, source) = truth.get(sent + there)?;
                now = sent + there + back;
                Some(Sample {
                    sent_at: at(sent),
                    received_at: at(now),
                    applied: Mark::new(history, applied),
                    readable: true,
                    source: Some(source),
                })
            })
            .collect();
        for (millis, (applied, _)) in truth.iter().enumerate() {
            let had = Mark::new(history, *applied);
            prop_assert!(
                !samples.surely_behind(had, at(millis)),
                "at {millis} ms it had applied {applied}"
            );
        }
    }
}
