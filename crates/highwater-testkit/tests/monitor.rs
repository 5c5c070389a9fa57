//! The monitor against real replicas.
#![allow(clippy::unwrap_used, reason = "tests")]

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
    let behind = Instant::now();
    let sampled_after = |index, instant| {
        monitor
            .latest(index)
            .is_some_and(|sample| sample.sent_at >= instant)
    };
    wait_until(SOON, "samples from after that", || {
        sampled_after(0, behind) && sampled_after(1, behind)
    })
    .unwrap();
    topology.relay(0).resume();
    topology.wait_in_sync(SOON).unwrap();
    let level = Instant::now();
    wait_until(SOON, "a sample from after that", || sampled_after(0, level)).unwrap();
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
