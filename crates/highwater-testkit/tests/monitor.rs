//! The monitor against real replicas.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use highwater_testkit::{Monitor, Topology, wait_until};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_paused_replica_is_surely_behind_and_the_other_is_not() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let monitor = Monitor::start(&topology).unwrap();
    topology.relay(0).pause();
    topology.primary().command(&["SET", "key", "value"]).unwrap();
    let mark = topology.primary().mark().unwrap();
    topology.wait_applied(1, mark, SOON).unwrap();
    // Samples can be far apart on a busy machine: until two are close enough to be sure.
    let mut behind = Instant::now();
    wait_until(SOON, "a sure word that replica 0 is behind", || {
        let samples = monitor.samples();
        let sampled = samples
            .iter()
            .all(|samples| samples.last().is_some_and(|last| last.sent_at >= behind));
        let sure = samples[0].surely_behind(mark, behind);
        if sampled && !sure {
            behind = Instant::now();
        }
        sampled && sure
    })
    .unwrap();
    topology.relay(0).resume();
    topology.wait_in_sync(SOON).unwrap();
    let level = Instant::now();
    wait_until(SOON, "a sample from after that", || {
        monitor.latest(0).is_some_and(|sample| sample.sent_at >= level)
    })
    .unwrap();
    let samples = monitor.stop();
    assert_eq!(samples.len(), 2);
    assert!(samples[0].surely_behind(mark, behind));
    assert!(!samples[1].surely_behind(mark, behind));
    assert!(!samples[0].surely_behind(mark, level));
    assert!(
        samples[0]
            .iter()
            .all(|sample| sample.sent_at <= sample.received_at)
    );
}

#[test]
fn it_outlives_frozen_and_restarted_servers() {
    let topology = Topology::builder().replicas(2).start().unwrap();
    let monitor = Monitor::builder()
        .interval(Duration::from_micros(200))
        .watch(topology.replicas())
        .unwrap();
    topology.replica(0).pause().unwrap();
    topology.replica(1).restart().unwrap();
    let restarted = Instant::now();
    topology
        .wait_applied(1, topology.primary().mark().unwrap(), SOON)
        .unwrap();
    topology.replica(0).resume().unwrap();
    topology.wait_in_sync(SOON).unwrap();
    wait_until(SOON, "both are sampled again", || {
        (0..2).all(|index| {
            monitor
                .latest(index)
                .is_some_and(|sample| sample.sent_at > restarted)
        })
    })
    .unwrap();
    assert_eq!(monitor.stop().len(), 2);
}
